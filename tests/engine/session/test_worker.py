"""The engine process: frames in and out, both lanes, cancels, and what ends it."""

import contextlib
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import torch

from featherweight.engine.events import (
    AnyEvent,
    Cancelled,
    Compressed,
    Described,
    Event,
    Failed,
    FlipsFound,
    FrontierTraced,
    JobStarted,
    LatencyMeasured,
    LossPredicted,
    Opened,
    Point,
    Predicted,
    Progress,
    ReadingsTaken,
    Ready,
    SamplesShown,
    SensitivityEstimated,
    Source,
    Started,
    StrengthTraced,
    SweepEnded,
    SweepPlanned,
    TaskReady,
    TaskSource,
    TraceEnded,
    TrustNeeded,
    frame,
    read_frame,
)
from featherweight.engine.network import capture
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Recipe, Setting, read_recipe
from featherweight.engine.requests import (
    Cancel,
    Compress,
    DescribeLayer,
    EstimateSensitivity,
    FindFlips,
    MeasureLatency,
    OpenNetwork,
    PlanSweep,
    Predict,
    PredictLoss,
    Request,
    SetTask,
    ShowSamples,
    Sweep,
    TraceFrontier,
    TraceStrength,
)
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive

FOUR = (Choice(precision=Setting("integer", {"bits": 4})),)
E = TypeVar("E", bound=Event)
DECODER = msgspec.msgpack.Decoder(AnyEvent)


class Engine:
    """A real engine process, spoken to over its pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "featherweight.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.heard: list[Event] = []

    def ask(self, request: Request) -> None:
        assert self.process.stdin
        self.process.stdin.write(frame(request))
        self.process.stdin.flush()

    def end(self) -> None:
        """Kill the process as the system would, with SIGKILL, and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def hear(self) -> Event | None:
        """Read one event and keep it; None where the engine ended."""
        assert self.process.stdout
        body = read_frame(self.process.stdout)
        if body is None:
            return None
        self.heard.append(DECODER.decode(body))
        return self.heard[-1]

    def until(self, kind: type[E], identity: int = 0) -> E:
        """Read events until one of a kind with that identity; keep all."""
        while (event := self.hear()) is not None:
            if isinstance(event, kind) and event.id == identity:
                return event
            ended = isinstance(event, Failed | Cancelled | Compressed) and event.id == identity
            assert not ended, event
        raise AssertionError(f"the engine ended before {kind.__name__}")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    watchdog = threading.Timer(120, engine.process.kill)
    watchdog.start()
    yield engine
    watchdog.cancel()
    watchdog.join()
    engine.end()


def opened(engine: Engine, small_files: Path) -> Engine:
    engine.ask(OpenNetwork(id=1, source=Source(path=str(small_files / "bars.fwz"))))
    engine.ask(SetTask(id=2, task=TaskSource(data=str(small_files / "bars.npz"))))
    engine.until(TaskReady, 2)
    return engine


def test_that_the_engine_says_it_started_before_it_knows_its_methods(engine: Engine) -> None:
    ready = engine.until(Ready)
    assert isinstance(engine.heard[0], Started)
    assert engine.heard[0].pid == engine.process.pid
    slots = [method.slot for method in ready.methods]
    assert set(slots) == {"structure", "sparsity", "precision", "coding"}


def test_that_questions_are_answered_while_a_job_runs(engine: Engine, small_files: Path) -> None:
    opened(engine, small_files)
    recipe = read_recipe(small_files / "recipe.yaml")
    long = msgspec.structs.replace(recipe, recovery=FineTuning(epochs=1000, batch_size=8))
    engine.ask(Compress(id=3, recipe=long, name="long", folder=str(small_files / "long")))
    engine.until(Point, 3)
    engine.ask(DescribeLayer(id=4, layer="conv2"))
    engine.ask(Predict(id=5, recipe=recipe))
    assert engine.until(Described, 4).details.spectrum
    assert engine.until(Predicted, 5).prediction.after.bits > 0
    engine.ask(Cancel(id=6, job=3))
    assert engine.until(Cancelled, 3).step > 0
    assert any(isinstance(event, JobStarted) for event in engine.heard)


