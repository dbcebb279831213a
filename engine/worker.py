"""The engine process: requests come in on stdin, events go out on stdout, jobs run on threads.

One lane runs what takes long and changes what is open, one answers quick questions, so that the
inspector stays alive while a job runs. What may take a second and is asked again and again
(strengths, frontiers, losses) is answered beside both, each on a thread that ends once a newer one
is asked for. What anything prints goes to stderr and cannot corrupt the stream. The process ends
when stdin does.
"""

import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from featherweight.engine.errors import CancelledError, TrustNeededError, UserError
from featherweight.engine.events import (
    Allocated,
    Cancelled,
    Compressed,
    Described,
    Event,
    Exported,
    Failed,
    FlipsFound,
    FrontierTraced,
    GuiltyFound,
    LatencyMeasured,
    LearningRateFound,
    LossPredicted,
    Opened,
    Predicted,
    ReadingsTaken,
    Ready,
    SamplesShown,
    SensitivityEstimated,
    Started,
    StrengthTraced,
    SweepEnded,
    SweepPlanned,
    TaskReady,
    TraceEnded,
    TrustNeeded,
    frame,
    read_frame,
)
from featherweight.engine.jobs import Job
from featherweight.engine.options import Slot
from featherweight.engine.readings import Reading
from featherweight.engine.recipe import Recipe
from featherweight.engine.requests import (
    Allocate,
    AnyRequest,
    Cancel,
    Compress,
    DescribeLayer,
    EstimateSensitivity,
    ExportResult,
    FindFlips,
    FindGuilty,
    FindLearningRate,
    Finish,
    MeasureLatency,
    OpenNetwork,
    PlanSweep,
    Predict,
    PredictLoss,
    RefineAllocation,
    SetTask,
    ShowSamples,
    Sweep,
    TraceFrontier,
    TraceStrength,
)
from featherweight.engine.results import StrengthTrace

if TYPE_CHECKING:
    from featherweight.engine.atlas.sensitivity import SensitivityReport
    from featherweight.engine.inspecting.latency import LatencyReport

QUICK = (Allocate, DescribeLayer, PlanSweep, Predict, ShowSamples)
# Of each of these only the newest is answered.
NEWEST = (PredictLoss, TraceFrontier, TraceStrength)
# These measure times, which nothing else that computes should lengthen.
TIMING = (MeasureLatency, ExportResult)


