"""The best use of a budget, on networks and readings small enough to try everything."""

import itertools
import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from featherweight.engine.allocating.accuracy import (
    SMALLEST_ERROR,
    Fall,
    Tried,
    fitted,
    power_of,
    total,
)
from featherweight.engine.allocating.allocator import Allocator
from featherweight.engine.allocating.candidates import Group, Option, pair_factors
from featherweight.engine.allocating.choice_table import Whole
from featherweight.engine.allocating.layer_errors import LayerErrors
from featherweight.engine.allocating.planner import Metric, Planner
from featherweight.engine.allocating.rivals import families, uniform
from featherweight.engine.applicability import chosen_methods
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.jobs import unchecked
from featherweight.engine.network import Network, capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import AllocationRules, Limits, Reading, RecipeLoss, Spread
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Cost, Prediction

RULES = AllocationRules()
METRIC = Metric("top1")
CURVE = fitted([Fall(damage, 10 * math.log1p(50 * damage)) for damage in (0, 0.01, 0.1, 1)], 100)


def bits(count: int) -> Choice:
    """Return integers of so many bits."""
    return Choice(precision=Setting("integer", {"bits": count}))


def option(choice: Choice, damage: float, stored: int, macs: int = 0) -> Option:
    """Return an option of made-up worth."""
    return Option(choice, damage, Cost(parameters=0, macs=macs, bits=stored), 0.0)


def allocator(*layers: tuple[Option, ...], groups: tuple[Group, ...] = ()) -> Allocator:
    """Return an allocator of layers a, b … that cost 1,000 bits beside their own."""
    whole = sum(each[0].cost.bits for each in layers) + 1000
    macs = sum(each[0].cost.macs for each in layers)
    cost = Cost(parameters=0, macs=macs, bits=whole)
    source = Whole(
        cost, 0.0, "top1", lambda _: Prediction(layers={}, before=cost, after=cost, exact=True)
    )
    options = dict(zip("abcdefgh", layers, strict=False))
    return Allocator(options, groups, source, CURVE)


