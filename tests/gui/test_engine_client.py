"""The engine process as the window sees it: frames, deaths, restarts and a cancel nobody hears."""

import os
import signal
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot

from featherweight.engine.events import (
    PROTOCOL,
    Cancelled,
    Described,
    JobStarted,
    Opened,
    Ready,
    Source,
    Started,
    TaskReady,
    TaskSource,
)
from featherweight.engine.recipe import Recipe
from featherweight.engine.requests import Compress, DescribeLayer, OpenNetwork, SetTask
from featherweight.engine.trainings import DEVICE_VARIABLE
from featherweight.gui.engine_client import EngineClient, FrameBuffer

Connect = Callable[..., EngineClient]


class Heard:
    """Keeps what a client said."""

    def __init__(self, client: EngineClient) -> None:
        self.events: list[object] = []
        self.deaths: list[tuple[str, str, str]] = []
        client.received.connect(self.events.append)
        client.died.connect(lambda *words: self.deaths.append(words))

    def of(self, kind: type) -> list[object]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def talk(connect: Connect, stand_in: tuple[str, ...], qtbot: QtBot) -> tuple[EngineClient, Heard]:
    """Return a client whose process is ready, and what it says."""
    client = connect((*stand_in, str(PROTOCOL)))
    heard = Heard(client)
    qtbot.waitUntil(lambda: bool(heard.of(Ready)))
    return client, heard


def job(name: str) -> Compress:
    return Compress(id=0, recipe=Recipe(), name=name, folder="")


@given(st.lists(st.binary(max_size=300)), st.integers(1, 64))
def test_that_frames_come_out_whole_however_the_bytes_are_cut(
    bodies: list[bytes], piece: int
) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    buffer = FrameBuffer()
    out: list[bytes] = []
    for start in range(0, len(stream), piece):
        out += buffer.feed(stream[start : start + piece])
    assert out == bodies


def test_that_a_frame_too_large_for_any_message_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than any message"):
        FrameBuffer().feed(b"\xff\xff\xff\xff")