def test_that_a_prediction_beside_a_latency_measurement_disturbs_neither(
    engine: Engine, small_files: Path
) -> None:
    opened(engine, small_files)
    recipe = read_recipe(small_files / "recipe.yaml")
    engine.ask(MeasureLatency(id=3))
    for identity in range(4, 24):
        engine.ask(Predict(id=identity, recipe=recipe))
    engine.until(Predicted, 23)
    engine.ask(MeasureLatency(id=24))
    assert set(engine.until(LatencyMeasured, 24).layers) == {"conv1", "norm1", "conv2", "fc"}


def test_that_flips_are_a_job_and_pictures_are_shown_or_refused(
    engine: Engine, small_files: Path
) -> None:
    opened(engine, small_files)
    engine.ask(ShowSamples(id=3, samples=(250, 1)))
    shown = engine.until(SamplesShown, 3)
    assert [picture.sample for picture in shown.pictures] == [250, 1]
    engine.ask(ShowSamples(id=4, samples=(256,)))
    failed = engine.until(Failed, 4)
    engine.ask(FindFlips(id=5, after=str(small_files / "bars.fwz")))
    assert engine.until(FlipsFound, 5) == FlipsFound(id=5, flips=(), of=256)
    assert any(isinstance(event, JobStarted) and event.id == 5 for event in engine.heard)
    assert failed.message == "There is no sample 256, only 256."


def test_that_the_engine_plans_tells_and_ends_a_sweep(
    engine: Engine, small_files: Path, tmp_path: Path
) -> None:
    opened(engine, small_files)
    engine.ask(PlanSweep(id=3))
    usual = engine.until(SweepPlanned, 3)
    assert usual.estimate.missing > usual.estimate.known == 0
    assert usual.estimate.seconds > 0
    assert usual.estimate.memory > 0
    plan = msgspec.structs.replace(usual.plan, samples=128)
    began = time.monotonic()
    engine.ask(Sweep(id=4, plan=plan, store=str(tmp_path)))
    ended = engine.until(SweepEnded, 4)
    told = [event for event in engine.heard if isinstance(event, ReadingsTaken)]
    assert len(told) <= 3 + 20 * (time.monotonic() - began)
    assert {event.id for event in told} == {4}
    readings = [reading for event in told for reading in event.readings]
    assert readings[0].basis == "estimated"
    asked = [reading for reading in readings if reading.choice in plan.choices]
    measured = [reading for reading in asked if reading.basis == "measured"]
    assert len(measured) == usual.estimate.missing <= ended.summary.readings
    assert any(isinstance(event, Progress) and event.id == 4 for event in engine.heard)
    engine.ask(PlanSweep(id=5, plan=plan, store=str(tmp_path)))
    assert engine.until(SweepPlanned, 5).estimate.missing == 0
    recipe = Recipe(layers={"fc": asked[0].choice})
    engine.ask(TraceFrontier(id=6, resource="bits"))
    engine.ask(TraceFrontier(id=7, resource="bits"))
    engine.ask(Predict(id=8, recipe=recipe))
    engine.ask(PredictLoss(id=9, recipe=recipe))
    expected = {(FrontierTraced, 7), (Predicted, 8), (LossPredicted, 9)}
    while expected - {(type(event), event.id) for event in engine.heard}:
        assert engine.hear()
    # Of two that were asked at once the older one may have been stopped.
    older = {type(event) for event in engine.heard if event.id == 6}
    assert older in ({Cancelled}, {FrontierTraced}, set())
    engine.ask(TraceFrontier(id=10, resource="latency"))
    assert "Sweep once more" in engine.until(Failed, 10).hint


