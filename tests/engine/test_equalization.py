"""Ranges of weights made even before they are rounded: the function stays, the error falls."""

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.equalization import equalize
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.batch_norm_folding import folded

INPUTS = torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(3))


def separable(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        *(nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs), nn.BatchNorm2d(inputs)),
        *(nn.ReLU(), nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)),
    ]


def mobile() -> Network:
    """Return a small MobileNet with channels as uneven as trained ones have."""
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *separable(16, 24),
        *separable(24, 24),
        *(nn.MaxPool2d(3), nn.Flatten(), nn.Linear(96, 10)),
    ).eval()
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.Conv2d):
                layer.weight *= torch.randn(len(layer.weight), 1, 1, 1).exp()
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(torch.randn_like(layer.weight).exp())
                layer.running_var.uniform_(0.1, 4.0)
                layer.running_mean.normal_()
                layer.bias.normal_(0.0, 0.3)
    return capture(module, (INPUTS[:2],))


def products(network: Network) -> list[str]:
    kinds = nn.Conv2d | nn.Linear
    return [name for name, layer in network.layers() if isinstance(layer, kinds)]


def outputs(network: Network) -> Tensor:
    with torch.no_grad():
        return network.outputs(INPUTS)[0]


def ranges(weight: Tensor, dim: int) -> Tensor:
    return weight.detach().abs().transpose(0, dim).flatten(1).amax(1)


@pytest.mark.parametrize("norms", [True, False])
def test_that_the_function_stays(norms: bool) -> None:
    network = mobile() if norms else folded(mobile())
    before = outputs(network)
    weight = network.layer("3").weight.clone()
    equalize(network, products(network))
    assert not torch.allclose(network.layer("3").weight, weight, rtol=0.1)
    difference = (outputs(network) - before).abs().max()
    assert difference < 1e-5 * before.abs().max()


def test_that_rows_before_a_norm_get_one_range_also_in_training() -> None:
    network = mobile()
    network.module.train()
    before = outputs(network.copy())
    equalize(network, products(network))
    rows = ranges(network.layer("3").weight, 0)
    assert torch.allclose(rows, rows.max().expand_as(rows))
    assert torch.allclose(outputs(network), before, atol=2e-2 * float(before.abs().max()))


def test_that_two_layers_share_the_ranges_of_their_channels() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    network = capture(module, (torch.zeros(1, 6),))
    first, second = (module[at].weight.detach().clone() for at in (0, 2))
    equalize(network, ["0", "2"])
    shared = (ranges(first, 0) * ranges(second, 1)).sqrt()
    assert torch.allclose(ranges(network.layer("0").weight, 0), shared, rtol=1e-4)
    assert torch.allclose(ranges(network.layer("2").weight, 1), shared, rtol=1e-4)


class Others(nn.Module):
    """Layers between which something is not positively homogeneous, or reads along."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        x = torch.relu(self.second(x))
        return self.third(x) + x


def test_that_other_layers_stay_as_they_are() -> None:
    network = capture(Others(), (torch.zeros(1, 6),))
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    equalize(network, ["first", "second", "third"])
    after = network.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def rounded(network: Network, equal: bool) -> Tensor:
    setting = Setting("integer", {"granularity": "tensor", "equalize": equal})
    recipe = Recipe(layers={name: Choice(precision=setting) for name in products(network)})
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    assert all(isinstance(made.layer(name), CompactLayer) for name in recipe.layers)
    return outputs(made)


@pytest.mark.parametrize("norms", [True, False])
def test_that_one_scale_in_all_costs_less_with_even_ranges(norms: bool) -> None:
    network = mobile() if norms else folded(mobile())
    exact = outputs(network)
    plain, equal = ((rounded(network, one) - exact).square().mean() for one in (False, True))
    assert equal < plain / 2
    assert torch.equal(outputs(network), exact)