def test_that_answers_carry_the_identity_of_their_question(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, heard = talk
    asked = [client.send(DescribeLayer(id=0, layer=name)) for name in ("a", "b")]
    qtbot.waitUntil(lambda: len(heard.of(Described)) == 2)
    answers = [event for event in heard.events if isinstance(event, Described)]
    assert [(event.id, event.details.name) for event in answers] == list(
        zip(asked, ("a", "b"), strict=True)
    )


def test_that_requests_sent_before_the_start_are_answered_after_it(
    stand_in: tuple[str, ...], qtbot: QtBot
) -> None:
    client = EngineClient((*stand_in, str(PROTOCOL)))
    heard = Heard(client)
    client.send(DescribeLayer(id=0, layer="early"))
    client.start()
    qtbot.waitUntil(lambda: len(heard.of(Described)) == 1)
    client.close()
    assert not client.running


def test_that_what_the_engine_prints_reaches_the_log(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, _ = talk
    printed: list[str] = []
    client.log.connect(printed.append)
    client.send(OpenNetwork(id=0, source=Source(path="a")))
    qtbot.waitUntil(lambda: "".join(printed) == "OpenNetwork\n")


@pytest.mark.parametrize(("cuda", "told"), [(True, "cuda."), (False, "unsaid.")])
def test_that_a_process_learns_where_to_train_when_it_starts(
    qtbot: QtBot, cuda: bool, told: str
) -> None:
    tell = f"import os, sys; sys.stderr.write(os.environ.get({DEVICE_VARIABLE!r}, 'unsaid') + '.')"
    client = EngineClient((sys.executable, "-c", tell))
    printed: list[str] = []
    client.log.connect(printed.append)
    client.use(cuda)
    client.start()
    # It ends at once, and is started again twice.
    qtbot.waitUntil(lambda: "".join(printed) == 3 * told)
    client.close()


def test_that_a_killed_engine_starts_again_with_network_and_task(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, heard = talk
    client.send(OpenNetwork(id=0, source=Source(path="net.pt")))
    client.send(SetTask(id=0, task=TaskSource(data="data.npz")))
    qtbot.waitUntil(lambda: bool(heard.of(TaskReady)))
    client.died.connect(lambda: client.send(DescribeLayer(id=0, layer="asked again")))
    os.kill(client.process_id, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(heard.of(Described)))
    assert [type(event).__name__ for event in heard.events if type(event) is not Started] == [
        *("Ready", "Opened", "TaskReady"),
        *("Ready", "Opened", "TaskReady", "Described"),
    ]
    ((sentence, hint, log),) = heard.deaths
    assert sentence == "The engine stopped unexpectedly (SIGKILL)."
    assert hint == "It was started again; your choices are kept."
    assert log == "OpenNetwork\nSetTask\n"


def test_that_an_engine_which_dies_of_every_start_is_given_up(
    connect: Connect, qtbot: QtBot
) -> None:
    client = connect((sys.executable, "-c", "raise SystemExit('no such accelerator')"))
    heard = Heard(client)
    qtbot.waitUntil(lambda: len(heard.deaths) == 3)
    assert not client.running
    assert heard.deaths[-1][1].startswith("Restart it from the Run menu")
    assert "no such accelerator" in heard.deaths[-1][2]


def test_that_a_network_which_kills_its_engine_is_not_opened_again(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, heard = talk
    client.send(OpenNetwork(id=0, source=Source(path="fatal")))
    qtbot.waitUntil(lambda: len(heard.of(Ready)) == 2)
    client.send(DescribeLayer(id=0, layer="a"))
    qtbot.waitUntil(lambda: bool(heard.of(Described)))
    assert len(heard.deaths) == 1
    assert heard.of(Opened) == []


def test_that_a_missing_engine_is_named_in_one_sentence(qtbot: QtBot) -> None:
    client = EngineClient(("no-such-program",))
    heard = Heard(client)
    with qtbot.waitSignal(client.died):
        client.start()
    assert heard.deaths[0][0] == "The engine cannot be started: no-such-program does not run."
    assert not client.running


def test_that_a_cancelled_job_ends_without_ending_the_engine(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, heard = talk
    process = client.process_id
    request = client.send(job("obedient"))
    qtbot.waitUntil(lambda: bool(heard.of(JobStarted)))
    client.cancel(request)
    qtbot.waitUntil(lambda: bool(heard.of(Cancelled)))
    assert client.process_id == process
    assert heard.deaths == []


def test_that_an_engine_deaf_to_a_cancel_is_replaced(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, heard = talk
    process = client.process_id
    request = client.send(job("deaf"))
    qtbot.waitUntil(lambda: bool(heard.of(JobStarted)))
    client.cancel(request)
    qtbot.waitUntil(lambda: len(heard.of(Ready)) == 2)
    assert client.process_id != process
    assert heard.deaths[0][0] == "The run did not stop in time, so the engine was ended."


def test_that_an_engine_of_another_protocol_is_refused(
    connect: Connect, stand_in: tuple[str, ...], qtbot: QtBot
) -> None:
    client = connect((*stand_in, "999"))
    heard = Heard(client)
    qtbot.waitUntil(lambda: bool(heard.deaths))
    assert "version 999 of the protocol" in heard.deaths[0][0]
    assert not client.running
    assert heard.events == []


def test_that_garbage_on_the_stream_replaces_the_engine(
    talk: tuple[EngineClient, Heard], qtbot: QtBot
) -> None:
    client, heard = talk
    client.send(DescribeLayer(id=0, layer="garbage"))
    qtbot.waitUntil(lambda: len(heard.of(Ready)) == 2)
    assert heard.deaths[0][0].startswith("The engine sent what is not a message")


def test_that_closing_ends_the_process(talk: tuple[EngineClient, Heard]) -> None:
    client, heard = talk
    process = client.process_id
    client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert heard.deaths == []
