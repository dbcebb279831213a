"""The façade: what it opens, predicts, compresses and exports, and that a cancelled run goes on."""

from pathlib import Path

import msgspec
import pytest

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, ExportFormat, Point, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.recipe import Choice, Recipe, Setting, read_recipe
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning


@pytest.fixture
def session(small_files: Path) -> Session:
    session = Session()
    session.open(Source(path=str(small_files / "bars.fwz")))
    session.set_task(TaskSource(data=str(small_files / "bars.npz")))
    return session


@pytest.fixture
def recipe(small_files: Path) -> Recipe:
    return read_recipe(small_files / "recipe.yaml")


def test_that_an_opened_network_tells_layers_couplings_and_locks(session: Session) -> None:
    summary = session.summary
    layers = {layer.name: layer for layer in summary.layers}
    assert list(layers) == ["conv1", "norm1", "conv2", "fc"]
    assert layers["conv1"].macs == 8 * 9 * 64
    assert layers["fc"].locks["channel_pruning"] == "Its channels are the network's output."
    assert "svd" not in layers["fc"].locks
    assert "integer" in layers["norm1"].locks
    assert summary.file_bytes == Path(summary.path).stat().st_size


def test_that_a_result_is_smaller_and_as_good_as_its_figures_say(
    session: Session, recipe: Recipe, small_files: Path, tmp_path: Path
) -> None:
    result = session.compress(recipe, "small", str(tmp_path), Job())
    archive = tmp_path / result.archive
    before, after = result.before.figures, result.after.figures
    assert result.ledger.bytes == after["bytes"].value == archive.stat().st_size
    assert after["bytes"].value < before["bytes"].value / 2
    assert before["top1"].value > 60
    assert after["top1"].value > before["top1"].value - 15
    assert after["parameters"].value == result.predicted.parameters
    assert after["macs"].value == result.predicted.macs

    opened = Session()
    opened.open(Source(path=str(archive)))
    opened.set_task(TaskSource(data=str(small_files / "bars.npz")))
    again = opened.compress(Recipe(), "as it is", str(tmp_path / "again"), Job())
    assert again.before.figures["top1"] == after["top1"]


def test_that_the_same_recipe_gives_the_same_bytes_in_another_session(
    session: Session, recipe: Recipe, small_files: Path, tmp_path: Path
) -> None:
    other = Session()
    other.open(Source(path=str(small_files / "bars.fwz")))
    other.set_task(TaskSource(data=str(small_files / "bars.npz")))
    first = session.compress(recipe, "first", str(tmp_path / "a"), Job())
    second = other.compress(recipe, "second", str(tmp_path / "b"), Job())
    assert first.identity == second.identity
    one, two = tmp_path / "a" / first.archive, tmp_path / "b" / second.archive
    assert one.read_bytes() == two.read_bytes()


def test_that_a_cancelled_run_goes_on_and_ends_with_the_same_bytes(
    session: Session, recipe: Recipe, tmp_path: Path
) -> None:
    undisturbed = session.compress(recipe, "whole", str(tmp_path / "whole"), Job())
    events: list[Event] = []

    def stop_in_training(event: Event) -> None:
        events.append(event)
        if isinstance(event, Point) and event.step > 4:
            job.cancel()

    job = Job(stop_in_training)
    with pytest.raises(CancelledError):
        session.compress(recipe, "broken", str(tmp_path / "broken"), job)
    reached = job.step
    resumed = Job(events.append)
    again = session.compress(recipe, "broken", str(tmp_path / "broken"), resumed)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert reached > 4
    assert (broken / again.archive).read_bytes() == (whole / undisturbed.archive).read_bytes()
    assert again.curve == undisturbed.curve
    assert [path.name for path in broken.iterdir()] == [again.archive]


def test_that_a_recovery_tells_once_what_the_source_reaches(
    session: Session, recipe: Recipe, tmp_path: Path
) -> None:
    events: list[Event] = []
    result = session.compress(recipe, "told", str(tmp_path), Job(events.append))
    points = [event for event in events if isinstance(event, Point)]
    assert points[0].series == "source"
    assert [point.value for point in points if point.series == "source"] == [
        result.before.figures["top1"].value / 100
    ]


def test_that_an_exported_onnx_file_opens_with_the_names_of_the_network(
    session: Session, recipe: Recipe, tmp_path: Path
) -> None:
    quick = msgspec.structs.replace(recipe, recovery=None)
    result = session.compress(quick, "small", str(tmp_path), Job())
    target = tmp_path / "named.onnx"
    session.export(str(tmp_path / result.archive), "onnx", str(target), Job())
    opened = Session().open(Source(path=str(target)))
    names = [layer.name for layer in opened.layers]
    assert names == ["conv1", "conv2.0", "conv2.1", "conv2.2", "fc"]