def test_that_a_sweep_can_be_stopped_and_a_wrong_plan_is_told(
    engine: Engine, small_files: Path, tmp_path: Path
) -> None:
    opened(engine, small_files)
    engine.ask(Sweep(id=3, plan=SweepPlan(choices=FOUR), store=str(tmp_path)))
    engine.until(ReadingsTaken, 3)
    engine.ask(Cancel(id=4, job=3))
    assert engine.until(Cancelled, 3)
    engine.ask(PlanSweep(id=5, plan=SweepPlan(choices=FOUR, layers=("conv3",))))
    failed = engine.until(Failed, 5)
    assert "conv3" in failed.message
    assert "conv1" in failed.hint


def test_that_sensitivity_tells_its_progress_and_every_layer_or_its_reason(
    engine: Engine, small_files: Path
) -> None:
    opened(engine, small_files)
    engine.ask(EstimateSensitivity(id=3))
    told = engine.until(SensitivityEstimated, 3)
    assert set(told.layers) == {"conv1", "conv2", "fc"}
    assert set(told.reasons) == {"norm1"}
    assert any(isinstance(event, Progress) and event.id == 3 for event in engine.heard)


def test_that_a_newer_trace_ends_the_one_under_way_and_questions_are_answered(
    engine: Engine, tmp_path: Path
) -> None:
    wide = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Linear(1024, 8))
    write_archive(capture(wide, (torch.randn(1, 1024),)), {}, tmp_path / "wide.fwz")
    engine.ask(OpenNetwork(id=1, source=Source(path=str(tmp_path / "wide.fwz"))))
    engine.until(Opened, 1)
    monarch = Recipe(layers={"0": Choice(structure=Setting("monarch"))})
    integer = Recipe(layers={"1": Choice(precision=Setting("integer", {"bits": 4}))})
    engine.ask(TraceStrength(id=2, recipe=monarch, layers=("0",), slot="structure"))
    assert engine.until(StrengthTraced, 2).trace.points == ()
    engine.ask(TraceStrength(id=3, recipe=integer, layers=("1",), slot="precision"))
    engine.ask(Predict(id=4, recipe=integer))
    expected = {(Cancelled, 2), (TraceEnded, 3), (Predicted, 4)}
    while expected - {(type(event), event.id) for event in engine.heard}:
        assert engine.hear()
    traces = [event.trace for event in engine.heard if isinstance(event, StrengthTraced)]
    assert {trace.layer for trace in traces} == {"0", "1"}
    assert len(traces[-1].points) == 6
    assert max(len(trace.points) for trace in traces if trace.layer == "0") < 10


def test_that_no_trace_is_under_way_while_times_are_measured(
    engine: Engine, tmp_path: Path
) -> None:
    wide = torch.nn.Sequential(torch.nn.Linear(1024, 1024))
    write_archive(capture(wide, (torch.randn(1, 1024),)), {}, tmp_path / "wide.fwz")
    engine.ask(OpenNetwork(id=1, source=Source(path=str(tmp_path / "wide.fwz"))))
    engine.until(Opened, 1)
    monarch = Recipe(layers={"0": Choice(structure=Setting("monarch"))})
    engine.ask(TraceStrength(id=2, recipe=monarch, layers=("0",), slot="structure"))
    engine.until(StrengthTraced, 2)
    engine.ask(MeasureLatency(id=3))
    engine.until(Cancelled, 2)
    if not any(isinstance(event, LatencyMeasured) for event in engine.heard):
        engine.until(LatencyMeasured, 3)


