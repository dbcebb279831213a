"""Hashed frequencies: values for cosine coefficients of kernels, most of them for low ones."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import constrain
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.frequency import Frequency, FrequencyForm
from featherweight.engine.network import Network, capture
from featherweight.engine.weight_forms import Symbols, settle
from featherweight.engine.weight_unpacking import cosines, frequency_bands, frequency_places
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.safetensors import write_safetensors


def network() -> Network:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(16, 64, 3), nn.ReLU(), nn.Conv2d(64, 4, 1))
    return capture(module.eval(), (torch.randn(2, 16, 8, 8),))


def shrunk(method: Frequency) -> Network:
    made = network()
    constrain(made, {"0": Chosen(precision=method)})
    settle(made)
    return made


def smooth(*shape: int) -> Tensor:
    """Return kernels of which a frequency has a third of the next lower one's size."""
    generator = torch.Generator().manual_seed(1)
    coefficients = torch.randn(math.prod(shape[:2]), math.prod(shape[2:]), generator=generator)
    falling = 3.0 ** -frequency_bands(list(shape[2:]))
    return ((coefficients * falling) @ cosines(list(shape[2:]))).reshape(shape)


@pytest.mark.parametrize("sides", [(3, 3), (5, 2), (4,), (2, 3, 2)])
def test_that_the_basis_is_the_orthonormal_cosine_transform(sides: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).normal(size=sides)
    found = cosines(list(sides)).double() @ torch.from_numpy(kernel.reshape(-1))
    expected = dctn(kernel, norm="ortho").reshape(-1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@given(
    st.tuples(*(st.integers(1, 9) for _ in range(4))),
    st.integers(2, 512),
    st.floats(0.1, 1.0),
)
def test_that_low_frequencies_get_more_values_and_each_at_least_one(
    shape: tuple[int, ...], share: int, falloff: float
) -> None:
    method = Frequency(weights_per_value=share, falloff=falloff)
    form = method.trainable(torch.ones(shape), None).settled()
    sizes = np.bincount(frequency_bands(list(shape[2:])).numpy()) * math.prod(shape[:2])
    assert all(1 <= held <= size for held, size in zip(form.buckets, sizes, strict=True))
    assert form.values.numel() == method.symbol_count(shape) == sum(form.buckets)
    # Rounding is off by half a value for each frequency.
    densities = [held / size for held, size in zip(form.buckets, sizes, strict=True)]
    slack = [2 / size for size in sizes]
    pairs = zip(densities, densities[1:], slack, slack[1:], strict=False)
    assert all(later <= former + first + second for former, later, first, second in pairs)


def test_that_values_start_where_the_error_is_least() -> None:
    weight = smooth(6, 4, 3, 3)
    form = Frequency(weights_per_value=6, seed=3).trainable(weight, None)
    places, signs = frequency_places([6, 4, 3, 3], 3, list(form.buckets))
    kernels = torch.zeros(sum(form.buckets), 24, 9)
    for value in range(len(kernels)):
        kernels[value] = ((places == value) * signs) @ cosines([3, 3])
    best = torch.linalg.pinv(kernels.flatten(1).T) @ weight.reshape(-1)
    torch.testing.assert_close(form.settled().values, best, atol=1e-5, rtol=1e-4)


def test_that_smooth_kernels_lose_less_when_low_frequencies_get_more() -> None:
    weight = smooth(32, 32, 5, 5)
    even, falling = (
        (Frequency(weights_per_value=4, falloff=share).trainable(weight, None)() - weight).norm()
        for share in (1.0, 0.3)
    )
    assert falling < 0.8 * even


def test_that_files_hold_the_values_alone_and_give_the_same_outputs(tmp_path: Path) -> None:
    made, dense = shrunk(Frequency(weights_per_value=32)), 4 * 64 * 16 * 9
    entries = write_archive(made, {}, tmp_path / "made.fwz").entries
    entry = next(entry for entry in entries if entry.original == 8 * dense)
    assert (entry.values, entry.tables, entry.indices) == (8 * dense // 32, 32 * 6, 0)
    for write, name, error in (
        (write_onnx(made, tmp_path / "made.onnx", None, network(), Job()), "made.onnx", 1e-5),
        (write_safetensors(made, tmp_path / "made.safetensors", Job()), "made.safetensors", 1e-6),
    ):
        assert write.checks["relative_error"].value <= error
        assert (tmp_path / name).stat().st_size < dense / 3


def test_that_training_moves_the_values_alone() -> None:
    form = Frequency().trainable(smooth(8, 8, 3, 3), None)
    before = form().detach()
    (form() ** 2).sum().backward()
    with torch.no_grad():
        form.values -= 0.1 * form.values.grad
    assert (form() ** 2).sum() < (before**2).sum()
    assert torch.equal(form().detach(), form.settled()())


@pytest.mark.parametrize("table", [(0,), (0, 1, 1, 1, 1, 0), (0, 9, 9, 9, 9, 9), (0, 2, 2, 2, 1)])
def test_that_a_table_that_fits_no_weight_is_refused(table: tuple[int, ...]) -> None:
    symbols = Symbols(np.zeros(8, np.uint32), 32, None)
    parts = {"tables": np.array(table, np.uint32)}
    with pytest.raises(ValueError, match="do not fit"):
        FrequencyForm.rebuilt((4, 2, 3, 3), symbols, parts)


@pytest.mark.parametrize("layer", [nn.Linear(8, 8), nn.Conv2d(8, 8, 1), nn.Embedding(8, 8)])
def test_that_layers_without_kernels_are_locked(layer: nn.Module) -> None:
    assert "no frequencies" in Frequency.lock(layer)
    assert Frequency.lock(nn.Conv2d(8, 8, (1, 3))) == ""
