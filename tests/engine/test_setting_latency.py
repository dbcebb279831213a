"""Times of single layers in ONNX Runtime: what they depend on, and that each is taken once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.inspecting.setting_latency import Change, LayerTimes
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import PrecisionMethod, settled
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.structure.rotations import Rotations
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.weight_forms import CompactLayer, MaskedForm


class Solving(nn.Module):
    """A layer that ONNX has no operator for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the weight makes x of."""
        found: Tensor = torch.linalg.solve(self.weight, x)
        return found


def lines(folder: Path) -> int:
    """Return how many times are kept."""
    return sum(len(path.read_bytes().splitlines()) for path in folder.iterdir())


def held(layer: nn.Module, method: PrecisionMethod) -> CompactLayer:
    """Return a layer with its weight as a precision has it in the end."""
    return CompactLayer(layer, {"weight": settled(method.trainable(layer.weight.detach(), None))})


def test_that_a_time_is_taken_once_and_never_again_for_other_weights(tmp_path: Path) -> None:
    times = LayerTimes(tmp_path)
    first = times.of(nn.Conv2d(3, 8, 3), (2, 3, 16, 16))
    assert first
    assert lines(tmp_path) == 1
    assert times.of(nn.Conv2d(3, 8, 3), (2, 3, 16, 16)) == first
    assert LayerTimes(tmp_path).of(nn.Conv2d(3, 8, 3), (2, 3, 16, 16)) == first
    assert lines(tmp_path) == 1


def test_that_batch_options_and_shapes_have_times_of_their_own(tmp_path: Path) -> None:
    times = LayerTimes(tmp_path)
    for layer, shape in (
        (nn.Conv2d(4, 8, 3), (1, 4, 9, 9)),
        (nn.Conv2d(4, 8, 3), (2, 4, 9, 9)),
        (nn.Conv2d(4, 8, 3, stride=2), (1, 4, 9, 9)),
        (nn.Conv2d(4, 6, 3), (1, 4, 9, 9)),
        (nn.Conv2d(4, 8, 3, bias=False), (1, 4, 9, 9)),
    ):
        assert times.of(layer, shape)
    assert lines(tmp_path) == 5


def test_that_half_the_channels_take_no_longer_than_all() -> None:
    dense, half = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
    times = LayerTimes()
    shape, small = (1, 64, 28, 28), (1, 32, 28, 28)
    whole = times.of(dense, shape)
    cut = times.of_all([Change(dense, shape, half, small), Change(dense, shape, half, small)])
    assert whole
    assert cut
    assert cut / 2 <= 1.1 * whole


def test_that_masks_and_shared_values_take_the_time_of_the_layer(tmp_path: Path) -> None:
    layer, times = nn.Linear(32, 16), LayerTimes(tmp_path)
    plain = times.of(layer, (4, 32))
    mask = torch.rand(16, 32) < 0.1
    sparse = CompactLayer(layer, {"weight": settled(MaskedForm(layer.weight.detach(), mask))})
    assert times.of(layer, (4, 32), sparse) == plain
    assert times.of(layer, (4, 32), held(layer, Codebook())) == plain
    assert times.of(layer, (4, 32), held(layer, Integer(bits=3))) == plain
    assert lines(tmp_path) == 1


def test_that_small_weights_take_the_faster_of_the_ways_that_they_run(tmp_path: Path) -> None:
    layer, times = nn.Linear(256, 256), LayerTimes(tmp_path)
    plain = times.of(layer, (1, 256))
    four = held(layer, Integer(bits=4, granularity="group", group_size=32))
    found = times.of(layer, (1, 256), four)
    assert plain
    assert found
    assert found <= plain
    assert lines(tmp_path) == 2
    convolution = nn.Conv2d(16, 16, 3)
    eight = held(convolution, Integer(bits=8))
    assert LayerTimes(tmp_path).of(convolution, (1, 16, 20, 20), eight)
    assert lines(tmp_path) == 3
    assert LayerTimes(tmp_path, integers=True).of(convolution, (1, 16, 20, 20), eight)
    assert lines(tmp_path) == 4


def test_that_chains_recurrent_layers_and_tables_have_times(tmp_path: Path) -> None:
    times, layer = LayerTimes(tmp_path), nn.Linear(256, 256)
    chain = Svd(keep=0.1).rewritten(layer)
    fast, plain = times.of(layer, (16, 256), chain), times.of(layer, (16, 256))
    assert plain
    assert fast
    assert fast < plain
    convolution = nn.Conv2d(8, 8, 3)
    rotated = Rotations().rewritten(convolution)
    assert times.of(convolution, (1, 8, 12, 12), rotated)
    assert times.of(nn.Embedding(50, 8), (2, 7))
    assert times.of(nn.LSTM(8, 8, batch_first=True), (2, 5, 8))


def test_that_a_layer_unknown_to_onnx_has_a_reason_and_no_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    times = LayerTimes(tmp_path)
    assert times.of(Solving(), (4, 4)) is None
    assert "linalg_solve" in LayerTimes(tmp_path).reason(Solving(), (4, 4))
    assert lines(tmp_path) == 1
    assert times.of(Solving(), (4, 4), nn.Linear(4, 4)) is not None
    assert times.of_all([Change(nn.Linear(4, 4), (4, 4), Solving())]) is None
    assert capfd.readouterr().out == ""


def test_that_a_line_cut_short_is_taken_again_and_hides_no_other(tmp_path: Path) -> None:
    layer = nn.Linear(8, 8)
    LayerTimes(tmp_path).of(layer, (1, 8))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert LayerTimes(tmp_path).of(layer, (1, 8))
    assert LayerTimes(tmp_path).of(nn.Linear(8, 4), (1, 8))
    known = path.read_bytes()
    assert LayerTimes(tmp_path).of(layer, (1, 8))
    assert path.read_bytes() == known


def test_that_a_cancelled_job_takes_no_time(tmp_path: Path) -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        LayerTimes(tmp_path).of(nn.Linear(8, 8), (1, 8), check=job.check)
    assert not list(tmp_path.iterdir())
