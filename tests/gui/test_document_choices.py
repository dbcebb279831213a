"""What a document makes of choices, without an engine: undo, merging, notices, saving."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Failed, LatencyMeasured, Opened, Ready
from featherweight.engine.layer import Layer, NetworkSummary
from featherweight.engine.options import MethodDescription
from featherweight.engine.recipe import Choice, Setting, read_recipe
from featherweight.engine.trainings import FineTuning
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient

TUCKER = Setting("tucker2", {"rank": 8})


def layer(name: str, locks: dict[str, str] | None = None) -> Layer:
    return Layer(
        name=name,
        kind="Conv2d",
        summary="3×3",
        weights={"weight": (8, 8, 3, 3)},
        parameters=576,
        macs=100,
        activations=10,
        input_shape=(1, 8, 4, 4),
        output_shape=(1, 8, 4, 4),
        locks=locks or {},
    )


NETWORK = NetworkSummary(
    path="net.pt",
    format="pt",
    layers=(layer("a"), layer("b"), layer("c", {"tucker2": "it is depthwise"})),
    parameters=3,
    macs=3,
    input_shapes=((1, 8, 4, 4),),
    output_shapes=((1, 8),),
    file_bytes=100,
)


@pytest.fixture
def opened(qtbot: QtBot, own_folder: Path) -> Iterator[Document]:
    del qtbot
    client = EngineClient()
    document = Document(client, own_folder)
    document.receive(Opened(network=NETWORK))
    yield document
    document.close()


def notices(document: Document) -> list[str]:
    heard: list[str] = []
    document.noticed.connect(lambda sentence, _hint, _details: heard.append(sentence))
    return heard


def test_that_a_choice_for_several_layers_is_undone_at_once(opened: Document) -> None:
    opened.set_choice(("a", "b"), "structure", TUCKER)
    assert opened.setting("a", "structure") == opened.setting("b", "structure") == TUCKER
    assert opened.undo_stack.count() == 1
    opened.undo_stack.undo()
    assert opened.recipe.layers == {}
    opened.undo_stack.redo()
    assert list(opened.recipe.layers) == ["a", "b"]


def test_that_a_dragged_slider_is_one_step_and_giving_the_method_another(
    opened: Document,
) -> None:
    for rank in (8, 9, 10, 11):
        opened.set_choice(("a",), "structure", Setting("tucker2", {"rank": rank}))
    assert opened.undo_stack.count() == 2
    opened.undo_stack.undo()
    assert opened.setting("a", "structure") == TUCKER


def test_that_a_locked_layer_is_noticed_in_one_sentence_with_its_reason(
    opened: Document,
) -> None:
    heard = notices(opened)
    method = MethodDescription(
        name="tucker2",
        slot="structure",
        title="Tucker-2",
        advice="",
        gain="file and speed",
        strength="rank",
        options=(),
    )
    opened.receive(Ready(methods=(method,)))
    opened.set_choice(("a", "c"), "structure", TUCKER)
    assert heard == ["c cannot take Tucker-2: it is depthwise."]
    assert list(opened.recipe.layers) == ["a"]
    assert opened.undo_stack.undoText() == "Tucker-2 for a"


def test_that_clearing_names_only_layers_that_had_a_choice(opened: Document) -> None:
    opened.clear_choices()
    assert opened.undo_stack.count() == 0
    opened.set_choice(("a", "b"), "structure", TUCKER)
    opened.clear_choices(("a", "c"))
    assert list(opened.recipe.layers) == ["b"]
    assert opened.undo_stack.undoText() == "Clear a"


def test_that_a_saved_recipe_is_what_the_engine_reads(opened: Document, tmp_path: Path) -> None:
    opened.set_choice(("b",), "structure", TUCKER)
    opened.set_recovery(FineTuning(epochs=3))
    opened.save_recipe(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == opened.recipe


def test_that_a_loaded_recipe_keeps_known_layers_and_can_be_undone(
    opened: Document, tmp_path: Path
) -> None:
    heard = notices(opened)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "layers:\n  b: {coding: {method: huffman}}\n  gone: {coding: {method: huffman}}\n"
    )
    opened.load_recipe(path)
    assert opened.recipe.layers == {"b": Choice(coding=Setting("huffman"))}
    assert heard == ["recipe.yaml names gone that this network does not have; the rest was taken."]
    opened.undo_stack.undo()
    assert opened.recipe.layers == {}


def test_that_a_wrong_recipe_is_refused_and_changes_nothing(
    opened: Document, tmp_path: Path
) -> None:
    heard = notices(opened)
    path = tmp_path / "recipe.yaml"
    path.write_text("layers: {a: {coding: {method: 7}}}")
    opened.load_recipe(path)
    assert opened.undo_stack.count() == 0
    assert "layer a" in heard[0]
    assert "field coding.method" in heard[0]


def test_that_measured_latency_gives_each_layer_its_share(opened: Document) -> None:
    opened.receive(LatencyMeasured(layers={"a": 3.0, "b": 1.0}, total=5.0, batch=1))
    assert opened.layers["a"].share == 0.75
    assert opened.layers["b"].latency is not None
    assert opened.layers["b"].latency.basis == "measured"
    assert opened.layers["c"].share is None
    assert opened.network is not None
    assert opened.network.layers[0] is opened.layers["a"]


def test_that_only_layers_of_the_network_can_be_selected(opened: Document) -> None:
    opened.select(("b", "gone", "a"))
    assert opened.selection == ("b", "a")


def test_that_nothing_is_written_for_a_document_without_choices(
    opened: Document, own_folder: Path
) -> None:
    opened.save()
    opened.close()
    assert not (own_folder / "projects").exists()


def test_that_a_choice_reaches_the_disk_by_itself(
    opened: Document, own_folder: Path, qtbot: QtBot
) -> None:
    path = own_folder / "projects" / "net.featherweight"
    opened.set_choice(("a",), "structure", TUCKER)
    qtbot.waitUntil(path.exists)
    assert "tucker2" in path.read_text()
    assert not opened.unsaved


def test_that_saving_elsewhere_takes_results_along_and_leaves_nothing_untitled(
    opened: Document, own_folder: Path, tmp_path: Path
) -> None:
    opened.set_choice(("a",), "structure", TUCKER)
    opened.results_folder.mkdir(parents=True)
    (opened.results_folder / "one.archive").write_bytes(b"bits")
    opened.save_as(tmp_path / "mine")
    assert opened.path == tmp_path / "mine.featherweight"
    assert opened.name == "mine"
    assert (tmp_path / "mine.results" / "one.archive").read_bytes() == b"bits"
    assert list((own_folder / "projects").iterdir()) == []


def test_that_readings_of_a_network_are_there_whatever_the_project_is_called(
    opened: Document, tmp_path: Path
) -> None:
    untitled = opened.atlas_folder
    opened.set_choice(("a",), "structure", TUCKER)
    opened.save_as(tmp_path / "mine")
    assert opened.atlas_folder == untitled
    assert tmp_path / "mine.results" not in opened.atlas_folder.parents


def test_that_a_copy_elsewhere_leaves_a_titled_project_as_it_was(
    opened: Document, tmp_path: Path
) -> None:
    opened.set_choice(("a",), "structure", TUCKER)
    opened.save_as(tmp_path / "one.featherweight")
    first = (tmp_path / "one.featherweight").read_text()
    opened.clear_choices()
    opened.save_as(tmp_path / "two.featherweight")
    opened.save_as(tmp_path / "three.featherweight")
    assert (tmp_path / "one.featherweight").read_text() == first
    assert (tmp_path / "two.featherweight").exists()


def test_that_a_folder_which_cannot_be_written_is_named_in_the_notice(
    opened: Document, tmp_path: Path
) -> None:
    heard = notices(opened)
    (tmp_path / "file").touch()
    opened.set_choice(("a",), "structure", TUCKER)
    opened.save_as(tmp_path / "file" / "mine.featherweight")
    assert str(tmp_path / "file") in heard[0]
    assert opened.unsaved


def test_that_a_failure_nobody_asked_for_is_noticed(opened: Document) -> None:
    heard = notices(opened)
    opened.receive(Failed(message="A request could not be understood.", hint=""))
    assert heard == ["A request could not be understood."]
