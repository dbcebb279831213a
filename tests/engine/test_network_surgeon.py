"""Surgery on all layers at once finds what the network can do without."""

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import constrain
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.network_surgery import DAMPING, damped_inverse
from featherweight.engine.methods.sparsity.network_surgeon import NetworkSurgeon
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.task import Task
from featherweight.engine.weight_forms import densified

PLACES = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = torch.tensor([0, 1, 1, 0])


def solving(seed: int) -> nn.Sequential:
    """Train 2 tanh units on XOR, and put a third beside them that does what one of them does.

    The two that are alike share its outgoing weights, the smaller part of these to the third.
    """
    torch.manual_seed(seed)
    while True:
        module = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
        optimizer = torch.optim.Adam(module.parameters(), 0.05, weight_decay=1e-4)
        for _ in range(400):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(PLACES), XOR).backward()
            optimizer.step()
        if correct(module(PLACES)) == 4:
            break
    wide = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        for name in ("weight", "bias"):
            narrow = module[0].get_parameter(name)
            wide[0].get_parameter(name).copy_(torch.cat([narrow, narrow[1:]]))
        outgoing = module[2].get_parameter("weight")
        shared = torch.cat([outgoing[:, :1], 0.6 * outgoing[:, 1:], 0.4 * outgoing[:, 1:]], 1)
        wide[2].get_parameter("weight").copy_(shared)
        wide[2].get_parameter("bias").copy_(module[2].get_parameter("bias"))
    return wide


def correct(outputs: Tensor) -> int:
    return int((outputs.argmax(1) == XOR).sum())


def pruned(module: nn.Module, method: str, inputs: Tensor, labels: Tensor) -> Network:
    """Return the network with a third of the weights of every layer at zero."""
    network = capture(module.eval(), (inputs[:1],))
    samples = TensorSamples((inputs,), labels)
    dataset = Dataset(samples, samples, labelled=True)
    classes = int(labels.max()) + 1
    task = Task(TaskSource(kind="classification"), "classification", dataset, network, classes)
    choice = Choice(sparsity=Setting(method, {"sparsity": 0.34}))
    recipe = Recipe(layers={name: choice for name, _ in network.layers()})
    chosen = chosen_methods(network, analyse(network), recipe)
    constrain(network, chosen, collect=Collector(task, 1000, Job()).collect)
    return densified(network)


def test_that_the_superfluous_unit_of_xor_goes_and_nothing_is_lost() -> None:
    right = {"obs_network": 0, "magnitude": 0}
    for seed in range(10):
        for method in right:
            made = pruned(solving(seed), method, PLACES, XOR)
            right[method] += correct(made.outputs(PLACES)[0]) == 4
            weights = [layer.get_parameter("weight") for _, layer in made.layers()]
            assert [int((weight == 0).sum()) for weight in weights] == [2, 2]
            if method == "obs_network":
                alone = weights[0].abs().sum(1) == 0
                assert alone.sum() == 1
                assert bool((weights[1][:, alone] == 0).all())
    assert right["obs_network"] == 10
    assert right["magnitude"] <= 3


def test_that_the_inverse_is_that_of_the_papers_recursion() -> None:
    rows = torch.randn(60, 25, generator=torch.Generator().manual_seed(1)).double()
    level = DAMPING * float((rows.T @ rows).diagonal().mean())
    inverse = torch.eye(25, dtype=torch.float64) / level
    for row in rows:
        image = inverse @ row
        inverse -= torch.outer(image, image) / (1 + row @ image)
    torch.testing.assert_close(damped_inverse(rows), inverse, rtol=1e-5, atol=1e-8)


def test_that_too_many_weights_are_refused_in_words() -> None:
    assert "5200 weights" in NetworkSurgeon.lock(nn.Linear(100, 52))
    module = nn.Sequential(nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 60))
    with pytest.raises(UserError, match="7200 weights") as caught:
        pruned(module, "obs_network", torch.randn(4, 60), XOR)
    assert "obs" in caught.value.hint
