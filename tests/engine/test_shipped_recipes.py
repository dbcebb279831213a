"""The recipes that are shipped: they open, their networks take them, and they are as small."""

import re
from pathlib import Path

import pytest
import torch
from architectures.early import Lenet5, Lenet300
from architectures.residual import SmallResidual

from featherweight.engine.applicability import check_trainable, chosen_methods
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.network import capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.recipe import read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "resources" / "recipes").glob("*.yaml"))
# Weights that were never trained fall into values a little more evenly than trained ones.
SLACK = 0.8


NETWORKS = {
    "lenet-300-100": Lenet300,
    "digits": Lenet300,
    "lenet-5": Lenet5,
    "residual": SmallResidual,
}


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_that_a_shipped_recipe_fits_its_network_and_is_as_small_as_its_name_says(
    path: Path,
) -> None:
    kind = next(name for name in NETWORKS if path.stem.startswith(f"{name}-"))
    torch.manual_seed(0)
    network = capture(NETWORKS[kind]().eval(), (torch.randn(2, 1, 28, 28),))
    recipe = read_recipe(path)
    check_trainable(network, recipe)
    coupling = analyse(network)
    predicted = Predictor(network, coupling).predict(
        recipe, chosen_methods(network, coupling, recipe)
    )
    smaller = re.search(r"-(\d+)x$", path.stem)
    factor = predicted.before.bits / predicted.after.bits
    assert factor >= SLACK * (int(smaller[1]) if smaller else 1)
    if "faster" in path.stem:
        assert predicted.after.macs < predicted.before.macs / 2
