"""Sweeps: what they read, what they leave out, and that nothing that stops them changes the end."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from featherweight.engine.atlas.atlas import Atlas
from featherweight.engine.atlas.changes import Change
from featherweight.engine.atlas.damage import Sums
from featherweight.engine.atlas.levels import FIRST, going_on, levels
from featherweight.engine.atlas.order import portions
from featherweight.engine.atlas.store import Line, ReadingStore
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import Reading, Spread, SweepPlan
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.results import Cost
from featherweight.engine.task import Task

SAMPLES = 600
PLAN = SweepPlan(
    choices=(
        *(Choice(precision=Setting("integer", {"bits": bits})) for bits in (8, 4, 3, 2)),
        *(Choice(sparsity=Setting("magnitude", {"sparsity": share})) for share in (0.3, 0.8)),
        Choice(structure=Setting("svd", {"keep": 0.4, "multiple": 1})),
        Choice(structure=Setting("channel_pruning", {"ratio": 0.5})),
    ),
    samples=SAMPLES,
)


def atlas_of(poison: bool = False) -> Atlas:
    """Return the atlas of a trained network; with poison some of its sums are not finite."""
    torch.manual_seed(1)
    inputs = torch.randn(1200, 12)
    labels = (inputs @ torch.randn(12, 4)).argmax(1)
    module = nn.Sequential(
        nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)
    )
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    if poison:
        inputs[0] = torch.nan
    network = capture(module, (inputs[2:4],))
    samples = TensorSamples((inputs,), labels)
    task = Task(TaskSource(), "classification", Dataset(samples, samples, True), network, 4)
    coupling = analyse(network)
    return Atlas(network, coupling, Predictor(network, coupling), task)


def swept(store: Path, plan: SweepPlan = PLAN) -> Mapping[str, Reading]:
    """Return what a sweep into a store ends with."""
    atlas = atlas_of()
    atlas.sweep(plan, str(store), Job(), lambda _: None)
    return atlas.readings


class Slow(Job):
    """A job that takes its time."""

    def check(self) -> None:
        time.sleep(0.004)
        super().check()


def slowly(store: str) -> None:
    """Sweep as a process of its own, with time at every reading to be killed."""
    torch.set_num_threads(1)
    atlas_of().sweep(PLAN, store, Slow(), lambda _: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Reading]]:
    """Return a store that one sweep filled, and its readings."""
    store = tmp_path_factory.mktemp("undisturbed")
    return store, swept(store)


def lines(store: Path) -> list[bytes]:
    return [line for path in store.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_that_everything_is_estimated_first_and_then_measured() -> None:
    atlas, told = atlas_of(), list[Reading]()
    estimate = atlas.estimate(PLAN)
    summary = atlas.sweep(PLAN, "", Job(), told.extend)
    bases = [reading.basis for reading in told]
    first = bases.index("measured")
    assert set(bases[:first]) == {"estimated"}
    assert set(bases[first:]) == {"measured"}
    # Every layer takes every choice, and the last layer alone keeps its channels.
    assert first == summary.readings == estimate.missing == 3 * len(PLAN.choices) - 1
    assert (summary.failed, summary.known, estimate.known) == (0, 0, 0)
    assert (summary.damage, summary.metric, summary.samples) == ("divergence", "top1", SAMPLES)
    for reading in atlas.readings.values():
        assert reading.damage is not None
        assert reading.cost is not None
        assert FIRST <= reading.samples <= SAMPLES
        assert reading.cost.bits < 0


def test_that_estimates_order_settings_much_as_measured_damage_does() -> None:
    atlas, told = atlas_of(), list[Reading]()
    atlas.sweep(PLAN, "", Job(), told.extend)
    pairs = []
    for reading in told:
        if reading.basis == "estimated" and reading.damage:
            same = next(
                one
                for one in atlas.readings.values()
                if (one.layers, one.choice) == (reading.layers, reading.choice)
            )
            assert same.damage is not None
            pairs.append((reading.damage.value, same.damage.value))
    ranks = torch.tensor(pairs).argsort(0).argsort(0).double()
    assert float(torch.corrcoef(ranks.T)[0, 1]) > 0.6


def test_that_settings_stop_early_and_unclear_ones_are_read_on_all_samples() -> None:
    readings = list(atlas_readings().values())
    samples = {reading.samples for reading in readings}
    assert min(samples) < SAMPLES
    assert samples <= set(levels(SAMPLES))
    for reading in readings:
        assert reading.damage is not None
        unsure = reading.damage.error > max(0.12 * reading.damage.value, 1e-3)
        known = not unsure or reading.damage.value > 0.5
        assert (
            reading.samples == SAMPLES
            or known
            or any(better(other, reading) for other in readings if other.layers == reading.layers)
        )


def better(one: Reading, other: Reading) -> bool:
    """Say whether one setting loses less than another of the same layer and costs no more."""
    assert one.damage is not None
    assert one.cost is not None
    assert other.damage is not None
    assert other.cost is not None
    return one.damage.value < other.damage.value and one.cost.bits <= other.cost.bits


def atlas_readings() -> Mapping[str, Reading]:
    atlas = atlas_of()
    atlas.sweep(PLAN, "", Job(), lambda _: None)
    return atlas.readings


def test_that_a_second_sweep_reads_nothing(
    undisturbed: tuple[Path, Mapping[str, Reading]],
) -> None:
    store, readings = undisturbed
    before, told = lines(store), list[Reading]()
    atlas = atlas_of()
    assert atlas.estimate(PLAN, str(store)).missing == 0
    summary = atlas.sweep(PLAN, str(store), Job(), told.extend)
    assert (summary.known, len(told)) == (summary.readings, summary.readings)
    assert atlas.readings == readings
    assert lines(store) == before


def test_that_a_wider_plan_reads_only_what_is_missing(tmp_path: Path) -> None:
    narrow = msgspec.structs.replace(PLAN, choices=PLAN.choices[:4], samples=256)
    swept(tmp_path, narrow)
    before = lines(tmp_path)
    more = msgspec.structs.replace(narrow, choices=PLAN.choices[:6])
    atlas = atlas_of()
    atlas.sweep(more, str(tmp_path), Job(), lambda _: None)
    added = lines(tmp_path)[len(before) :]
    assert lines(tmp_path)[: len(before)] == before
    keys = {msgspec.json.decode(line)["key"] for line in before}
    assert all(msgspec.json.decode(line)["key"] not in keys for line in added)
    assert len(atlas.readings) == 3 * 6


def test_that_kills_at_any_moment_change_nothing_of_the_end(
    undisturbed: tuple[Path, Mapping[str, Reading]], tmp_path: Path
) -> None:
    whole, readings = undisturbed
    chance = random.Random(4)
    for share in (0.3, 0.7):
        process = subprocess.Popen([sys.executable, __file__, str(tmp_path)])
        enough = share * len(lines(whole)) + chance.randrange(5)
        while len(lines(tmp_path)) < enough and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert 0 < len(lines(tmp_path)) < len(lines(whole))
    assert swept(tmp_path) == readings
    # Whole lines that are there are not written again.
    assert len(lines(tmp_path)) == len(lines(whole))


def test_that_a_cancelled_sweep_goes_on_where_it_was(
    undisturbed: tuple[Path, Mapping[str, Reading]], tmp_path: Path
) -> None:
    whole, readings = undisturbed
    half = len(lines(whole)) // 2

    class Cancelled(Job):
        def check(self) -> None:
            if len(lines(tmp_path)) >= half:
                self.cancel()
            super().check()

    with pytest.raises(CancelledError):
        atlas_of().sweep(PLAN, str(tmp_path), Cancelled(), lambda _: None)
    assert len(lines(tmp_path)) == half
    assert swept(tmp_path) == readings


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_that_a_line_that_was_torn_is_cut_and_read_again(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "readings.jsonl"
    store = ReadingStore(path)
    for samples in (1, 2, 3):
        store.add(Line("a", sums=Sums(samples, 0.1, (1 / 3, 2.0), (0.5, 0.7), (0.0, 0.0))))
    os.truncate(path, path.stat().st_size - cut)
    again = ReadingStore(path)
    assert again.sums("a", 2) == store.sums("a", 2)
    assert again.sums("a", 3) is None
    again.add(Line("b", cost=Cost(parameters=1, macs=2, bits=3)))
    assert ReadingStore(path).cost("b") == Cost(parameters=1, macs=2, bits=3)
    assert ReadingStore(path).latest("a", 100) == store.sums("a", 2)


def test_that_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "readings.jsonl"
    path.write_text("once upon a time\n")
    with pytest.raises(UserError, match=r"readings.jsonl, line 1 is no reading"):
        ReadingStore(path)


def test_that_what_fails_is_a_reading_with_its_reason() -> None:
    both = Choice(sparsity=Setting("magnitude", {"sparsity": 0.5}), precision=Setting("binary", {}))
    atlas = atlas_of()
    plan = SweepPlan(choices=(both, PLAN.choices[0]), layers=("0",), samples=FIRST)
    summary = atlas.sweep(plan, "", Job(), lambda _: None)
    failed = [reading for reading in atlas.readings.values() if reading.reason]
    assert (summary.readings, summary.failed) == (2, 1)
    assert failed[0].damage is None
    assert "cannot have both a sparsity and this precision" in failed[0].reason


def test_that_a_sweep_times_what_it_changes_where_the_plan_asks_for_it(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(PLAN, choices=PLAN.choices[-2:], samples=FIRST, latency=True)
    readings = swept(tmp_path, plan)
    assert readings
    assert all(reading.latency is not None for reading in readings.values())
    assert swept(tmp_path, plan) == readings
    blind = swept(tmp_path, msgspec.structs.replace(plan, choices=PLAN.choices[:1], latency=False))
    assert all(reading.latency is None for reading in blind.values())


def test_that_numbers_of_the_source_that_are_not_finite_are_told() -> None:
    with pytest.raises(UserError, match="original network gives numbers that are not finite"):
        atlas_of(poison=True).sweep(PLAN, "", Job(), lambda _: None)


def test_that_settings_stop_that_can_change_nothing() -> None:
    def change(layer: str, bits: int) -> Change:
        return Change((layer,), Choice(precision=Setting("integer", {"bits": bits})))

    damages = {
        change("a", 8): Spread(1e-5, 1e-5),
        change("a", 6): Spread(0.02, 0.001),
        change("a", 4): Spread(0.02, 0.01),
        change("a", 3): Spread(2.0, 0.5),
        change("b", 8): Spread(0.1, 0.02),
        change("b", 7): Spread(0.01, 0.005),
    }
    sizes = {"a": {8: 8, 6: 6, 4: 4, 3: 3}, "b": {8: 8, 7: 7}}
    costs = {
        one: Cost(parameters=0, macs=0, bits=sizes[one.layers[0]][_bits(one)]) for one in damages
    }
    on = {(one.layers[0], _bits(one)) for one in going_on(damages, costs, "divergence", 2)}
    # Harmless, precise and hopeless ones stop, and what loses more than a smaller one.
    assert on == {("a", 4), ("b", 7)}


def test_that_settings_come_first_that_could_change_an_allocation_most() -> None:
    def change(layer: str, bits: int) -> Change:
        return Change((layer,), Choice(precision=Setting("integer", {"bits": bits})))

    worst, rival, best, plain, blank = (
        change(*one) for one in (("a", 2), ("a", 5), ("a", 4), ("b", 4), ("b", 3))
    )
    damages = {worst: 3.0, rival: 0.02, best: 0.01, plain: 0.3}
    order = (blank, plain, best, rival, worst)
    saved = {worst: -9, rival: -4, best: -5, plain: -7, blank: -8}
    costs = {one: Cost(parameters=0, macs=0, bits=bits) for one, bits in saved.items()}
    assert portions([*damages, blank], damages, costs, 0.7) == [list(order)]
    many = [change(f"l{at}", 4) for at in range(200)]
    parts = portions(many, {}, dict.fromkeys(many, costs[best]), 0.7)
    assert [each for part in parts for each in part] == many
    assert len(parts) == 3


def _bits(change: Change) -> int:
    assert change.choice.precision is not None
    return int(change.choice.precision.options["bits"])


def test_that_a_plan_without_choices_of_its_own_holds_what_layers_can_take() -> None:
    plan = atlas_of().plan()
    methods = {
        setting.method
        for choice in plan.choices
        for setting in (choice.structure, choice.sparsity, choice.precision)
        if setting
    }
    # Its layers are no convolutions.
    assert methods == {"integer", "codebook", "magnitude", "svd", "channel_pruning"}
    assert len(plan.choices) <= 20


if __name__ == "__main__":
    slowly(sys.argv[1])
