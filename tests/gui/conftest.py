"""Fixtures of the window's tests: a folder of its own, and a small process to talk to."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from featherweight.engine.events import PROTOCOL
from featherweight.gui.document import Document
from featherweight.gui.engine_client import LOCAL_ENGINE, EngineClient
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

Kind = Literal["integer", "number", "choice", "switch"]
STAND_IN = """
import os, sys, time
from featherweight.engine.events import *
from featherweight.engine.requests import *
from featherweight.engine.layer import Histogram, Layer, LayerDetails, NetworkSummary
from featherweight.engine.readings import *
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Cost, Prediction
import msgspec

def say(event, pieces=1):
    data = frame(event)
    for start in range(0, len(data), -(-len(data) // pieces)):
        sys.stdout.buffer.write(data[start : start + -(-len(data) // pieces)])
        sys.stdout.buffer.flush()

def summary(path):
    names = ("a", "b", "c") if path.endswith("three.pt") else ()
    layers = tuple(Layer(name=name, kind="Linear", summary="", weights={}, parameters=1000,
                         macs=1000, activations=1, bits=32000, input_shape=(), output_shape=())
                   for name in names)
    return NetworkSummary(path=path, format="test", layers=layers, parameters=0, macs=0,
                          input_shapes=(), output_shapes=(), file_bytes=0)

def cost(recipe):
    bits = [recipe.choice(name).precision for name in "abc"]
    bits = [1000 * (setting.options["bits"] if setting else 32) for setting in bits]
    return Cost(parameters=3000, macs=3000, bits=sum(bits))

def allocation(limits, rules, measured=False):
    # Every layer gets the same bits, and each bit that is missing loses a tenth of a point.
    free = [name for name in "abc" if name not in rules.fixed and name not in rules.excluded]
    for bits in (32, 16, 8, 4) if limits.drop is None else (4, 8, 16, 32):
        given = {} if bits == 32 else dict.fromkeys(
            free, Choice(precision=Setting("integer", {"bits": bits})))
        recipe = Recipe(layers={**rules.fixed, **given})
        drop = (32 - bits) / 10
        if cost(recipe).bits <= (limits.bits or 1e9) and drop <= (limits.drop or 100):
            return Allocation(recipe=recipe, damage=drop / 100, cost=cost(recipe),
                              drop=Spread(drop, 0.3), measured=measured)
    raise ValueError

def frontier(resource, rules):
    points = []
    for bits in (4000, 8000, 16000, 32000):
        found = allocation(Limits(bits=float(3 * bits)), AllocationRules())
        points.append(FrontierPoint(3.0 * bits, found.damage, found.drop.value, 0.3))
    return Frontier(resource=resource, points=tuple(points), source=96000.0, metric="top1",
                    basis="measured")

def read(name, bits):
    return Reading(layers=(name,), choice=Choice(precision=Setting("integer", {"bits": bits})),
                   basis="measured", samples=10, damage=Spread((32 - bits) / 3000, 0.0))

say(Started(protocol=int(sys.argv[1]), pid=os.getpid()))
say(Ready(methods=()))
decoder = msgspec.msgpack.Decoder(AnyRequest)
while (body := read_frame(sys.stdin.buffer)) is not None:
    asked = decoder.decode(body)
    print(type(asked).__name__, file=sys.stderr, flush=True)
    match asked:
        case OpenNetwork(source=Source(path="fatal")):
            os.abort()
        case OpenNetwork(source=Source(path=path)) if path.startswith("/elsewhere"):
            say(Failed(id=asked.id, message="It cannot be read.", hint="Try --input 1x8."))
        case OpenNetwork(source=source):
            opened = source.path
            say(Opened(id=asked.id, network=summary(opened)))
        case SetTask(task=task):
            say(TaskReady(id=asked.id, task=TaskSummary(source=task, recovery_samples=0,
                measure_samples=0, classes=0, metrics=())))
        case DescribeLayer(layer="garbage"):
            sys.stdout.buffer.write(b"\\xff" * 8)
            sys.stdout.buffer.flush()
        case DescribeLayer(layer=name):
            say(Described(id=asked.id, details=LayerDetails(name=name, mean=0, deviation=0,
                minimum=0, maximum=0, zeros=0, histogram=Histogram((), ()), spectrum=())), 50)
        case Compress():
            deaf = asked.name == "deaf"
            say(JobStarted(id=asked.id, steps=10))
        case Sweep():
            say(ReadingsTaken(id=asked.id, readings=tuple(
                read(name, bits) for name in "abc" for bits in (16, 8, 4))))
            say(SweepEnded(id=asked.id, summary=SweepSummary(readings=9, known=0, failed=0,
                samples=10, damage="divergence", metric="top1")))
        case Predict(recipe=recipe) if opened.endswith("three.pt"):
            say(Predicted(id=asked.id, prediction=Prediction(layers={}, before=cost(Recipe()),
                after=cost(recipe), exact=True)))
        case TraceFrontier(resource="latency"):
            say(Failed(id=asked.id, message="No layer was timed.", hint="Time them."))
        case TraceFrontier(resource="macs"):
            say(FrontierTraced(id=asked.id, frontier=Frontier(resource="macs", source=0.0,
                points=(FrontierPoint(0.0, 0.0, 0.0),), metric="top1", basis="measured")))
        case TraceFrontier(resource=resource, rules=rules):
            say(FrontierTraced(id=asked.id, frontier=frontier(resource, rules)))
        case PredictLoss(recipe=recipe):
            bits = [c.precision.options["bits"] for c in recipe.layers.values() if c.precision]
            unread = tuple(n for n, c in recipe.layers.items()
                           if c.precision and c.precision.options["bits"] == 5)
            drop = sum(32 - each for each in bits) / 30
            say(LossPredicted(id=asked.id, loss=RecipeLoss(damage=drop / 100,
                drop=Spread(drop, 0.3 if bits else 0.0), unread=unread)))
        case Allocate(limits=limits, rules=rules) | RefineAllocation(limits=limits, rules=rules):
            try:
                found = allocation(limits, rules, isinstance(asked, RefineAllocation))
                say(Allocated(id=asked.id, allocation=found))
            except ValueError:
                say(Failed(id=asked.id, message="Nothing is as small.", hint="Allow more."))
        case FindGuilty():
            milder = Choice(precision=Setting("integer", {"bits": 16}))
            say(GuiltyFound(id=asked.id, layers=(
                Guilt(layer="b", predicted=0.01, found=0.04, milder=milder),
                Guilt(layer="c", predicted=0.01, found=0.02))))
        case Cancel(job=job) if not deaf:
            say(Cancelled(id=job, step=3))
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep settings, untitled projects and the log in a folder of the test."""
    folder = tmp_path / "data"
    monkeypatch.setenv("FEATHERWEIGHT_FOLDER", str(folder))
    return folder


@pytest.fixture
def stand_in(tmp_path: Path) -> tuple[str, ...]:
    """Return the command of a process that speaks the protocol and knows no networks."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return (sys.executable, str(script))


@pytest.fixture
def connect(qtbot: QtBot) -> Iterator[Callable[..., EngineClient]]:
    """Return a function that makes a client and starts its process; it is closed at the end."""
    del qtbot
    made: list[EngineClient] = []

    def start(command: tuple[str, ...] = LOCAL_ENGINE) -> EngineClient:
        made.append(EngineClient(command))
        made[-1].start()
        return made[-1]

    yield start
    for client in made:
        client.close()
        client.deleteLater()


@pytest.fixture(scope="module")
def engine(qapp: QApplication) -> Iterator[EngineClient]:
    """Return a client with a real engine that the tests of a module share; it uses one core."""
    del qapp
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        client = EngineClient()
        client.start()
        yield client
        client.close()


@pytest.fixture
def window(qtbot: QtBot, own_folder: Path, stand_in: tuple[str, ...]) -> Iterator[MainWindow]:
    """Return the window as it starts, its engine a small process that is not started yet."""
    settings = Settings(own_folder)
    client = EngineClient((*stand_in, str(PROTOCOL)))
    made = MainWindow(Document(client, own_folder), client, settings)
    made.document.setParent(made)
    client.setParent(made)
    qtbot.addWidget(made)
    with qtbot.waitExposed(made):
        made.show()
    yield made
    made.close()