@pytest.mark.parametrize("form", ["onnx", "pt2", "archive"])
def test_that_every_export_of_a_result_is_checked_and_has_the_size_it_says(
    session: Session, recipe: Recipe, tmp_path: Path, form: ExportFormat
) -> None:
    quick = msgspec.structs.replace(recipe, recovery=None)
    result = session.compress(quick, "small", str(tmp_path), Job())
    target = tmp_path / f"exported.{form}"
    export = session.export(str(tmp_path / result.archive), form, str(target), Job())
    assert export.checks["bytes"].value == target.stat().st_size
    assert export.checks["relative_error"].value < 1e-5
    assert sum(share.bytes for share in export.shares) <= target.stat().st_size
    assert {"conv1", "conv2.1", "fc"} <= {share.layer for share in export.shares}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"conv": Choice(precision=Setting("integer"))}, ("names layer conv,", "conv1")),
        ({"conv1": Choice(precision=Setting("int"))}, ("layers.conv1.precision", "integer")),
        ({"conv1": Choice(coding=Setting("integer"))}, ("layers.conv1.coding", "precision")),
        ({"fc": Choice(structure=Setting("tucker"))}, ("fc cannot take tucker", "convolutions")),
        ({"fc": Choice(coding=Setting("huffman"))}, ("fc cannot be coded", "precision")),
    ],
)
def test_that_a_recipe_that_does_not_fit_is_refused_before_it_runs(
    session: Session, tmp_path: Path, layers: dict[str, Choice], words: tuple[str, str]
) -> None:
    with pytest.raises(UserError) as caught:
        session.compress(Recipe(layers=layers), "bad", str(tmp_path), Job())
    assert all(word in str(caught.value) for word in words)
    assert not any(tmp_path.iterdir())


def test_that_a_file_that_cannot_be_read_leaves_the_open_network(
    session: Session, tmp_path: Path
) -> None:
    before = session.summary
    (tmp_path / "broken.fwz").write_bytes(b"FWZ1 and nothing more")
    with pytest.raises(UserError, match=r"broken\.fwz"):
        session.open(Source(path=str(tmp_path / "broken.fwz")))
    assert session.summary == before


def test_that_latency_is_measured_for_every_layer_and_kept_in_the_summary(
    session: Session,
) -> None:
    report = session.measure_latency(Job())
    layers = session.summary.layers
    assert all(layer.latency and layer.latency.basis == "measured" for layer in layers)
    assert sum(layer.share or 0 for layer in layers) == pytest.approx(1)
    assert report.total.value > 0


def test_that_a_prediction_can_be_limited_to_the_layers_asked_for(session: Session) -> None:
    recipe = Recipe(layers={"fc": Choice(precision=Setting("integer", {"bits": 4}))})
    prediction = session.predict(recipe, ("fc",))
    assert list(prediction.layers) == ["fc"]
    weights, scales, biases = 256 * 4 * 4, 4 * 32, 4 * 32
    assert prediction.layers["fc"].bits == weights + scales + biases
    assert prediction.after.bits < prediction.before.bits


def test_that_retraining_makes_the_prediction_of_coded_weights_inexact(session: Session) -> None:
    layers = {"fc": Choice(precision=Setting("integer"), coding=Setting("ans"))}
    assert session.predict(Recipe(layers=layers)).exact
    assert not session.predict(Recipe(layers=layers, recovery=FineTuning())).exact


def test_that_sensitivity_is_estimated_once_for_a_network_and_its_data(
    session: Session, small_files: Path
) -> None:
    events: list[Event] = []
    first = session.estimate_sensitivity(Job(events.append))
    layers = {layer.name: layer for layer in session.summary.layers}
    assert set(first.layers) == {"conv1", "conv2", "fc"}
    assert layers["conv1"].sensitivity == first.layers["conv1"]
    assert first.layers["conv1"].basis == "estimated"
    assert first.layers["conv1"].value != 0
    assert layers["norm1"].sensitivity is None
    assert layers["norm1"].sensitivity_lock == first.reasons["norm1"]
    assert events

    events.clear()
    session.open(Source(path=str(small_files / "bars.fwz")))
    session.set_task(TaskSource(data=str(small_files / "bars.npz")))
    assert session.estimate_sensitivity(Job(events.append)) == first
    assert not events
    session.set_task(TaskSource(kind="fidelity"))
    assert all(layer.sensitivity is None for layer in session.summary.layers)
    assert session.estimate_sensitivity(Job(events.append)).loss == "relative squared error"
    assert events


def test_that_sensitivity_without_a_task_names_the_mend(small_files: Path) -> None:
    session = Session()
    session.open(Source(path=str(small_files / "bars.fwz")))
    with pytest.raises(UserError) as raised:
        session.estimate_sensitivity(Job())
    assert raised.value.hint == "Choose it with --data."


def test_that_flips_add_up_to_the_change_of_the_measured_accuracy(
    session: Session, recipe: Recipe, tmp_path: Path
) -> None:
    results = [
        session.compress(recipe, "small", str(tmp_path), Job()),
        session.compress(Recipe(), "as it is", str(tmp_path), Job()),
    ]
    small, same = (str(tmp_path / result.archive) for result in results)
    flips, of = session.find_flips(small, "", Job())
    before, after = (m.figures["top1"].value for m in (results[0].before, results[0].after))
    lost = sum(flip.before == flip.label for flip in flips)
    won = sum(flip.after == flip.label for flip in flips)
    assert of == 256
    assert 0 < lost + won <= len(flips)
    assert 100 * (won - lost) / of == pytest.approx(after - before)
    assert session.find_flips(small, same, Job()) == (flips, of)
    assert session.find_flips(same, "", Job()) == ((), of)
    pictures = session.pictures(tuple(flip.sample for flip in flips[:3]))
    assert [picture.sample for picture in pictures] == [flip.sample for flip in flips[:3]]
    assert {(one.width, one.height, one.channels) for one in pictures} == {(8, 8, 1)}