def three(seed: int) -> tuple[tuple[Option, ...], ...]:
    """Return three layers of four options."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for _ in range(3):
        size = int(torch.randint(100, 2000, (1,), generator=generator))
        damages = torch.rand(3, generator=generator).sort().values.tolist()
        own = [option(Choice(), 0.0, 32 * size)]
        own += [option(bits(b), d, b * size) for b, d in zip((8, 4, 2), damages, strict=True)]
        layers.append(tuple(own))
    return tuple(layers)


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_that_no_other_choice_within_the_limit_loses_less(seed: int, share: float) -> None:
    layers = three(seed)
    limit = share * (sum(each[0].cost.bits for each in layers) + 1000)
    tried = [
        sum(each.damage for each in picked)
        for picked in itertools.product(*layers)
        if sum(each.cost.bits for each in picked) + 1000 <= limit
    ]
    if not tried:
        with pytest.raises(UserError, match="No choice gets below"):
            allocator(*layers).allocate(Limits(bits=limit), RULES)
        return
    found = allocator(*layers).allocate(Limits(bits=limit), RULES)
    assert found.cost.bits <= limit
    assert found.damage == pytest.approx(min(tried), rel=0.005, abs=1e-9)


def test_that_rules_are_kept() -> None:
    layers = three(1)
    rules = AllocationRules(fixed={"a": bits(4)}, excluded=("b",))
    limit = sum(layer[at].cost.bits for layer, at in zip(layers, (2, 0, 1), strict=True)) + 1000
    found = allocator(*layers).allocate(Limits(bits=limit), rules)
    assert found.recipe.choice("a") == bits(4)
    assert found.recipe.choice("b").empty
    only = AllocationRules(methods=("magnitude",))
    with pytest.raises(UserError, match="No choice gets below"):
        allocator(*layers).allocate(Limits(bits=limit), only)


def test_that_a_limit_on_the_drop_gives_the_smallest_network_within_it() -> None:
    layers = three(3)
    found = allocator(*layers).allocate(Limits(drop=12.0), RULES, "bits")
    assert found.drop is not None
    assert found.drop.value <= 12.0
    smaller = [
        sum(each.cost.bits for each in picked) + 1000
        for picked in itertools.product(*layers)
        if CURVE and CURVE.drop(sum(each.damage for each in picked)).value <= 12.0
    ]
    assert found.cost.bits <= 1.02 * min(smaller)


def test_that_a_frontier_tells_what_an_allocation_gives() -> None:
    layers = three(5)
    made = allocator(*layers)
    points = made.frontier("bits", RULES).points
    assert [point.damage for point in points] == sorted((p.damage for p in points), reverse=True)
    for point in points:
        found = made.allocate(Limits(bits=point.budget), RULES)
        assert found.damage <= point.damage + 1e-9


def test_that_channels_go_from_a_group_where_that_loses_less() -> None:
    pruned = Choice(structure=Setting("channel_pruning", {"ratio": 0.5}))
    layers = tuple((option(Choice(), 0.0, 1000, 1000),) for _ in range(2))
    group = Group(("a",), (Choice(), pruned), (0.0, 0.1), ({}, {"a": 0.5, "b": 0.5}))
    made = allocator(*layers, groups=(group,))
    found = made.allocate(Limits(macs=1010), RULES)
    assert found.recipe.choice("a") == pruned
    assert found.recipe.choice("b").empty
    assert found.damage == pytest.approx(0.1)
    assert made.allocate(Limits(macs=2000), RULES).damage == 0
    with pytest.raises(UserError, match="No choice keeps"):
        made.allocate(Limits(macs=1000), AllocationRules(excluded=("a",)))


@given(st.lists(st.floats(0, 5), min_size=6, max_size=20, unique=True), st.floats(0.5, 8))
def test_that_the_drop_never_falls_as_the_damage_grows(damages: list[float], slope: float) -> None:
    curve = fitted([Fall(each, slope * math.log1p(50 * each)) for each in damages], 100)
    assert curve is not None
    drops = [curve.drop(each).value for each in sorted(damages)]
    assert drops == sorted(drops)
    assert all(curve.drop(each).error >= SMALLEST_ERROR for each in damages)
    assert curve.drop(curve.damage(1.0)).value == pytest.approx(1.0, rel=1e-3)


def test_that_of_too_few_networks_no_drop_is_told() -> None:
    assert fitted([Fall(0.1, 1.0)] * 3, 100) is None


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_that_networks_say_how_damages_of_layers_add_up(power: float) -> None:
    generator = torch.Generator().manual_seed(0)
    tried = []
    for _ in range(12):
        parts = tuple((torch.rand(6, generator=generator) ** 4).tolist())
        tried.append(Tried(parts, total(parts, power), 0.0))
    assert power_of(tried) == power


def test_that_few_values_harm_factors_more_than_the_weight_they_make() -> None:
    network, coupling, _ = small()
    rows = torch.randn(1, 64, 384, generator=torch.Generator().manual_seed(0))
    errors = LayerErrors(network, coupling, "5", rows)
    low = Choice(structure=Setting("svd", {"keep": 0.75}))

    def growth(precision: Choice) -> float:
        both = low.replaced("precision", precision.precision)
        return errors.growth((low, precision), both, unchecked)

    assert growth(bits(8)) == pytest.approx(1, abs=0.05)
    assert growth(bits(2)) > 1.5
    sparse = Choice(sparsity=Setting("magnitude", {"sparsity": 0.5}))
    both = sparse.replaced("precision", bits(2).precision)
    assert errors.growth((sparse, bits(2)), both, unchecked) == 1


def test_that_measured_pairs_say_how_damages_add_up() -> None:
    sparse = Choice(sparsity=Setting("magnitude", {"sparsity": 0.5}))
    both = sparse.replaced("precision", bits(4).precision)
    told = [(sparse, 0.1), (bits(4), 0.2), (both, 0.6)]
    readings = [
        Reading(layers=("a",), choice=choice, basis="measured", damage=Spread(damage, 0.0))
        for choice, damage in told
    ]
    network, coupling, _ = small()
    errors = LayerErrors(network, coupling, "0", None)
    assert pair_factors(readings, lambda _: errors) == {
        ("magnitude", "integer"): pytest.approx(2.0)
    }


def small() -> tuple[Network, Coupling, Predictor]:
    """Return a network of two convolutions and a linear layer, 0, 2 and 5."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
    net.append(nn.Flatten()).append(nn.Linear(24 * 16, 10))
    network = capture(net, (torch.randn(2, 3, 8, 8),))
    coupling = analyse(network)
    return network, coupling, Predictor(network, coupling)