def test_that_a_job_killed_in_training_goes_on_in_the_next_process(
    engine: Engine, small_files: Path, tmp_path: Path
) -> None:
    recipe = msgspec.structs.replace(
        read_recipe(small_files / "recipe.yaml"), recovery=FineTuning(epochs=250, batch_size=16)
    )
    opened(engine, small_files)
    engine.ask(Compress(id=3, recipe=recipe, name="a", folder=str(tmp_path / "whole")))
    whole = engine.until(Compressed, 3).result
    broken = Engine()
    opened(broken, small_files)
    broken.ask(Compress(id=3, recipe=recipe, name="a", folder=str(tmp_path / "broken")))
    checkpoints = tmp_path / "broken" / f"{whole.identity}.checkpoint"
    while not any(checkpoints.glob("*")):
        broken.until(Point, 3)
    broken.end()
    assert not (tmp_path / "broken" / whole.archive).exists()
    engine.ask(Compress(id=4, recipe=recipe, name="a", folder=str(tmp_path / "broken")))
    again = engine.until(Compressed, 4).result
    bytes_of = [(tmp_path / run / whole.archive).read_bytes() for run in ("whole", "broken")]
    assert bytes_of[0] == bytes_of[1]
    assert again.curve == whole.curve


def test_that_what_a_person_can_mend_comes_as_one_sentence(engine: Engine, tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    engine.ask(OpenNetwork(id=1, source=Source(path=str(missing))))
    event = engine.until(Failed, 1)
    assert str(missing) in event.message
    assert "\n" not in event.message
    assert event.details == ""


def test_that_code_in_a_file_is_named_and_not_run(engine: Engine, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = f"cposix\nsystem\n(Vtouch {marker}\ntR.".encode()
    with zipfile.ZipFile(tmp_path / "planted.pt", "w") as archive:
        archive.writestr("planted/data.pkl", b"\x80\x02" + payload)
        archive.writestr("planted/version", b"3\n")
    engine.ask(OpenNetwork(id=1, source=Source(path=str(tmp_path / "planted.pt"))))
    needed = engine.until(TrustNeeded, 1)
    assert any("posix" in name for name in needed.names)
    assert not marker.exists()


def test_that_a_message_nobody_understands_is_answered_and_survived(
    engine: Engine, small_files: Path
) -> None:
    assert engine.process.stdin
    engine.process.stdin.write((3).to_bytes(4, "big") + b"abc")
    engine.process.stdin.flush()
    assert "could not be understood" in engine.until(Failed).message
    opened(engine, small_files)


def test_that_the_process_ends_when_its_input_does(engine: Engine) -> None:
    engine.until(Ready)
    assert engine.process.stdin
    engine.process.stdin.close()
    assert engine.process.wait(30) == 0


def test_that_prints_of_user_code_do_not_disturb_the_stream(engine: Engine, tmp_path: Path) -> None:
    factory = tmp_path / "noisy.py"
    factory.write_text(
        "import os, torch\n"
        "def build():\n"
        "    print('hello'); os.write(1, b'raw'); return torch.nn.Linear(3, 2)\n"
    )
    weights = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(3, 2).state_dict(), weights)
    source = Source(
        path=str(weights),
        factory=f"{factory}:build",
        trust=(str(factory),),
        input_shapes=((1, 3),),
    )
    engine.ask(OpenNetwork(id=1, source=source))
    assert engine.until(Opened, 1).network.parameters == 8


def test_that_user_code_that_ends_the_program_leaves_the_engine_alive(
    engine: Engine, small_files: Path, tmp_path: Path
) -> None:
    factory, weights = tmp_path / "leaving.py", tmp_path / "weights.pt"
    factory.write_text(
        "import torch\n"
        "class Leaving(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        raise SystemExit(3)\n"
        "def build():\n"
        "    return Leaving(3, 2)\n"
    )
    torch.save(torch.nn.Linear(3, 2).state_dict(), weights)
    source = Source(
        path=str(weights),
        factory=f"{factory}:build",
        trust=(str(factory),),
        input_shapes=((1, 3),),
    )
    engine.ask(OpenNetwork(id=1, source=source))
    with pytest.raises(AssertionError, match="ended the program"):
        engine.until(Opened, 1)
    opened(engine, small_files)
