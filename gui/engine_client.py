"""The engine process as the window sees it: requests go in, events come out as signals."""

import codecs
import itertools
import signal
import sys
from typing import Literal

import msgspec
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from featherweight.engine.events import (
    LARGEST_FRAME,
    PROTOCOL,
    AnyEvent,
    Failed,
    JobStarted,
    Opened,
    Point,
    Progress,
    Ready,
    Started,
    TaskReady,
    frame,
)
from featherweight.engine.requests import (
    AnyRequest,
    Cancel,
    DescribeLayer,
    Finish,
    OpenNetwork,
    Predict,
    SetTask,
)
from featherweight.engine.trainings import DEVICE_VARIABLE

LOCAL_ENGINE = (sys.executable, "-m", "featherweight.engine.worker")
CANCEL_SECONDS = 1.5
CLOSE_SECONDS = 2.0
ATTEMPTS = 3
LOG_TAIL = 4000
QUESTIONS = (Predict, DescribeLayer)
PUT_BACK = "Put the file back, then restart the engine from the Run menu; your choices are kept."
UNDER_WAY = (JobStarted, Progress, Point, Started, Ready)


class FrameBuffer:
    """Bytes as they come in, cut into the bodies of whole frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and return the frames that are now whole. Raises ValueError for nonsense."""
        self._bytes += data
        bodies = []
        while len(self._bytes) >= 4:
            size = int.from_bytes(self._bytes[:4], "big")
            if size > LARGEST_FRAME:
                raise ValueError(f"a frame of {size} bytes is larger than any message")
            if len(self._bytes) < 4 + size:
                break
            bodies.append(bytes(self._bytes[4 : 4 + size]))
            del self._bytes[: 4 + size]
        return bodies


