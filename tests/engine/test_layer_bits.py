"""The stored bits of a layer as it is, which the window compares predictions with."""

import torch
from torch import nn

from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.network import capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.recipe import Recipe


def test_that_layers_hold_the_bits_that_an_empty_recipe_predicts() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
    ).eval()
    network = capture(module, (torch.zeros(2, 1, 8, 8),))
    layers = survey(network).layers
    prediction = Predictor(network, analyse(network)).predict(Recipe(), {})
    assert {layer.name: layer.bits for layer in layers if layer.bits} == {
        name: cost.bits for name, cost in prediction.layers.items() if cost.bits
    }
    assert sum(layer.bits for layer in layers) == prediction.before.bits