class Worker:
    """Runs requests against one Session and writes events to a stream."""

    def __init__(self, events: BinaryIO) -> None:
        self._events = events
        self._writing = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._long: queue.SimpleQueue[AnyRequest] = queue.SimpleQueue()
        self._newest: dict[type, Job] = {}
        self._quick: queue.SimpleQueue[AnyRequest] = queue.SimpleQueue()

    def start(self) -> None:
        """Say that the process runs, import what is slow to import, and open both lanes."""
        self.emit(Started(pid=os.getpid()))
        from featherweight.engine.session import Session

        self._session = Session()
        for lane in (self._long, self._quick):
            threading.Thread(target=self._serve, args=(lane,), daemon=True).start()
        self.emit(Ready(methods=self._session.methods()))

    def take(self, request: AnyRequest) -> None:
        """Queue a request; a cancel, or a finish, acts at once."""
        if isinstance(request, Cancel | Finish):
            job = self._jobs.get(request.job)
            if job is not None:
                (job.cancel if isinstance(request, Cancel) else job.finish)()
            return
        if isinstance(request, QUICK):
            self._quick.put(request)
            return
        if isinstance(request, NEWEST):
            self._take_newest(request)
            return
        if isinstance(request, TIMING) and TraceStrength in self._newest:
            self._newest[TraceStrength].cancel()
        self._jobs[request.id] = Job(self.emit, request.id)
        self._long.put(request)

    def _take_newest(self, request: AnyRequest) -> None:
        if type(request) in self._newest:
            self._newest[type(request)].cancel()
        job = self._newest[type(request)] = self._jobs[request.id] = Job(id=request.id)

        def serve() -> None:
            self.emit(self._answered(request, job))
            self._jobs.pop(request.id, None)

        # An older one may be in a computation that cannot be stopped, and nobody waits for it.
        threading.Thread(target=serve, daemon=True).start()

    def emit(self, event: Event) -> None:
        """Write one event; whole frames only, whichever thread speaks."""
        with self._writing:
            self._events.write(frame(event))
            self._events.flush()

    def _serve(self, lane: "queue.SimpleQueue[AnyRequest]") -> None:
        while True:
            request = lane.get()
            self.emit(self._answered(request, self._jobs.get(request.id) or Job()))
            self._jobs.pop(request.id, None)

    def _answered(self, request: AnyRequest, job: Job) -> Event:
        try:
            return self._answer(request, job)
        except TrustNeededError as error:
            return TrustNeeded(id=request.id, path=error.path, names=error.names, why=error.why)
        except UserError as error:
            return Failed(id=request.id, message=error.message, hint=error.hint)
        except CancelledError:
            return Cancelled(id=request.id, step=job.step)
        except SystemExit as error:
            message = f"The code of the network or its data ended the program (exit {error.code})."
            return Failed(id=request.id, message=message, hint="Take the exit out of that code.")
        except Exception as error:  # the boundary: whatever a job raises must reach the window
            message = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            details = traceback.format_exc()
            hint = "This is a fault of Featherweight; the details help to mend it."
            return Failed(id=request.id, message=message, hint=hint, details=details)

    def _answer(self, request: AnyRequest, job: Job) -> Event:
        session, identity = self._session, request.id
        match request:
            case OpenNetwork(source=source):
                return Opened(id=identity, network=session.open(source))
            case SetTask(task=task):
                return TaskReady(id=identity, task=session.set_task(task))
            case MeasureLatency():
                return _latency_event(identity, session.measure_latency(job))
            case EstimateSensitivity():
                return _sensitivity_event(identity, session.estimate_sensitivity(job))
            case DescribeLayer(layer=layer):
                return Described(id=identity, details=session.details(layer))
            case Predict(recipe=recipe, layers=names):
                return Predicted(id=identity, prediction=session.predict(recipe, names))
            case TraceStrength(recipe=recipe, layers=names, slot=slot):
                self._trace_strength(recipe, names, slot, job)
                return TraceEnded(id=identity)
            case PlanSweep(plan=plan, store=store):
                found, estimate = session.plan_sweep(plan, store)
                return SweepPlanned(id=identity, plan=found, estimate=estimate)
            case Sweep(plan=plan, store=store):
                summary = session.sweep(plan, store, job, self._tell_readings(job))
                return SweepEnded(id=identity, summary=summary)
            case Allocate(limits=limits, rules=rules, least=least):
                allocation = session.allocate(limits, rules, least)
                return Allocated(id=identity, allocation=allocation)
            case TraceFrontier(resource=resource, rules=rules):
                return FrontierTraced(id=identity, frontier=session.frontier(resource, rules, job))
            case PredictLoss(recipe=recipe):
                return LossPredicted(id=identity, loss=session.predict_loss(recipe, job))
            case RefineAllocation(limits=limits, rules=rules, least=least):
                refined = session.refine_allocation(limits, rules, job, least)
                return Allocated(id=identity, allocation=refined)
            case FindGuilty(recipe=recipe):
                return GuiltyFound(id=identity, layers=session.find_guilty(recipe, job))
            case Compress(recipe=recipe, name=name, folder=folder):
                return Compressed(id=identity, result=session.compress(recipe, name, folder, job))
            case FindLearningRate(recipe=recipe):
                points, rate = session.find_learning_rate(recipe, job)
                return LearningRateFound(id=identity, points=tuple(points), suggestion=rate)
            case FindFlips(after=after, before=before):
                report = session.find_flips(after, before, job)
                return FlipsFound(id=identity, flips=report.flips, of=report.of)
            case ShowSamples(samples=samples):
                return SamplesShown(id=identity, pictures=session.pictures(samples))
            case ExportResult(archive=archive, format=kind, path=path, integers=integers):
                export = session.export(archive, kind, path, job, integers)
                return Exported(id=identity, export=export)
        raise UserError(f"the engine does not know {type(request).__name__}")

    def _tell_readings(self, job: Job) -> Callable[[tuple[Reading, ...]], None]:
        return lambda readings: self.emit(ReadingsTaken(id=job.id, readings=readings))

    def _trace_strength(self, recipe: Recipe, names: tuple[str, ...], slot: Slot, job: Job) -> None:
        def tell(trace: StrengthTrace) -> None:
            job.check()
            self.emit(StrengthTraced(id=job.id, trace=trace))

        self._session.trace_strength(recipe, names, slot, job, tell)


def _latency_event(identity: int, report: "LatencyReport") -> LatencyMeasured:
    layers = {name: figure.value for name, figure in report.layers.items()}
    return LatencyMeasured(id=identity, layers=layers, total=report.total.value, batch=report.batch)


def _sensitivity_event(identity: int, report: "SensitivityReport") -> SensitivityEstimated:
    return SensitivityEstimated(
        id=identity,
        layers={name: figure.value for name, figure in report.layers.items()},
        reasons=report.reasons,
        loss=report.loss,
        samples=report.samples,
    )


def serve(requests: BinaryIO, events: BinaryIO) -> None:
    """Answer requests until the stream of them ends."""
    worker = Worker(events)
    worker.start()
    decoder = msgspec.msgpack.Decoder(AnyRequest)
    while (body := read_frame(requests)) is not None:
        try:
            request = decoder.decode(body)
        except msgspec.MsgspecError as error:
            worker.emit(Failed(message=f"A request could not be understood: {error}."))
            continue
        worker.take(request)


def main() -> int:
    """Serve stdin and stdout until stdin ends; then leave at once, whatever still runs."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, events)
    os._exit(0)


if __name__ == "__main__":
    main()
