"""The command line, run as a person runs it: in a process of its own."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.recipe import read_recipe
from featherweight.engine.session import Session
from featherweight.engine.terminal import Terminal


def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featherweight", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == status, done.stderr
    return done


def test_that_inspect_lists_every_layer_and_the_totals(small_files: Path) -> None:
    shown = run("inspect", small_files / "bars.fwz").stdout
    assert all(name in shown for name in ("conv1", "norm1", "conv2", "fc"))
    assert "4 layers" in shown


def test_that_inspect_tells_machines_the_same_as_the_session(small_files: Path) -> None:
    told = json.loads(run("inspect", "--json", small_files / "bars.fwz").stdout)
    session = Session()
    summary = session.open(Source(path=str(small_files / "bars.fwz")))
    assert told["macs"] == summary.macs
    assert [layer["name"] for layer in told["layers"]] == [layer.name for layer in summary.layers]


def test_that_sensitivity_tells_the_figures_of_a_session_with_the_largest_first(
    small_files: Path,
) -> None:
    network, data = small_files / "bars.fwz", small_files / "bars.npz"
    told = json.loads(run("sensitivity", network, "--data", data, "--json").stdout)
    session = Session()
    session.open(Source(path=str(network)))
    session.set_task(TaskSource(data=str(data)))
    report = session.estimate_sensitivity(Job())
    rises = {name: figure.value for name, figure in report.layers.items()}
    assert {name: figure["value"] for name, figure in told["layers"].items()} == rises
    lines = run("sensitivity", network, "--data", data).stdout.splitlines()
    firsts = [line.split()[0] for line in lines if line.split()]
    falling = sorted(rises, key=lambda name: -rises[name])
    assert [name for name in firsts if name in rises] == falling
    assert "Choose it with --data." in run("sensitivity", network, status=2).stderr


def test_that_compress_gives_the_bytes_of_a_session_run(small_files: Path, tmp_path: Path) -> None:
    network, data, recipe = (small_files / n for n in ("bars.fwz", "bars.npz", "recipe.yaml"))
    output = tmp_path / "small.fwz"
    done = run(
        "compress", network, "--recipe", recipe, "--data", data, "--output", output, "--json"
    )
    told = json.loads(done.stdout)
    session = Session()
    session.open(Source(path=str(network)))
    session.set_task(TaskSource(data=str(data)))
    result = session.compress(read_recipe(recipe), "same", str(tmp_path / "session"), Job())
    assert output.read_bytes() == (tmp_path / "session" / result.archive).read_bytes()
    assert told["identity"] == result.identity
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session", "small.fwz"]


def test_that_an_archive_is_exported_as_onnx_with_its_checks(
    small_files: Path, tmp_path: Path
) -> None:
    target = tmp_path / "bars.onnx"
    export = json.loads(run("export", "--json", small_files / "bars.fwz", target).stdout)
    assert export["checks"]["bytes"]["value"] == target.stat().st_size
    assert export["checks"]["relative_error"]["basis"] == "measured"


def test_that_the_options_of_a_method_are_told_from_its_description() -> None:
    shown = run("methods", "channel_pruning").stdout
    assert all(word in shown for word in ("ratio", "0 to 0.95", "l1, l2, bn_scale"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "missing.onnx"], "missing.onnx"),
        (["inspect", "FOLDER/bars.npz"], "bars.npz"),
        (["inspect", "FOLDER/bars.fwz", "--input", "1xthree"], "--input 1xthree"),
        (["export", "FOLDER/bars.fwz", "out.tflite"], "out.tflite"),
        (["methods", "magic"], "no method magic"),
    ],
)
def test_that_what_a_person_can_mend_ends_in_one_sentence_and_status_2(
    small_files: Path, arguments: list[str], words: str
) -> None:
    filled = [argument.replace("FOLDER", str(small_files)) for argument in arguments]
    done = run(*filled, status=2)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_that_what_a_factory_prints_does_not_disturb_the_json(tmp_path: Path) -> None:
    factory, weights = tmp_path / "noisy_factory.py", tmp_path / "weights.pt"
    factory.write_text(
        "import torch\ndef build():\n    print('hello'); return torch.nn.Linear(3, 2)\n"
    )
    torch.save(torch.nn.Linear(3, 2).state_dict(), weights)
    options = ("--factory", f"{factory}:build", "--trust", factory, "--input", "1x3")
    done = run("inspect", "--json", weights, *options)
    assert json.loads(done.stdout)["parameters"] == 8
    assert "hello" in done.stderr


def test_that_compressing_onto_the_network_is_refused_and_loses_nothing(
    small_files: Path, tmp_path: Path
) -> None:
    network = tmp_path / "mine.fwz"
    shutil.copy(small_files / "bars.fwz", network)
    recipe = small_files / "recipe.yaml"
    done = run("compress", network, "--recipe", recipe, "--output", network, status=2)
    assert "mine.fwz is read here" in done.stderr
    assert network.read_bytes() == (small_files / "bars.fwz").read_bytes()


def test_that_the_first_interrupt_cancels_a_job_and_the_second_stops_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Terminal(json=True).job() as job:
        job.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(CancelledError):
            job.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_that_a_path_is_shown_as_it_is_whatever_it_means_to_the_table(
    small_files: Path, tmp_path: Path
) -> None:
    network = tmp_path / "[red]a:cat:.fwz"
    shutil.copy(small_files / "bars.fwz", network)
    done = run("export", network, tmp_path / "[b]:dog:.fwz")
    assert "[b]:dog:.fwz" in done.stdout
    shown = run("inspect", network).stdout
    assert "[red]a:cat:.fwz" in shown.replace("\n", "").replace(" ", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_that_a_device_that_is_not_there_is_said_and_the_processor_trains(
    small_files: Path, tmp_path: Path
) -> None:
    network, data, recipe = (small_files / n for n in ("bars.fwz", "bars.npz", "recipe.yaml"))
    given = ("compress", network, "--recipe", recipe, "--data", data, "--device", "cuda")
    done = run(*given, "--output", tmp_path / "small.fwz")
    assert "There is no CUDA device, so the processor trains." in done.stderr
    assert (tmp_path / "small.fwz").is_file()
