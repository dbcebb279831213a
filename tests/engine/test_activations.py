"""Training with activations in 8 bits: ONNX Runtime gives the labels that torch gives."""

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import constrain
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, IntegerOptions, Point, Source, TaskSource
from featherweight.engine.jobs import Job, unchecked
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.activations import (
    FittedRounding,
    fit_roundings,
    put_roundings,
)
from featherweight.engine.results import Result
from featherweight.engine.rounded_layers import RoundedActivation
from featherweight.engine.session import Session
from featherweight.engine.task import read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.batch_norm_folding import folded
from featherweight.engine.writing.calibration import calibration_batches
from featherweight.engine.writing.integer_sums import sums_exactly
from featherweight.engine.writing.onnx_activations import quantize_activations
from featherweight.engine.writing.onnx_export import export
from featherweight.engine.writing.onnx_weights import needed_opset, put_weights
from featherweight.resources.demo import network as demo

IMAGES, MEASURED = 640, 2000


class Small(nn.Module):
    """A residual block between a convolution and a classifier, all with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 5, 3, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.block = demo.Residual(12, 12)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.stem(x)).relu()
        result: Tensor = self.head(nn.functional.max_pool2d(self.block(inner), 2).flatten(1))
        return result


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained `small.fwz` and real images to recover and to measure on."""
    folder = tmp_path_factory.mktemp("rounded")
    with np.load(Path(demo.__file__).parent / "data.npz") as data:
        counts = {"recovery": IMAGES, "measure": MEASURED}
        parts = {
            f"{part}_{kind}": data[f"{part}_{kind}"][:count]
            for part, count in counts.items()
            for kind in ("images", "labels")
        }
    np.savez(folder / "data.npz", **parts)
    torch.manual_seed(0)
    module = Small()
    network = capture(module, (torch.zeros(2, 1, 28, 28),))
    task = read_task(TaskSource(data=str(folder / "data.npz")), network)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    module.train()
    for step in range(40):
        (images,), (labels,) = task.batch(task.recovery, range(16 * step, 16 * step + 16))
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
    write_archive(capture(module.eval(), network.example), {}, folder / "small.fwz")
    return folder


@pytest.fixture
def session(files: Path) -> Session:
    return opened(files / "small.fwz", files)


def opened(path: Path, files: Path) -> Session:
    session = Session()
    session.open(Source(path=str(path)))
    session.set_task(TaskSource(data=str(files / "data.npz")))
    return session


LAYERS = ("stem", "block.conv1", "block.conv2", "head")
RECOVERY = FineTuning(epochs=1, learning_rate=0.002, batch_size=32, activations="8 bits")


def recipe(recovery: FineTuning = RECOVERY, **options: int | str) -> Recipe:
    setting = Setting("integer", dict(options))
    return Recipe(layers={name: Choice(precision=setting) for name in LAYERS}, recovery=recovery)


