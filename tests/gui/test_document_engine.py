"""A document with the real engine: opening, trusting, predicting, running, keeping, exporting."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_corpus import good
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Source, TrustNeeded
from featherweight.engine.recipe import Setting
from featherweight.engine.results import Export
from featherweight.engine.trainings import FineTuning
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.resources.demo.sources import demo_folder

LONG = 30_000
FACTORY = """
from pathlib import Path
from featherweight.resources.demo.network import build

Path({mark!r}).touch()
"""


@pytest.fixture
def new_document(engine: EngineClient, own_folder: Path) -> Iterator[Callable[[], Document]]:
    """Return a function that makes a document on the shared engine."""
    made: list[Document] = []

    def make() -> Document:
        made.append(Document(engine, own_folder))
        return made[-1]

    yield make
    for document in made:
        engine.received.disconnect(document.receive)
        document.close()
        document.deleteLater()


@pytest.fixture
def demo(new_document: Callable[[], Document], qtbot: QtBot) -> Document:
    """Return a document with the demo and its task."""
    document = new_document()
    document.open_demo()
    qtbot.waitUntil(lambda: document.task is not None, timeout=LONG)
    return document


def test_that_the_demo_opens_with_its_layers_its_task_and_a_prediction(
    demo: Document, qtbot: QtBot
) -> None:
    qtbot.waitUntil(lambda: demo.prediction is not None, timeout=LONG)
    assert demo.network is not None
    assert demo.task is not None
    assert demo.prediction is not None
    assert demo.prediction.before.parameters == demo.network.parameters
    assert (demo.task.recovery_samples, demo.task.measure_samples) == (4000, 2000)
    assert {"channel_pruning", "tucker", "integer"} <= {each.name for each in demo.methods}
    assert demo.path is None


def test_that_the_prediction_shown_last_is_that_of_the_last_choice(
    demo: Document, qtbot: QtBot
) -> None:
    answers: list[int] = []

    def note() -> None:
        assert demo.prediction is not None
        answers.append(demo.prediction.layers["block1.conv1"].parameters)

    qtbot.waitUntil(lambda: demo.prediction is not None, timeout=LONG)
    expected = 0.2 * demo.layers["block1.conv1"].parameters
    demo.prediction_changed.connect(note)
    moves = [step / 20 for step in range(1, 18)]
    for share in moves:
        demo.set_choice(
            ("block1.conv1",), "structure", Setting("channel_pruning", {"ratio": share})
        )
    qtbot.waitUntil(lambda: bool(answers) and answers[-1] < expected, timeout=LONG)
    assert len(answers) < len(moves)
    assert demo.undo_stack.count() == 2


def test_that_details_are_computed_once_for_each_layer(demo: Document, qtbot: QtBot) -> None:
    with qtbot.waitSignal(demo.details_changed, timeout=LONG) as answered:
        demo.request_details("block1.conv1")
    assert answered.args == ["block1.conv1"]
    first = demo.details["block1.conv1"]
    with qtbot.waitSignal(demo.details_changed):
        demo.request_details("block1.conv1")
    assert demo.details["block1.conv1"] is first
    assert len(first.spectrum) == 32


def test_that_code_of_a_file_runs_only_after_it_was_allowed_and_is_asked_once(
    new_document: Callable[[], Document], tmp_path: Path, qtbot: QtBot
) -> None:
    mark, factory = tmp_path / "ran", tmp_path / "factory.py"
    factory.write_text(FACTORY.format(mark=str(mark)))
    weights = tmp_path / "network.safetensors"
    weights.write_bytes((demo_folder() / "network.safetensors").read_bytes())
    source = Source(path=str(weights), factory=f"{factory}:build", input_shapes=((1, 1, 28, 28),))
    document = new_document()
    with qtbot.waitSignal(document.trust_needed, timeout=LONG) as asked:
        document.open(source)
    document.refuse(asked.args[0])
    assert not mark.exists()
    assert document.busy == ""
    with qtbot.waitSignal(document.trust_needed, timeout=LONG) as asked:
        document.open(source)
    needed = asked.args[0]
    assert isinstance(needed, TrustNeeded)
    with qtbot.waitSignal(document.network_changed, timeout=LONG):
        document.allow(needed)
    assert mark.exists()
    again = new_document()
    with qtbot.waitSignal(again.network_changed, timeout=LONG):
        again.open(source)


def test_that_a_file_which_is_no_network_is_named_and_changes_nothing(
    demo: Document, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "notes.pt"
    path.write_text("not a network")
    network = demo.network
    with qtbot.waitSignal(demo.open_failed, timeout=LONG) as failed:
        demo.open(Source(path=str(path)))
    assert str(path) in failed.args[1]
    assert demo.network is network
    assert demo.busy == ""


def test_that_a_run_ends_in_a_result_that_is_kept_and_can_be_exported(
    demo: Document, new_document: Callable[[], Document], tmp_path: Path, qtbot: QtBot
) -> None:
    demo.set_choice(("block1.conv1",), "structure", Setting("channel_pruning", {"ratio": 0.5}))
    demo.set_choice(("block2.conv1",), "precision", Setting("integer", {"bits": 4}))
    demo.set_recovery(FineTuning(epochs=1, batch_size=256))
    accuracy: list[float] = []
    demo.point_added.connect(
        lambda series, _, value: accuracy.append(value) if series == "accuracy" else None
    )
    with qtbot.waitSignal(demo.results_changed, timeout=LONG):
        demo.compress("Half")
    (result,) = demo.results
    assert result.name == "Half"
    assert accuracy
    assert demo.unfinished is None
    archive = demo.results_folder / result.archive
    assert archive.stat().st_size == result.ledger.bytes == result.after.figures["bytes"].value
    demo.save()
    assert demo.path is not None

    again = new_document()
    again.open_project(demo.path)
    qtbot.waitUntil(lambda: again.task is not None, timeout=LONG)
    assert again.recipe == demo.recipe
    assert again.results == demo.results
    assert again.task == demo.task
    with qtbot.waitSignal(again.exported, timeout=LONG) as exported:
        again.export(result.archive, "archive", tmp_path / "half.fwz")
    export = exported.args[0]
    assert isinstance(export, Export)
    assert (tmp_path / "half.fwz").read_bytes() == archive.read_bytes()


def test_that_a_cancelled_run_goes_on_when_its_project_is_opened_again(
    demo: Document, new_document: Callable[[], Document], qtbot: QtBot
) -> None:
    demo.set_choice(("block1.conv1",), "structure", Setting("channel_pruning", {"ratio": 0.5}))
    demo.set_recovery(FineTuning(epochs=1, batch_size=128))
    with qtbot.waitSignal(demo.point_added, timeout=LONG):
        demo.compress()
    demo.cancel()
    qtbot.waitUntil(lambda: demo.job is not None and not demo.job.active, timeout=LONG)
    assert demo.job is not None
    assert demo.job.state == "cancelled"
    assert demo.can_resume
    demo.close()
    assert demo.path is not None

    again = new_document()
    again.open_project(demo.path)
    qtbot.waitUntil(lambda: again.task is not None, timeout=LONG)
    assert again.job is not None
    assert again.job.state == "interrupted"
    assert again.job.name == "Run 1"
    with qtbot.waitSignal(again.results_changed, timeout=LONG):
        again.resume()
    assert again.unfinished is None
    assert not again.can_resume


def test_that_a_run_which_cannot_be_done_says_why_and_is_not_resumed(
    demo: Document, qtbot: QtBot
) -> None:
    demo.set_choice(("block1.conv1",), "coding", Setting("huffman"))
    sentences: list[str] = []
    demo.noticed.connect(lambda sentence, _hint, _details: sentences.append(sentence))
    demo.compress()
    # The prediction says why as well, and may do so first.
    qtbot.waitUntil(lambda: demo.job is not None and demo.job.state == "failed", timeout=LONG)
    assert "block1.conv1" in sentences[-1]
    assert not demo.can_resume
    assert demo.can_compress


def test_that_a_network_file_that_is_gone_is_told_once_and_found_again_when_put_back(
    connect: Callable[[], EngineClient], own_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    client, path = connect(), tmp_path / "net.onnx"
    path.write_bytes(good(".onnx"))
    document = Document(client, own_folder)
    heard: list[str] = []
    document.noticed.connect(lambda sentence, hint: heard.append(f"{sentence} {hint}"))
    document.open(Source(path=str(path)))
    qtbot.waitUntil(lambda: document.prediction is not None and not document.busy, timeout=LONG)
    path.unlink()
    os.kill(client.process_id, signal.SIGKILL)
    qtbot.waitUntil(lambda: len(heard) == 2, timeout=LONG)
    assert heard[1] == (
        f"{path} cannot be read: No such file or directory."
        " Put the file back, then restart the engine from the Run menu; your choices are kept."
    )
    layer = next(iter(document.layers))
    for bits in (8, 4):
        document.set_choice((layer,), "precision", Setting("integer", {"bits": bits}))
    document.measure_latency()
    qtbot.waitUntil(lambda: len(heard) == 3, timeout=LONG)
    path.write_bytes(good(".onnx"))
    client.restart()
    with qtbot.waitSignal(document.prediction_changed, timeout=LONG):
        pass
    assert document.prediction is not None
    assert [said for said in heard if "No network is open." in said] == heard[2:3]
    document.close()
    document.deleteLater()
