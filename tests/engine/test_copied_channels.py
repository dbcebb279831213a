"""Opposite and shared filters: planted ones are found, others are near, and files hold both."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.copying_layers import CopiedChannels
from featherweight.engine.evidence import Evidence, InputMoments
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.pairing import Costs, cheapest_pairs
from featherweight.engine.methods.structure.multi_bias import MultiBias
from featherweight.engine.methods.structure.negation import Negation
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export
from featherweight.engine.weight_forms import settle

TAKEN: list[tuple[Callable[[], nn.Module], Tensor]] = [
    (lambda: nn.Linear(20, 16), torch.randn(3, 5, 20)),
    (lambda: nn.Conv1d(6, 16, 5, stride=2, padding="valid"), torch.randn(2, 6, 17)),
    (lambda: nn.Conv2d(8, 16, 3, padding=1, dilation=2, groups=2), torch.randn(2, 8, 9, 9)),
    (lambda: nn.Conv2d(4, 16, 3, padding=1, padding_mode="reflect"), torch.randn(2, 4, 7, 7)),
    (lambda: nn.Conv3d(4, 16, 2, bias=False), torch.randn(2, 4, 4, 5, 6)),
]


def planted(layer: nn.Module, each: int, sign: float) -> nn.Module:
    """Let filters be multiples of others in their group: `each` in a row of a shuffled order."""
    groups = getattr(layer, "groups", 1)
    weight = layer.get_parameter("weight")
    with torch.no_grad():
        for group in weight.chunk(groups):
            for row in torch.randperm(len(group)).reshape(-1, each).tolist():
                for place in row[1:]:
                    group[place] = sign * float(0.2 + 2 * torch.rand(1)) * group[row[0]]
    return layer


@pytest.mark.parametrize(("made", "x"), TAKEN)
@pytest.mark.parametrize(
    ("method", "each", "sign"),
    [
        (Negation(share=1.0), 2, -1.0),
        (MultiBias(keep=0.5, multiple=1), 2, 1.0),
        (MultiBias(keep=0.25, multiple=1), 4, 1.0),
    ],
)
def test_that_planted_filters_are_found_and_outputs_stay(
    made: Callable[[], nn.Module], x: Tensor, method: FactorMethod, each: int, sign: float
) -> None:
    torch.manual_seed(5)
    layer = planted(made(), each, sign)
    chain = method.rewritten(layer)
    kernels, copies = chain
    assert isinstance(copies, CopiedChannels)
    weight = layer.get_parameter("weight")
    assert kernels.get_parameter("weight").numel() * each == weight.numel()
    assert (copies.bias is None) == (layer.bias is None)
    with torch.no_grad():
        expected = layer(x)
        assert float((chain(x) - expected).abs().max()) < 1e-6 * float(expected.abs().max())


@pytest.mark.parametrize(("made", "x"), TAKEN[:3])
@pytest.mark.parametrize("method", [Negation(share=0.5), MultiBias(keep=0.6, multiple=4)])
def test_that_the_skeleton_has_the_tensors_of_the_real_chain(
    made: Callable[[], nn.Module], x: Tensor, method: FactorMethod
) -> None:
    layer = made()
    tensors = [
        {name: (value.shape, value.dtype) for name, value in chain.state_dict().items()}
        for chain in (method.skeleton(layer), method.rewritten(layer))
    ]
    assert tensors[0] == tensors[1]
    assert method.rewritten(layer)(x).shape == layer(x).shape


def test_that_filters_without_a_pair_stay_as_they_are() -> None:
    torch.manual_seed(5)
    layer = nn.Linear(12, 8)
    with torch.no_grad():
        layer.weight[6] = -0.5 * layer.weight[1]
    chain = Negation(share=0.25).rewritten(layer)
    copies = chain[1]
    assert isinstance(copies, CopiedChannels)
    alone = [0, 2, 3, 4, 5, 7]
    sources = copies.get_buffer("sources").long()
    held = chain[0].get_parameter("weight")[sources] * copies.scales[:, None]
    torch.testing.assert_close(held[alone], layer.weight[alone], rtol=0, atol=0)
    assert sources[1] == sources[6]
    torch.testing.assert_close(copies.scales[[1, 6]].detach(), torch.tensor([1.0, -0.5]))


def test_that_filters_of_one_direction_are_no_opposites_and_the_other_way_round() -> None:
    torch.manual_seed(5)
    direction = torch.randn(12)
    layer = nn.Linear(12, 2, bias=False)
    for signs, method in (((1.0, 2.0), Negation(share=1.0)), ((1.0, -2.0), MultiBias())):
        layer.weight = nn.Parameter(torch.stack([sign * direction for sign in signs]))
        copies = method.rewritten(layer)[1]
        assert isinstance(copies, CopiedChannels)
        # The longer one stays, and nothing of the right sign is near the other.
        assert copies.scales.abs().tolist() == [0.0, 1.0]


def test_that_kernels_of_filters_are_the_nearest_in_the_sum_of_squares() -> None:
    torch.manual_seed(5)
    direction, layer = torch.randn(30), nn.Linear(30, 3, bias=False)
    layer.weight = nn.Parameter(direction + 0.3 * torch.randn(3, 30))
    chain = MultiBias(keep=0.34).rewritten(layer)
    with torch.no_grad():
        left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
        nearest = left[:, :1] * values[0] @ right[:1]
        torch.testing.assert_close(chain(torch.eye(30)).T, nearest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [Negation(share=0.8), MultiBias(keep=0.5)])
@pytest.mark.parametrize("bias", [True, False])
def test_that_evidence_brings_the_outputs_nearer(method: FactorMethod, bias: bool) -> None:
    torch.manual_seed(5)
    layer = nn.Linear(24, 32, bias=bias)
    x = torch.randn(500, 24) @ torch.randn(24, 24).tril() * torch.logspace(0, -2, 24) + 0.3
    moments = InputMoments(1, ((x.T @ x / len(x))[None],), x.mean(0)[None])
    by_data = type(method)(**{**options_of(method), "metric": "outputs"})
    with torch.no_grad():
        plain, near = (
            float((chain(x) - layer(x)).square().mean())
            for chain in (
                method.rewritten(layer),
                by_data.informed(layer, {"weight": Evidence(moments)}),
            )
        )
    assert by_data.needs() == {"moments"}
    assert near < 0.8 * plain


def options_of(method: FactorMethod) -> dict[str, object]:
    return {name: getattr(method, name) for name in method.__struct_fields__}


def least_cost(costs: Costs, places: tuple[int, ...], pairs: int) -> float:
    """Return the cost of the cheapest pairs of all there are."""
    if pairs == 0:
        return 0.0
    if len(places) < 2 * pairs:
        return float("inf")
    first, rest = places[0], places[1:]
    paired = (
        costs[first, other] + least_cost(costs, tuple(set(rest) - {other}), pairs - 1)
        for other in rest
    )
    return float(min(least_cost(costs, rest, pairs), *paired))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_that_no_exchange_makes_pairs_cheaper(count: int, seed: int, share: float) -> None:
    costs = np.random.default_rng(seed).random((count, count))
    costs = costs + costs.T
    wanted = max(1, int(share * count / 2))
    pairs = np.stack(cheapest_pairs(costs, wanted), 1).tolist()
    assert len({place for pair in pairs for place in pair}) == 2 * len(pairs) == 2 * wanted
    assert pairs == sorted(pairs)
    single = set(range(count)) - {place for pair in pairs for place in pair}
    for one, other in pairs:
        for place in single:
            assert costs[one, other] <= min(costs[one, place], costs[other, place])
    for (one, other), (first, second) in combinations(pairs, 2):
        now = costs[one, other] + costs[first, second]
        assert now <= costs[one, first] + costs[other, second] + 1e-9
        assert now <= costs[one, second] + costs[other, first] + 1e-9


def test_that_pairs_cost_about_as_little_as_the_cheapest_there_are() -> None:
    ratios = []
    for seed in range(150):
        costs = np.random.default_rng(seed).random((8, 8))
        costs = costs + costs.T
        first, second = cheapest_pairs(costs, 1 + seed % 4)
        least = least_cost(costs, tuple(range(8)), 1 + seed % 4)
        ratios.append(costs[first, second].sum() / least)
    assert min(ratios) > 1 - 1e-9
    assert np.mean(ratios) < 1.02


@pytest.mark.parametrize("kind", [Negation, MultiBias])
@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), "beside it"),
        (nn.Linear(9, 1), "beside it"),
        (nn.Linear(3, 20), "too small"),
        (nn.ConvTranspose2d(8, 8, 2), "transposed"),
        (nn.Embedding(8, 8), "linear layers"),
    ],
)
def test_that_a_layer_without_filters_to_share_is_locked_with_the_reason(
    kind: type[FactorMethod], layer: nn.Module, word: str
) -> None:
    assert word in kind.lock(layer)


class Block(nn.Module):
    """Plain convolutions with batch norms, a residual block, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.conv1, self.norm1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        result: Tensor = self.fc((x + y).relu().flatten(1))
        return result


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    module = Block().eval()
    for norm in (module.norm1, module.norm2):
        nn.init.uniform_(norm.weight, -1.0, 2.0)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return capture(module, (torch.randn(2, 3, 8, 8),))


def test_that_copies_go_into_every_file_and_back(
    network: Network, tmp_path: Path, in_every_file: Callable[..., dict[str, Export]]
) -> None:
    opposite, shared = Setting("negation", {"share": 0.75}), Setting("multi_bias")
    integers = Setting("integer", {"bits": 4})
    recipe = Recipe(
        layers={
            "stem.0": Choice(structure=opposite),
            "conv1": Choice(structure=shared, precision=integers),
            "conv2": Choice(structure=opposite, sparsity=Setting("magnitude"), precision=integers),
            "fc": Choice(structure=shared),
        }
    )
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    inputs = torch.randn(3, 3, 8, 8)
    in_every_file(made, codings(made, chosen), tmp_path, (inputs,), network)
    graph = onnx.load(tmp_path / "made.onnx").graph
    # The norms are part of the copies; the tables stay bytes.
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    tables = [one for one in graph.initializer if one.name.endswith("sources")]
    assert [table.data_type for table in tables] == [onnx.TensorProto.UINT8] * 4
