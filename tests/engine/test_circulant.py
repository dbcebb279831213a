"""Circulant blocks: their matrices, the nearest ones, and how small the files become."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.circulant import Circulant
from featherweight.engine.network import capture
from featherweight.engine.structured_layers import CirculantLinear
from featherweight.engine.writing.onnx import write_onnx


def matrix_of(layer: nn.Module, inputs: int) -> Tensor:
    """Return the matrix that a layer without bias computes with."""
    with torch.no_grad():
        result: Tensor = layer(torch.eye(inputs)).T
    return result


def blocks_by_definition(vectors: Tensor, outputs: int, inputs: int) -> Tensor:
    """Return the matrix number by number: in block (p, q) place (i, j) is vector[i - j]."""
    side = vectors.shape[1]
    columns = -(-inputs // side)
    made = torch.empty(outputs, inputs)
    for row in range(outputs):
        for column in range(inputs):
            vector = vectors[row // side * columns + column // side]
            made[row, column] = vector[(row - column) % side]
    return made


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from([4, 5, 7, 8, 16, 64, 65, 70]))
def test_that_the_layer_computes_what_circulant_blocks_are(
    outputs: int, inputs: int, side: int
) -> None:
    torch.manual_seed(outputs * 41 + inputs)
    layer = CirculantLinear(inputs, outputs, side, bias=False)
    layer.vectors = nn.Parameter(torch.randn_like(layer.vectors))
    expected = blocks_by_definition(layer.vectors.detach(), outputs, inputs)
    torch.testing.assert_close(matrix_of(layer, inputs), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from([4, 6, 9, 16, 100]))
def test_that_the_blocks_are_the_nearest_ones_and_hold_less_than_the_layer(
    outputs: int, inputs: int, side: int
) -> None:
    torch.manual_seed(outputs * 41 + inputs)
    layer = nn.Linear(inputs, outputs, bias=False)
    made = Circulant(block=side).rewritten(layer)[0]
    assert isinstance(made, CirculantLinear)
    assert made.vectors.numel() < layer.weight.numel()
    # What is left over of the nearest of a linear family is orthogonal to all of the family.
    rest = (layer.weight - matrix_of(made, inputs)).detach()
    for place in range(min(made.vectors.numel(), 30)):
        member = torch.zeros_like(made.vectors).flatten()
        member[place] = 1
        other = blocks_by_definition(member.reshape(made.vectors.shape), outputs, inputs)
        assert abs(float((rest * other).sum())) < 1e-5


def test_that_the_gradient_of_frequencies_is_that_of_the_matrix() -> None:
    torch.manual_seed(2)
    layer, x = CirculantLinear(24, 16, 8), torch.randn(5, 24)
    layer.vectors = nn.Parameter(torch.randn_like(layer.vectors))
    layer(x).square().sum().backward()
    assert layer.vectors.grad is not None
    whole = blocks_by_definition(layer.vectors.detach(), 16, 24).requires_grad_()
    nn.functional.linear(x, whole).square().sum().backward()
    assert whole.grad is not None
    expected = torch.zeros_like(layer.vectors)
    for row in range(16):
        for column in range(24):
            place = row // 8 * 3 + column // 8
            expected[place, (row - column) % 8] += whole.grad[row, column]
    torch.testing.assert_close(layer.vectors.grad, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("side", [8, 256])
def test_that_an_onnx_file_holds_the_vectors_and_not_the_matrix(side: int, tmp_path: Path) -> None:
    made = capture(nn.Sequential(nn.Linear(256, 256)).eval(), (torch.randn(2, 256),))
    made.replace("0", Circulant(block=side).rewritten(dict(made.layers())["0"]))
    export = write_onnx(made, tmp_path / "made.onnx", None, made, Job())
    numbers = 256 * 256 // side + 256
    assert export.checks["bytes"].value < 1.2 * 4 * numbers + 6_000


@pytest.mark.parametrize(
    ("layer", "word"), [(nn.Linear(1, 9), "too small"), (nn.Conv2d(8, 8, 1, groups=2), "groups")]
)
def test_that_a_layer_that_gains_nothing_is_locked_with_the_reason(
    layer: nn.Module, word: str
) -> None:
    assert word in Circulant.lock(layer)
