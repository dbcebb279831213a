"""Statistics, histogram and spectrum of one layer, against numbers planted in its weight."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.inspecting.spectrum import singular_values
from featherweight.engine.inspecting.statistics import details
from featherweight.engine.layer import LayerDetails
from featherweight.engine.network import Network, capture
from featherweight.engine.weight_forms import CompactLayer, WeightForm


def described(layer: nn.Module) -> LayerDetails:
    """Describe a layer that is all of a network."""
    network = Network(nn.Sequential(layer), (torch.zeros(1, 1),), graph_lock="not captured")
    return details(network, "0")


def linear(weight: Tensor) -> nn.Linear:
    """A linear layer of a weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight)
    return layer


def test_that_statistics_are_those_of_the_numbers_in_the_weight() -> None:
    found = described(linear(torch.tensor([[0.0, 1.0, -3.0], [0.0, 2.0, 6.0]])))
    assert (found.minimum, found.maximum, found.mean) == (-3, 6, 1)
    assert found.deviation == pytest.approx((44 / 6) ** 0.5)
    assert found.zeros == pytest.approx(1 / 3)


def test_that_the_histogram_holds_every_weight_between_the_extremes() -> None:
    weight = torch.randn(30, 40)
    histogram = described(linear(weight)).histogram
    assert sum(histogram.counts) == 1200
    assert len(histogram.edges) == len(histogram.counts) + 1 == 101
    assert histogram.edges[0] == pytest.approx(float(weight.min()))
    assert histogram.edges[-1] == pytest.approx(float(weight.max()))
    below = sum(histogram.counts[:50])
    assert below == int((weight < histogram.edges[50]).sum())


def test_that_equal_weights_fall_into_one_bin() -> None:
    counts = described(nn.BatchNorm2d(16)).histogram.counts
    assert sorted(counts)[-1] == sum(counts) == 16


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (12, 12)])
def test_that_planted_singular_values_are_found(shape: tuple[int, int]) -> None:
    planted = torch.tensor([9.0, 4.0, 4.0, 1.0, 0.01] + [0.0] * 7)
    left = torch.linalg.qr(torch.randn(shape[0], 12)).Q
    right = torch.linalg.qr(torch.randn(shape[1], 12)).Q
    found = described(linear((left * planted) @ right.T)).spectrum
    assert len(found) == 12
    assert found == pytest.approx(planted.tolist(), abs=1e-5)


def test_that_a_wide_matrix_has_the_energy_of_its_weights() -> None:
    matrix = torch.randn(1100, 1500)
    found = np.array(singular_values(matrix))
    exact = torch.linalg.eigvalsh(matrix.double() @ matrix.double().T).sqrt().flip(0)
    assert found == pytest.approx(exact.numpy(), rel=1e-3)
    assert (found**2).sum() == pytest.approx(float((matrix.double() ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize("fall", [0.2, 0.5, 1.5])
def test_that_the_estimated_energy_of_a_huge_matrix_is_true_at_every_rank(fall: float) -> None:
    exact = np.arange(1, 2101) ** -fall
    matrix = torch.zeros(2200, 2100)
    matrix[:2100].fill_diagonal_(1.0).mul_(torch.tensor(exact, dtype=torch.float32))
    found = np.array(singular_values(matrix))
    assert found.shape == exact.shape
    assert (np.diff(found) <= 0).all()
    assert found[:3] == pytest.approx(exact[:3], rel=0.03)
    kept = [np.cumsum(values**2) / (values**2).sum() for values in (found, exact)]
    assert np.abs(kept[0] - kept[1]).max() < 0.015


def test_that_a_huge_matrix_of_few_ranks_or_zeros_is_estimated_too() -> None:
    found = singular_values(torch.diag(torch.tensor([*range(80, 40, -1)] + [0] * 2060).float()))
    assert found[:40] == pytest.approx(list(range(80, 40, -1)), rel=1e-3)
    assert max(found[40:]) < 0.1
    assert set(singular_values(torch.zeros(2100, 2200))) == {0.0}


@pytest.mark.parametrize("side", [2048, 2049])
def test_that_a_layer_says_from_which_width_on_its_spectrum_is_estimated(side: int) -> None:
    found = described(linear(torch.zeros(side, side)))
    assert found.spectrum_estimated == (side == 2049)


@pytest.mark.parametrize(
    ("layer", "matrix"),
    [
        (nn.Conv2d(4, 6, 3), (6, 36)),
        (nn.Conv2d(8, 8, 3, groups=8), (8, 9)),
        (nn.ConvTranspose2d(6, 4, 3), (4, 54)),
        (nn.LSTM(5, 3), (12, 5)),
        (nn.Embedding(50, 6), (50, 6)),
    ],
)
def test_that_a_weight_is_seen_as_outputs_by_the_rest(
    layer: nn.Module, matrix: tuple[int, int]
) -> None:
    weight = max(layer.parameters(), key=torch.numel).detach()
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)
    expected = torch.linalg.svdvals(weight.reshape(matrix)).tolist()
    assert described(layer).spectrum == pytest.approx(expected, abs=1e-5)


def test_that_a_recurrent_layer_is_seen_by_the_inputs_of_both_directions() -> None:
    layer = nn.GRU(3, 4, bidirectional=True)
    both = torch.cat([layer.weight_ih_l0, layer.weight_ih_l0_reverse]).detach()
    assert described(layer).spectrum == pytest.approx(torch.linalg.svdvals(both).tolist(), abs=1e-5)


def test_that_a_norm_has_no_spectrum() -> None:
    assert described(nn.LayerNorm(8)).spectrum == ()


def test_that_a_layer_of_buffers_alone_has_nothing_to_describe() -> None:
    found = described(nn.BatchNorm2d(4, affine=False))
    assert (found.mean, found.spectrum, found.histogram.counts) == (0, (), (0,))


class Halved(WeightForm):
    """A weight that is kept at half its size."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(tuple(weight.shape))
        self.register_buffer("small", weight / 2)

    def forward(self) -> Tensor:
        """Return the weight."""
        return self.get_buffer("small") * 2


def test_that_a_weight_in_another_form_is_described_as_it_decodes() -> None:
    layer = nn.Linear(6, 4)
    compact = CompactLayer(layer, {"weight": Halved(layer.weight.detach())})
    network = capture(nn.Sequential(layer), (torch.zeros(2, 6),))
    network.replace("0", compact)
    assert details(network, "0") == described(layer)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e-42, 0.0])
def test_that_a_weight_of_odd_numbers_is_described_all_the_same(odd: float) -> None:
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight.fill_(odd)
        layer.weight[0] = 1e-42
    found = described(layer)
    assert sum(found.histogram.counts) == int(layer.weight.isfinite().sum())
    assert bool(found.spectrum) == bool(layer.weight.isfinite().all())
