"""Fastfood: what its layer computes, how it learns, how near it starts, how small files become."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence, InputMoments
from featherweight.engine.fastfood_layers import FastfoodLinear
from featherweight.engine.methods.structure.fastfood import Fastfood
from featherweight.engine.network import capture
from featherweight.engine.results import Export


def drawn(layer: FastfoodLinear) -> FastfoodLinear:
    """Fill all tensors of a layer with random numbers."""
    for name, value in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(torch.randn_like(value)))
    return layer


def order_of(layer: FastfoodLinear) -> Tensor:
    return layer.order(torch.ones(layer.blocks, layer.side, dtype=torch.bool))


def expanded(layer: FastfoodLinear, tensors: dict[str, Tensor]) -> Tensor:
    """Return the matrix that diagonals stand for, outputs by inputs, from whole matrices."""
    side = layer.side
    whole = torch.from_numpy(hadamard(side)).float() / side**0.5
    orders = order_of(layer).reshape(layer.blocks, side)
    parts = []
    for block in range(layer.blocks):
        place = torch.eye(side)[orders[block] - block * side]
        inner = torch.diag(tensors["middle"][block]) @ place @ whole
        parts.append(whole @ inner[:, : layer.in_features] @ torch.diag(tensors["first"][block]))
    terms = torch.cat(parts).reshape(layer.terms, -1, layer.in_features)[:, : layer.out_features]
    return (terms * tensors["last"][:, :, None]).sum(0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**40))
def test_that_the_hadamard_matrix_undoes_itself_and_orders_name_each_place_once(
    inputs: int, outputs: int, terms: int, seed: int
) -> None:
    layer = FastfoodLinear(inputs, outputs, terms, seed)
    x = torch.randn(3, layer.blocks, layer.side)
    signs = layer.signs(torch.ones(1, 1))
    again = layer.hadamard(layer.hadamard(x, signs), signs)
    torch.testing.assert_close(again, x, rtol=1e-4, atol=1e-5)
    assert order_of(layer).sort().values.tolist() == list(range(layer.blocks * layer.side))


@pytest.mark.parametrize(
    ("inputs", "outputs", "terms"), [(16, 16, 1), (12, 40, 2), (33, 5, 3), (1, 3, 1), (2, 2, 1)]
)
def test_that_outputs_and_gradients_are_those_of_the_whole_matrix(
    inputs: int, outputs: int, terms: int
) -> None:
    torch.manual_seed(5)
    layer = drawn(FastfoodLinear(inputs, outputs, terms))
    x = torch.randn(2, 3, inputs, requires_grad=True)
    tensors = dict(layer.named_parameters())
    names = ["first", "middle", "last", "bias"]
    made = layer(x)
    wanted = nn.functional.linear(x, expanded(layer, tensors), layer.bias)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)
    held = [x, *(tensors[name] for name in names)]
    gradients = (torch.autograd.grad(each.sin().sum(), held) for each in (made, wanted))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_that_orders_of_blocks_and_seeds_differ_and_scatter_neighbours() -> None:
    first, second = order_of(FastfoodLinear(256, 512)).chunk(2)
    assert not torch.equal(first, second - 256)
    assert not torch.equal(first, order_of(FastfoodLinear(256, 256, seed=1)))
    # Of random orders, steps from one place to the next are of about 180 lengths.
    assert all(int(order.diff().unique().numel()) > 120 for order in (first, second))


def lost(method: Fastfood, layer: nn.Linear) -> float:
    """Return what share of a weight's energy is lost."""
    with torch.no_grad():
        chain = method.rewritten(layer)
        matrix = (chain(torch.eye(layer.in_features)) - layer.bias).T
        return float((matrix - layer.weight).square().sum() / layer.weight.square().sum())


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (48, 100), (100, 20)])
def test_that_more_terms_are_nearer_and_hold_at_least_their_share(
    inputs: int, outputs: int
) -> None:
    torch.manual_seed(5)
    layer = nn.Linear(inputs, outputs)
    few, many = (lost(Fastfood(terms=terms), layer) for terms in (1, 4))
    chain = Fastfood(terms=1).skeleton(layer)
    held = sum(value.numel() for value in chain.parameters() if value.ndim > 1)
    assert 1 - few > 0.7 * held / layer.weight.numel()
    assert many < few


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(24,), (16, 8)])
def test_that_evidence_brings_the_outputs_nearer(widths: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(5)
    layer = nn.Linear(24, 32, bias=bias)
    x = torch.randn(500, 24) * torch.logspace(0, -2, 24) + 0.3
    blocks = tuple((part.T @ part / len(part))[None] for part in x.split(widths, 1))
    moments = InputMoments(1, blocks, x.mean(0)[None])
    method = Fastfood(metric="outputs")
    with torch.no_grad():
        plain, near = (
            float((chain(x) - layer(x)).square().mean())
            for chain in (
                method.rewritten(layer),
                method.informed(layer, {"weight": Evidence(moments)}),
            )
        )
    assert method.needs() == {"moments"}
    assert near < 0.8 * plain


@pytest.mark.parametrize(
    ("layer", "word"), [(nn.Linear(3, 3), "too small"), (nn.Conv2d(8, 8, 3), "linear layers")]
)
def test_that_a_layer_that_gains_nothing_is_locked_with_the_reason(
    layer: nn.Module, word: str
) -> None:
    assert word in Fastfood.lock(layer)


def test_that_fastfood_goes_into_every_file_and_back_and_files_hold_no_tables(
    tmp_path: Path, in_every_file: Callable[..., dict[str, Export]]
) -> None:
    torch.manual_seed(5)
    source = capture(nn.Sequential(nn.Linear(300, 600)).eval(), (torch.randn(2, 300),))
    made = source.copy()
    made.replace("0", Fastfood(terms=2).rewritten(source.layer("0")))
    exports = in_every_file(made, {}, tmp_path, (torch.randn(3, 300),), source)
    numbers = sum(value.numel() for value in made.module.parameters())
    assert exports["onnx"].checks["bytes"].value < 4 * numbers + 12_000
