"""Editing a recipe as plain data: locks, coupled layers, and what merges into one step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.engine.layer import Layer
from featherweight.engine.options import SLOTS, Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.trainings import FineTuning
from featherweight.gui.commands import (
    Edit,
    RecipeCommand,
    edited,
    moved_control,
    moved_training,
    with_choices,
)

NAMES = ("a", "b", "c", "d", "e")
METHODS: dict[Slot, tuple[str, ...]] = {
    "structure": ("channel_pruning", "svd"),
    "sparsity": ("magnitude",),
    "precision": ("integer", "codebook"),
    "coding": ("huffman",),
}


def layer(name: str, coupled: tuple[str, ...] = (), locks: dict[str, str] | None = None) -> Layer:
    return Layer(
        name=name,
        kind="Conv2d",
        summary="",
        weights={},
        parameters=1,
        macs=1,
        activations=1,
        input_shape=(1,),
        output_shape=(1,),
        coupled=coupled,
        locks=locks or {},
    )


def network(*made: Layer) -> dict[str, Layer]:
    return {each.name: each for each in made}


def edit(names: tuple[str, ...], setting: Setting | None, slot: Slot = "structure") -> Edit:
    return Edit(names=names, slot=slot, setting=setting)


PRUNING = Setting("channel_pruning", {"ratio": 0.5})
COUPLED = network(layer("a", ("c",)), layer("b"), layer("c", ("a",)))


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    slot = draw(st.sampled_from(SLOTS))
    setting = draw(
        st.none()
        | st.builds(
            Setting,
            st.sampled_from(METHODS[slot]),
            st.dictionaries(st.sampled_from(("ratio", "bits")), st.integers(0, 3)),
        )
    )
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return Edit(names=tuple(names), slot=slot, setting=setting)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Layer]:
    group = draw(st.sets(st.sampled_from(NAMES)))
    locked = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("svd", "integer"))))
    return network(
        *(
            layer(
                name,
                tuple(sorted(group - {name})) if name in group else (),
                {locked[name]: "no"} if name in locked else {},
            )
            for name in NAMES
        )
    )


@given(networks(), st.lists(edits(), max_size=8))
def test_that_coupled_layers_always_share_their_channel_pruning(
    layers: dict[str, Layer], steps: list[Edit]
) -> None:
    recipe = Recipe()
    for step in steps:
        recipe = edited(layers, recipe, step).recipe
    for name, one in layers.items():
        setting = recipe.choice(name).structure
        if setting is not None and setting.method == "channel_pruning":
            for partner in one.coupled:
                assert recipe.choice(partner).structure == setting


@given(networks(), st.lists(edits(), max_size=8))
def test_that_no_layer_is_given_a_method_it_is_locked_for(
    layers: dict[str, Layer], steps: list[Edit]
) -> None:
    recipe = Recipe()
    for step in steps:
        recipe = edited(layers, recipe, step).recipe
    for name, choice in recipe.layers.items():
        assert not choice.empty
        for slot in SLOTS:
            setting = choice.setting(slot)
            assert setting is None or setting.method not in layers[name].locks


@given(networks(), edits(), edits())
def test_that_an_edit_made_twice_changes_nothing_the_second_time(
    layers: dict[str, Layer], first: Edit, second: Edit
) -> None:
    once = edited(layers, edited(layers, Recipe(), first).recipe, second)
    twice = edited(layers, once.recipe, second)
    assert twice.recipe == once.recipe
    assert twice.changed == ()


def test_that_pruning_one_layer_prunes_the_layers_coupled_to_it() -> None:
    change = edited(COUPLED, Recipe(), edit(("a",), PRUNING))
    assert change.recipe.layers == {"a": Choice(structure=PRUNING), "c": Choice(structure=PRUNING)}
    assert set(change.changed) == {"a", "c"}


def test_that_another_method_frees_the_coupled_layers_of_their_pruning() -> None:
    pruned = edited(COUPLED, Recipe(), edit(("a",), PRUNING)).recipe
    svd = Setting("svd", {"rank": 4})
    assert edited(COUPLED, pruned, edit(("c",), svd)).recipe.layers == {"c": Choice(structure=svd)}


@pytest.mark.parametrize(
    ("names", "left"), [(("a",), {"a", "c"}), (("a", "c"), {"c"})], ids=("alone", "together")
)
def test_that_a_refused_method_leaves_no_layer_pruned_without_its_partners(
    names: tuple[str, ...], left: set[str]
) -> None:
    layers = network(layer("a", ("c",), {"svd": "no"}), layer("c", ("a",)))
    pruned = edited(layers, Recipe(), edit(("a",), PRUNING)).recipe
    change = edited(layers, pruned, edit(names, Setting("svd")))
    assert change.refused == {"a": "no"}
    assert set(change.recipe.layers) == left


def test_that_a_locked_layer_is_left_alone_and_its_reason_told() -> None:
    layers = network(layer("a"), layer("b", locks={"channel_pruning": "it is the classifier"}))
    change = edited(layers, Recipe(), edit(("a", "b"), PRUNING))
    assert change.changed == ("a",)
    assert change.refused == {"b": "it is the classifier"}


def test_that_choices_stand_in_the_order_of_the_network() -> None:
    given = {"c": Choice(structure=PRUNING), "a": Choice(structure=PRUNING), "x": Choice()}
    assert list(with_choices(COUPLED, Recipe(), given).layers) == ["a", "c"]


def test_that_only_moves_of_one_option_have_a_key_in_common() -> None:
    first = edited(COUPLED, Recipe(), edit(("b",), PRUNING)).recipe
    moved = Setting("channel_pruning", {"ratio": 0.6})
    rescored = Setting("channel_pruning", {"ratio": 0.5, "score": "l2"})
    both = Setting("channel_pruning", {"ratio": 0.6, "score": "l2"})
    assert moved_control(Recipe(), edit(("b",), PRUNING)) is None
    assert moved_control(first, edit(("b",), moved)) is not None
    assert moved_control(first, edit(("b",), rescored)) != moved_control(first, edit(("b",), moved))
    assert moved_control(first, edit(("b",), both)) is None


def test_that_moves_of_the_recovery_merge_only_within_one_option() -> None:
    old = FineTuning(epochs=1)
    assert moved_training("recovery", None, old) is None
    assert moved_training("recovery", old, FineTuning(epochs=2)) == ("recovery", "epochs")
    assert moved_training("recovery", old, FineTuning(epochs=2, batch_size=32)) is None


def test_that_a_merged_step_leads_back_to_where_the_first_began() -> None:
    recipes = [Recipe(seed=seed) for seed in range(3)]
    now: list[Recipe] = []
    first = RecipeCommand("", recipes[0], recipes[1], now.append, ("a",))
    other = RecipeCommand("", recipes[1], recipes[2], now.append, ("b",))
    same = RecipeCommand("", recipes[1], recipes[2], now.append, ("a",))
    assert not first.mergeWith(other)
    assert first.mergeWith(same)
    first.undo()
    first.redo()
    assert now == [recipes[0], recipes[2]]