def test_that_kept_layers_cost_what_they_do_though_nothing_was_read_of_them() -> None:
    network, coupling, predictor = small()
    readings = [
        Reading(layers=(name,), choice=bits(4), basis="measured", damage=Spread(0.1, 0.0))
        for name in ("0", "2")
    ]
    planner = Planner(network, coupling, predictor, survey(network).layers)
    made = planner.allocator(readings, (), METRIC)
    pruned = Choice(structure=Setting("channel_pruning", {"ratio": 0.5}))
    for fixed in ({"5": bits(2)}, {"5": bits(2), "0": pruned}):
        limit = predictor.before.bits / 8
        rules = AllocationRules(fixed=fixed)
        found = made.allocate(Limits(bits=limit), rules)
        assert {name: found.recipe.choice(name) for name in fixed} == fixed
        assert found.cost.bits <= limit
        assert set(found.unread) == set(fixed)
        assert made.frontier("bits", rules).basis == "estimated"
    assert found.cost.bits == pytest.approx(planner.prediction(found.recipe).after.bits, rel=0.15)
    alone = made.allocate(Limits(bits=limit), AllocationRules(fixed={"5": bits(2)}))
    assert alone.cost == planner.prediction(alone.recipe).after


def test_that_choices_of_which_nothing_was_read_are_named() -> None:
    network, coupling, predictor = small()
    reading = Reading(layers=("0",), choice=bits(4), basis="measured", damage=Spread(0.1, 0.0))
    planner = Planner(network, coupling, predictor, survey(network).layers)
    losses = planner.allocator([reading], (), METRIC).losses
    both = Recipe(layers={"0": bits(4), "2": bits(4)})
    assert losses.of(both) == RecipeLoss(damage=pytest.approx(0.1), unread=("2",))
    assert losses.of(Recipe()) == RecipeLoss(damage=0.0)


def test_that_simple_uses_of_a_budget_keep_what_is_held() -> None:
    layers = dict(zip("abc", three(1), strict=True))
    rules = AllocationRules(fixed={"a": bits(2)}, excluded=("b",))
    told = {repr(each.fixed["c"]): each for each in uniform(layers, rules)}
    assert set(told) == {repr(bits(count)) for count in (8, 4, 2)}
    assert all(each.fixed["a"] == bits(2) and each.excluded == ("b",) for each in told.values())
    sparse = option(Choice(sparsity=Setting("magnitude", {"sparsity": 0.5})), 0.1, 900)
    layers["c"] = (*layers["c"], sparse)
    assert [each.methods for each in families(layers, RULES)] == [("integer",), ("magnitude",)]
    assert not list(families(layers, AllocationRules(methods=("integer",))))
    left = next(each for each in uniform(layers, RULES) if sparse.choice in each.fixed.values())
    assert (left.fixed, left.excluded) == ({"c": sparse.choice}, ("a", "b"))


def test_that_the_cost_of_an_allocation_is_that_of_its_recipe() -> None:
    network, coupling, predictor = small()
    sparse = Choice(sparsity=Setting("magnitude", {"sparsity": 0.8}))
    low = Choice(structure=Setting("svd", {"keep": 0.25}))
    told = [(bits(8), 0.001), (bits(4), 0.05), (bits(3), 0.2), (sparse, 0.1), (low, 0.4)]
    readings = [
        Reading(layers=(name,), choice=choice, basis="measured", damage=Spread(damage, 0.0))
        for name, layer in network.layers()
        for choice, damage in told
        if choice is not low or isinstance(layer, nn.Linear)
    ]
    made = Planner(network, coupling, predictor, survey(network).layers)
    for share in (3, 6, 10, 16):
        limit = predictor.before.bits / share
        found = made.allocator(readings, (), METRIC).allocate(Limits(bits=limit), RULES)
        chosen = chosen_methods(network, coupling, found.recipe)
        assert found.cost == predictor.predict(found.recipe, chosen).after
        assert found.cost.bits <= limit


def test_that_a_limit_on_time_is_met_by_what_readings_say_of_it(tmp_path: Path) -> None:
    network = capture(nn.Sequential(nn.Linear(256, 256)), (torch.randn(8, 256),))
    coupling = analyse(network)
    planner = Planner(network, coupling, Predictor(network, coupling), survey(network).layers)
    planner.time_layers(tmp_path, False, lambda: None)
    faster = Reading(
        layers=("0",),
        choice=bits(4),
        basis="measured",
        damage=Spread(0.1, 0.01),
        latency=-planner.latency / 2,
    )
    found = planner.allocator([faster], (), METRIC).allocate(
        Limits(latency=0.6 * planner.latency), RULES
    )
    assert found.recipe.choice("0").precision == bits(4).precision
    assert found.latency == pytest.approx(planner.latency / 2)
