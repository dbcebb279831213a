"""The search for a layer's structure: what was put into it is what is found."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.errors import CancelledError
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.best_structure import KINDS, BestStructure
from featherweight.engine.methods.structure.monarch import Monarch
from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting

SIDE = 64


def circulant() -> Tensor:
    values = torch.randn(SIDE)
    return torch.stack([values.roll(row) for row in range(SIDE)])


def toeplitz() -> Tensor:
    values = torch.randn(2 * SIDE)
    return torch.stack([values[row : row + SIDE].flip(0) for row in range(SIDE)])


def low_rank() -> Tensor:
    return torch.randn(SIDE, 8) @ torch.randn(8, SIDE)


def monarch() -> Tensor:
    chain = Monarch(keep=0.25, blocks=8).rewritten(nn.Linear(SIDE, SIDE, bias=False))
    with torch.no_grad():
        for value in chain.parameters():
            value.normal_()
        result: Tensor = chain(torch.eye(SIDE)).T
    return result


def spatial() -> Tensor:
    tall, wide = torch.randn(16, 5, 1, 3), torch.randn(5, 16, 3, 1)
    return torch.einsum("nrok,rcvo->ncvk", tall, wide)


def pointwise_of_depthwise() -> Tensor:
    return torch.randn(16, 16, 1, 1) * torch.randn(1, 16, 3, 3)


def layer_of(weight: Tensor) -> nn.Module:
    layer: nn.Module = nn.Linear(SIDE, SIDE)
    if weight.ndim == 4:
        layer = nn.Conv2d(16, 16, 3, padding=1, stride=2)
    noisy = weight + 0.01 * weight.std() * torch.randn_like(weight)
    layer.register_parameter("weight", nn.Parameter(noisy))
    return layer


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (circulant, "circulant"),
        (toeplitz, "toeplitz_like"),
        (low_rank, "svd"),
        (monarch, "monarch"),
        (spatial, "separable"),
        (pointwise_of_depthwise, "depthwise_separable"),
    ],
)
def test_that_a_planted_structure_is_found_in_noise(
    planted: Callable[[], Tensor], found: str
) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        assert BestStructure(keep=0.25).resolved(layer_of(planted())).name == found


@pytest.mark.parametrize("keep", [0.1, 0.4])
def test_that_what_is_found_holds_what_is_kept_and_none_of_the_others_is_nearer(
    keep: float,
) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(48, 80)
    best = BestStructure(keep=keep)
    assert sum(value.numel() for value in best.skeleton(layer).parameters()) <= (
        keep * layer.weight.numel() + 80
    )
    x = torch.eye(48)
    errors = {
        kind.name: float((kind(keep=keep).rewritten(layer)(x) - layer(x)).detach().norm())
        for kind in KINDS
        if kind.strength == "keep" and not kind.lock(layer)
    }
    lost = float((best.rewritten(layer)(x) - layer(x)).detach().norm())
    assert lost <= min(errors.values()) * 1.01


def test_that_a_recipe_stands_for_the_method_that_is_nearest_to_the_source() -> None:
    torch.manual_seed(3)
    network = capture(nn.Sequential(layer_of(circulant())).eval(), (torch.randn(2, SIDE),))
    (name,) = dict(network.layers())
    recipe = Recipe(layers={name: Choice(structure=Setting("best_structure", {"keep": 0.25}))})
    chosen = [chosen_methods(network, analyse(network), recipe)[name] for _ in range(2)]
    assert chosen[0].structure is not None
    assert chosen[0].structure.name == "circulant"
    assert chosen[0].structure is chosen[1].structure


def test_that_a_cancelled_job_stops_the_search_as_soon_as_a_recipe_is_looked_at() -> None:
    network = capture(nn.Sequential(nn.Linear(SIDE, SIDE)).eval(), (torch.randn(2, SIDE),))
    (name,) = dict(network.layers())
    recipe = Recipe(layers={name: Choice(structure=Setting("best_structure"))})
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        chosen_methods(network, analyse(network), recipe, job.check)


def test_that_what_is_found_goes_by_outputs_where_that_was_asked() -> None:
    torch.manual_seed(5)
    layers = layer_of(low_rank()), layer_of(circulant())
    found = [BestStructure(keep=0.25, metric="outputs").resolved(layer) for layer in layers]
    assert [(method.name, set(method.needs())) for method in found] == [
        ("svd", {"moments"}),
        ("circulant", set()),
    ]
    assert not BestStructure(keep=0.25).resolved(layers[0]).needs()


def test_that_other_weights_in_the_same_layer_are_looked_at_anew() -> None:
    torch.manual_seed(4)
    layer, best = layer_of(circulant()), BestStructure(keep=0.25)
    first = best.resolved(layer).name
    with torch.no_grad():
        layer.get_parameter("weight").copy_(low_rank())
    assert (first, best.resolved(layer).name) == ("circulant", "svd")


def test_that_a_layer_that_no_structure_takes_is_locked_with_the_reason() -> None:
    assert "No structure takes it" in BestStructure.lock(nn.Embedding(8, 8))
