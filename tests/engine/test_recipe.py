"""Recipes as files: what goes in comes out, and what is wrong is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.engine.errors import UserError
from featherweight.engine.recipe import Choice, Recipe, Setting, recipe_from_yaml, recipe_to_yaml
from featherweight.engine.trainings import FineTuning

names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
options = st.dictionaries(
    names,
    st.one_of(st.booleans(), st.integers(-1000, 1000), st.floats(allow_nan=False, width=32), names),
    max_size=3,
)
settings = st.none() | st.builds(Setting, method=names, options=options)
choices = st.builds(
    Choice, structure=settings, sparsity=settings, precision=settings, coding=settings
)
recoveries = st.none() | st.builds(
    FineTuning,
    epochs=st.integers(0, 1000),
    learning_rate=st.floats(1e-7, 10.0),
    batch_size=st.integers(1, 65536),
)
recipes = st.builds(
    Recipe,
    layers=st.dictionaries(names, choices, max_size=4),
    recovery=recoveries,
    seed=st.integers(0, 2**31 - 1),
)


@given(recipes)
def test_that_a_recipe_written_as_yaml_reads_back_equal(recipe: Recipe) -> None:
    assert recipe_from_yaml(recipe_to_yaml(recipe), "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("version: 2", "field version"),
        ("layers: {conv1: {structur: {method: svd}}}", "conv1"),
        ("layers: {conv1: {structure: {method: 3}}}", "conv1"),
        ("recovery: {epochs: -1}", "field recovery.epochs"),
        ("recovery: {learning_rate: 100}", "field recovery.learning_rate"),
        ("recovery: {optimizer: adam}", "field recovery.optimizer"),
        ("seed: -1", "field seed: it has to be a whole number of at least 0"),
        ("unknown: 1", "unknown"),
        ("layers: [", "not valid YAML"),
        ("3", "it has to be named fields, not a whole number"),
    ],
)
def test_that_a_wrong_recipe_is_refused_with_file_and_field(text: str, place: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_from_yaml(text, "folder/recipe.yaml")
    assert "folder/recipe.yaml" in caught.value.message
    assert place in caught.value.message


def test_that_an_emptied_choice_leaves_no_trace_in_the_recipe() -> None:
    full = Recipe().with_choice("fc", Choice(precision=Setting("integer")))
    assert full.with_choice("fc", full.choice("fc").replaced("precision", None)) == Recipe()


def test_that_options_left_out_of_a_yaml_file_take_their_defaults() -> None:
    recipe = recipe_from_yaml("recovery: {}", "recipe.yaml")
    assert recipe.recovery == FineTuning()