def agreement(archive: Path, file: Path, files: Path) -> tuple[float, float]:
    """Return on which share of samples labels are the same, and the share of right ones."""
    network = read_network(Source(path=str(archive)))
    task = read_task(TaskSource(data=str(files / "data.npz")), network)
    session = onnxruntime.InferenceSession(file.read_bytes())
    (images,), labels = task.measure.batch(range(MEASURED))
    (outputs,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    found = torch.from_numpy(outputs).argmax(1)
    with torch.no_grad():
        (wanted,) = network.outputs(images)
    assert labels is not None
    same, right = found == wanted.argmax(1), found == labels
    return float(same.float().mean()), float(right.float().mean())


@pytest.fixture(scope="module")
def result(files: Path) -> tuple[Result, Path]:
    """A result whose activations were rounded while it trained, and its archive."""
    folder = files / "results"
    made = opened(files / "small.fwz", files).compress(recipe(), "rounded", str(folder), Job())
    return made, folder / made.archive


def test_that_onnx_runtime_gives_the_labels_of_torch(
    session: Session, files: Path, result: tuple[Result, Path], tmp_path: Path
) -> None:
    made, archive = result
    file = tmp_path / "made.onnx"
    exported = session.export(str(archive), "onnx", str(file), Job())
    same, right = agreement(archive, file, files)
    assert same >= 0.999
    assert exported.checks["label_agreement"].value >= 99.9
    assert abs(100 * right - made.after.figures["top1"].value) <= 0.1
    assert right > 0.6


def test_that_an_archive_has_the_roundings_and_its_figures_are_theirs(
    files: Path, result: tuple[Result, Path], tmp_path: Path
) -> None:
    made, archive = result
    again = opened(archive, files)
    assert [layer.name for layer in again.summary.layers][:2] == ["stem", "norm"]
    same = again.compress(Recipe(), "as it is", str(tmp_path), Job())
    assert same.before.figures["top1"] == made.after.figures["top1"]
    network = read_network(Source(path=str(archive)))
    found = [layer for layer in network.module.modules() if isinstance(layer, RoundedActivation)]
    # The image, what leaves each of three convolutions, and what the head reads.
    assert len(found) == 5
    repeated = again.compress(recipe(), "again", str(tmp_path), Job())
    network = read_network(Source(path=str(tmp_path / repeated.archive)))
    assert sum(isinstance(one, RoundedActivation) for one in network.module.modules()) == 5


@pytest.mark.parametrize("gradual", [0.0, 0.5])
def test_that_a_cancelled_training_ends_with_the_same_bytes(
    session: Session, tmp_path: Path, gradual: float
) -> None:
    asked = recipe(msgspec.structs.replace(RECOVERY, gradual=gradual))
    if gradual:
        sparse = Choice(
            sparsity=Setting("magnitude", {"sparsity": 0.5}), precision=Setting("integer")
        )
        asked = msgspec.structs.replace(asked, layers={**asked.layers, "block.conv1": sparse})
    whole = session.compress(asked, "whole", str(tmp_path / "whole"), Job())

    def stop_late(event: Event) -> None:
        if isinstance(event, Point) and event.series == "loss" and event.step > 17:
            job.cancel()

    job = Job(stop_late)
    with pytest.raises(CancelledError):
        session.compress(asked, "broken", str(tmp_path / "broken"), job)
    again = session.compress(asked, "broken", str(tmp_path / "broken"), Job())
    one, two = (tmp_path / folder / again.archive for folder in ("whole", "broken"))
    assert one.read_bytes() == two.read_bytes()
    assert again.curve == whole.curve
    network = read_network(Source(path=str(two)))
    assert sum(isinstance(each, RoundedActivation) for each in network.module.modules()) == 5


@pytest.mark.parametrize("options", [{"bits": 4}, {"granularity": "group"}])
def test_that_it_takes_a_layer_that_computes_in_integers(
    session: Session, tmp_path: Path, options: dict[str, int | str]
) -> None:
    small = recipe(**options)
    large = {"stem": small.layers["stem"]} if "bits" in options else small.layers
    asked = msgspec.structs.replace(small, layers=large)
    with pytest.raises(UserError, match="no layer computes in 8-bit integers"):
        session.compress(asked, "none", str(tmp_path), Job())
    assert not list(tmp_path.glob("*.fwz"))


def test_that_weights_alone_in_four_bits_give_every_label(
    session: Session, files: Path, tmp_path: Path
) -> None:
    asked = recipe(msgspec.structs.replace(RECOVERY, activations="float"), bits=4, scales="learned")
    made = session.compress(asked, "four", str(tmp_path), Job())
    session.export(str(tmp_path / made.archive), "onnx", str(tmp_path / "four.onnx"), Job())
    same, right = agreement(tmp_path / made.archive, tmp_path / "four.onnx", files)
    assert same == 1.0
    assert 100 * right == pytest.approx(made.after.figures["top1"].value)


@pytest.fixture
def eight(files: Path) -> Network:
    """The network, its weights on their way to 8 bits."""
    network = read_network(Source(path=str(files / "small.fwz")))
    constrain(network, {name: Chosen(precision=Integer()) for name in LAYERS})
    return network


def fitted(network: Network, files: Path) -> list[tuple[float, int]]:
    task = read_task(TaskSource(data=str(files / "data.npz")), network)
    fit_roundings(network, task, unchecked)
    found = [one for one in network.module.modules() if isinstance(one, FittedRounding)]
    return [(float(one.scale), int(one.zero)) for one in found]


def test_that_nothing_is_rounded_before_all_ranges_are_known(files: Path, eight: Network) -> None:
    before = eight.outputs(*eight.example)[0]
    put_roundings(eight)
    assert torch.equal(eight.outputs(*eight.example)[0], before)
    # Known ones do not stand in the way of finding them again.
    assert fitted(eight, files) == fitted(eight, files)
    assert not torch.equal(eight.outputs(*eight.example)[0], before)


def test_that_ranges_are_those_of_an_export(files: Path, eight: Network) -> None:
    settled = eight.copy()
    settle(settled)
    prepared = folded(settled)
    exported = export(prepared, needed_opset(prepared))
    put_weights(exported.model, exported.forms)
    task = read_task(TaskSource(data=str(files / "data.npz")), settled)
    batches = ({"x": x.numpy()} for (x,) in calibration_batches(task, unchecked))
    bits = 8 if sums_exactly() else 7
    quantize_activations(exported.model, batches, IntegerOptions(), bits)
    tensors = {one.name: numpy_helper.to_array(one) for one in exported.model.graph.initializer}
    wanted = [
        (float(tensors[node.input[1]]), int(tensors[node.input[2]]))
        for node in exported.model.graph.node
        if node.op_type == "QuantizeLinear"
    ]
    put_roundings(eight)
    found = fitted(eight, files)
    assert [zero for _, zero in sorted(found)] == [zero for _, zero in sorted(wanted)]
    scales = [sorted(scale for scale, _ in each) for each in (found, wanted)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-4)


def test_that_a_network_without_integers_is_refused(files: Path) -> None:
    network = read_network(Source(path=str(files / "small.fwz")))
    with pytest.raises(UserError, match="no layer computes in 8-bit integers"):
        put_roundings(network)
