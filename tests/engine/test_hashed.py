"""Hashed weights: no index is stored, and the same seed gives the same weight everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.engine.applicability import Chosen, chosen_methods
from featherweight.engine.compression import constrain
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.hashed import Hashed, HashedForm, hashed
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.weight_forms import Symbols, settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx


def network() -> Network:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    return capture(module.eval(), (torch.randn(4, 256),))


def shrunk(method: Hashed) -> Network:
    made = network()
    constrain(made, {"0": Chosen(precision=method)})
    settle(made)
    return made


def mixed(place: int, seed: int) -> int:
    """Hash one place in Python's unbounded numbers."""
    word = (1 << 32) - 1
    value = (place * 0x61C88647 + seed) & word
    for shift, factor in ((16, 0x7FEB352D), (15, 0x2C1B3C6D)):
        value = ((value ^ value >> shift) * factor) & word
    return value ^ value >> 16


@pytest.mark.parametrize("seed", [0, 1, 65535])
def test_that_buckets_and_signs_are_those_of_the_hash_worked_out_one_by_one(seed: int) -> None:
    buckets, signs = hashed(5000, 77, seed)
    values = [mixed(place, seed) for place in range(5000)]
    assert buckets.tolist() == [value // 2 % 77 for value in values]
    assert signs.tolist() == [-1.0 if value & 1 else 1.0 for value in values]


def test_that_the_hash_spreads_evenly_and_signs_balance_within_rows_and_columns() -> None:
    buckets, signs = hashed(512 * 512, 1024, 7)
    counts = np.bincount(buckets.numpy(), minlength=1024)
    # 256 to a bucket with a standard deviation of 16, were it random.
    assert 15 < counts.std() < 17
    table = signs.reshape(512, 512)
    for axis in (0, 1):
        assert table.sum(axis).std().item() == pytest.approx(512**0.5, rel=0.1)


def test_that_values_start_at_the_mean_of_their_weights_with_the_least_error() -> None:
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    form = Hashed(weights_per_value=6, seed=3).trainable(weight, None)
    buckets, signs = hashed(600, 100, 3)
    gathered = torch.zeros(100, 600).scatter_(0, buckets.long().unsqueeze(0), signs.unsqueeze(0))
    best = torch.linalg.lstsq(gathered.T, weight.reshape(-1, 1)).solution
    torch.testing.assert_close(form.settled().state_dict()["values"], best.reshape(-1))


def test_that_the_archive_holds_values_and_a_seed_and_no_index(tmp_path: Path) -> None:
    made = shrunk(Hashed(weights_per_value=64))
    ledger = write_archive(made, {}, tmp_path / "made.fwz")
    entry = next(entry for entry in ledger.entries if entry.original == 32 * 256 * 128)
    assert (entry.values, entry.tables, entry.indices) == (32 * 512, 64, 0)
    assert entry.bits == 32 * 512 + 64


def test_that_an_onnx_file_holds_the_values_alone_and_gives_the_same_outputs(
    tmp_path: Path,
) -> None:
    made = shrunk(Hashed(weights_per_value=64))
    export = write_onnx(made, tmp_path / "made.onnx", None, network(), Job())
    assert export.checks["relative_error"].value < 1e-5
    dense = 4 * 256 * 128
    assert export.checks["bytes"].value < dense / 8


def test_that_another_seed_shares_the_values_otherwise() -> None:
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    first, again, other = (Hashed(seed=seed).trainable(weight, None)() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("table", [(0, 0), (0, 9), (0, 700), (1,), (1, 2, 3)])
def test_that_a_table_that_fits_no_weight_is_refused(table: tuple[int, ...]) -> None:
    symbols = Symbols(np.zeros(8, np.uint32), 32, None)
    parts = {"tables": np.array(table, np.uint32)}
    with pytest.raises(ValueError, match="do not fit"):
        HashedForm.rebuilt((30, 20), symbols, parts)


def test_that_hashed_weights_and_a_sparsity_exclude_each_other() -> None:
    source = network()
    choice = Choice(sparsity=Setting("magnitude", {"sparsity": 0.5}), precision=Setting("hashed"))
    with pytest.raises(UserError, match="Layer 0 cannot have both a sparsity and this precision"):
        chosen_methods(source, analyse(source), Recipe(layers={"0": choice}))
    assert "Needs retraining" in Hashed.advice