class EngineClient(QObject):
    """Starts the engine process, speaks its frames, and starts it again when it dies.

    A new process is told the network and task that the old one had open. What was under way when
    it died is lost, and `died` says so: whoever asked may ask again at once, before the restart.
    """

    received = Signal(object)  # an event of engine.events
    died = Signal(str, str, str)  # one sentence, what now, and the end of what it printed
    log = Signal(str)  # what the engine printed
    state_changed = Signal()  # see `state`

    def __init__(
        self, command: tuple[str, ...] = LOCAL_ENGINE, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._command = command
        self._identities = itertools.count(1)
        self._decoder = msgspec.msgpack.Decoder(AnyEvent)
        self._process: QProcess | None = None
        self._waiting: dict[int, AnyRequest] = {}
        self._held: list[AnyRequest] | None = []
        self._replayed = 0
        self._lost = False
        self._warm = False
        self._opened: OpenNetwork | None = None
        self._task: SetTask | None = None
        self._failed_starts = 0
        self._verdict = ""
        self._tail = ""
        self._cancelled = 0
        self._cuda = False
        self._patience = QTimer(self, singleShot=True, interval=int(CANCEL_SECONDS * 1000))
        self._patience.timeout.connect(self._on_patience_lost)

    @property
    def running(self) -> bool:
        """Whether there is a process, warm or not."""
        return self._process is not None

    @property
    def state(self) -> Literal["stopped", "starting", "ready"]:
        """Whether there is a process, and whether it is warm."""
        return "stopped" if self._process is None else "ready" if self._warm else "starting"

    @property
    def process_id(self) -> int:
        """The process, 0 where none runs."""
        return self._process.processId() if self._process else 0

    def start(self) -> None:
        """Start the process, or start it once more after it was given up."""
        if self._process is not None:
            return
        self._buffer = FrameBuffer()
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = self._verdict = ""
        process = QProcess(self)
        process.readyReadStandardOutput.connect(self._on_output)
        process.readyReadStandardError.connect(self._on_log)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        if self._cuda:
            environment = QProcessEnvironment.systemEnvironment()
            environment.insert(DEVICE_VARIABLE, "cuda")
            process.setProcessEnvironment(environment)
        self._process = process
        process.start(self._command[0], list(self._command[1:]))
        self._replay()
        self.state_changed.emit()

    def send(self, request: AnyRequest) -> int:
        """Send a request under a new id, which is returned.

        It is kept while there is no process, and while a new one still opens the old network.
        """
        request = self._known(request)
        if self._held is None:
            self._write(request)
        else:
            self._held.append(request)
        return request.id

    def cancel(self, job: int) -> None:
        """Ask a job to stop; a process that does not obey in time is ended and started again."""
        self._write(Cancel(id=next(self._identities), job=job))
        self._cancelled = job
        self._patience.start()

    def finish(self, job: int) -> None:
        """Ask the training of a job to end with what it has; the job goes on from there."""
        self._write(Finish(id=next(self._identities), job=job))

    def use(self, cuda: bool) -> None:
        """Let processes from now on train on CUDA, or where the variable of this one says."""
        self._cuda = cuda

    def restart(self) -> None:
        """End the process, if there is one, and start another."""
        self._failed_starts = 0
        if self._process is None:
            self.start()
        else:
            self._end("The engine was restarted.")

    def close(self) -> None:
        """End the process for good: politely first, for at most two seconds."""
        self._patience.stop()
        process, self._process = self._process, None
        if process is None:
            return
        process.blockSignals(True)
        self._held = []
        process.closeWriteChannel()
        if not self._warm or not process.waitForFinished(int(CLOSE_SECONDS * 1000)):
            process.kill()
            process.waitForFinished()
        process.deleteLater()

    def _known(self, request: AnyRequest) -> AnyRequest:
        request = msgspec.structs.replace(request, id=next(self._identities))
        self._waiting[request.id] = request
        return request

    def _replay(self) -> None:
        self._replayed, self._lost = 0, False
        if self._opened is None:
            self._release()
            return
        opening = self._known(self._opened)
        self._replayed = opening.id
        self._write(opening)

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for request in held:
            self._write(request)

    def _write(self, request: AnyRequest) -> None:
        # Without its network a process can answer nothing of it, and that was said once.
        if self._process is not None and not (self._lost and isinstance(request, QUESTIONS)):
            self._process.write(frame(request))

    def _end(self, verdict: str) -> None:
        self._verdict = verdict
        if self._process is not None:
            self._process.kill()

    def _on_output(self) -> None:
        if self._process is None or self._verdict:
            return
        try:
            for body in self._buffer.feed(bytes(self._process.readAllStandardOutput().data())):
                if not self._verdict:
                    self._take(self._decoder.decode(body))
        except (ValueError, msgspec.DecodeError) as error:
            self._end(f"The engine sent what is not a message ({error}).")

    def _take(self, event: AnyEvent) -> None:
        if isinstance(event, Started) and event.protocol != PROTOCOL:
            self._failed_starts = ATTEMPTS
            self._end(
                f"The engine speaks version {event.protocol} of the protocol and this window"
                f" version {PROTOCOL}: install the same release on both sides."
            )
            return
        if isinstance(event, Ready):
            self._warm = True
            self.state_changed.emit()
        if not isinstance(event, UNDER_WAY):
            self._settle(event)
        replayed = bool(self._replayed) and event.id == self._replayed
        if replayed and isinstance(event, Failed):
            self._lost = True
            event = msgspec.structs.replace(event, hint=PUT_BACK)
        self.received.emit(event)
        if replayed:
            self._replayed = 0
            if self._task is not None and not self._lost:
                self._write(self._known(self._task))
            self._release()

    def _settle(self, event: AnyEvent) -> None:
        request = self._waiting.pop(event.id, None)
        if request is not None:
            self._failed_starts = 0
        if isinstance(event, Opened) and isinstance(request, OpenNetwork):
            if self._opened is None or request.source != self._opened.source:
                self._task = None
            self._opened, self._lost = request, False
        elif isinstance(event, TaskReady) and isinstance(request, SetTask):
            self._task = request
        if self._patience.isActive() and event.id == self._cancelled:
            self._patience.stop()

    def _on_log(self) -> None:
        if self._process is None:
            return
        text = self._text.decode(self._process.readAllStandardError().data())
        self._tail = (self._tail + text)[-LOG_TAIL:]
        self.log.emit(text)

    def _on_patience_lost(self) -> None:
        self._end("The run did not stop in time, so the engine was ended.")

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._failed_starts = ATTEMPTS
            self._bury(f"The engine cannot be started: {self._command[0]} does not run.")

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._on_output()
        self._on_log()
        self._failed_starts += 1
        self._bury(self._verdict or f"The engine stopped unexpectedly ({_cause(code, status)}).")

    def _bury(self, sentence: str) -> None:
        self._patience.stop()
        if self._process is not None:
            self._process.deleteLater()
        self._process = None
        self._warm = False
        self._waiting.clear()
        self._held = []
        self.state_changed.emit()
        again = self._failed_starts < ATTEMPTS
        now = "It was started again" if again else "Restart it from the Run menu"
        self.died.emit(sentence, f"{now}; your choices are kept.", self._tail)
        if again:
            self.start()


def _cause(code: int, status: QProcess.ExitStatus) -> str:
    if status != QProcess.ExitStatus.CrashExit:
        return f"exit status {code}"
    try:
        return signal.Signals(code).name
    except ValueError:
        return "it crashed"
