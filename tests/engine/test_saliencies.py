"""What Optimal Brain Damage says that removals cost is what they cost."""

from dataclasses import dataclass

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.events import TaskSource
from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Job
from featherweight.engine.methods.sparsity.brain_damage import BrainDamage
from featherweight.engine.network import Network, capture
from featherweight.engine.task import Task

SAMPLES = 6000


@dataclass(frozen=True)
class Trained:
    """A tanh network of 40 weights at the minimum of its loss on labels that it drew itself."""

    network: Network
    inputs: Tensor
    labels: Tensor
    evidence: dict[str, Evidence]

    def loss(self) -> float:
        with torch.no_grad():
            outputs = self.network.outputs(self.inputs)[0].double()
        return float(nn.functional.cross_entropy(outputs, self.labels))

    @torch.no_grad()
    def rises(self, name: str, step: float | None) -> Tensor:
        """Return the rise of the loss as each weight alone becomes 0, or the mean of both steps."""
        weight, least, found = self.network.layer(name).get_parameter("weight"), self.loss(), []
        for at, value in enumerate(weight.flatten().tolist()):
            losses = []
            for move in [-value] if step is None else [step, -step]:
                weight.view(-1)[at] = value + move
                losses.append(self.loss())
            weight.view(-1)[at] = value
            found.append(sum(losses) / len(losses) - least)
        return torch.tensor(found)

    def curvature(self, name: str) -> Tensor:
        gradients = self.evidence[name].gradients
        assert gradients is not None
        return gradients.squares.flatten().double()


def fitted(module: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.LBFGS(module.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(inputs), labels)
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.fixture(scope="module")
def trained() -> Trained:
    torch.manual_seed(4)
    module, inputs = (
        nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)),
        torch.randn(SAMPLES, 5),
    )
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(2.0)
        labels = torch.multinomial(module(inputs).softmax(1), 1)[:, 0]
    fitted(module, inputs, labels)
    network = capture(module.eval(), (inputs[:1],))
    samples = TensorSamples((inputs,), labels)
    dataset = Dataset(samples, samples, labelled=True)
    task = Task(TaskSource(kind="classification"), "classification", dataset, network, 3)
    wanted = dict.fromkeys(("0", "2"), frozenset({"gradients"}))
    found = Collector(task, SAMPLES, Job()).collect(network, wanted)
    evidence = {name: tensors["weight"] for name, tensors in found.items()}
    return Trained(network, inputs, labels, evidence)


@pytest.mark.parametrize("name", ["0", "2"])
def test_that_the_curvature_is_that_of_finite_differences(trained: Trained, name: str) -> None:
    step = 0.05
    second = 2 * trained.rises(name, step).double() / step**2
    ratios = trained.curvature(name) / second
    # The samples' own squares are the Hessian only in the mean over more and more of them.
    assert float(ratios.min()) > 0.7
    assert float(ratios.max()) < 1.2


def test_that_saliencies_are_the_rise_of_the_loss_as_a_weight_goes(trained: Trained) -> None:
    saliencies, rises = [], []
    for name in ("0", "2"):
        weight = trained.network.layer(name).get_parameter("weight").detach().flatten().double()
        saliencies.append(trained.curvature(name) * weight.square() / 2)
        rises.append(trained.rises(name, None).double())
    said, real = torch.cat(saliencies), torch.cat(rises)
    assert float(spearmanr(said, real).statistic) > 0.9
    # Of a removal that is no small step the second order is an estimate.
    ratios = said / real
    assert float(ratios.min()) > 0.4
    assert float(ratios.max()) < 1.4


def test_that_what_goes_is_what_costs_least_of_all_alone(trained: Trained) -> None:
    rises = trained.rises("0", None)
    weight = trained.network.layer("0").get_parameter("weight").detach()
    _, mask = BrainDamage(sparsity=0.2).pruned(weight, trained.evidence["0"])
    gone = set((~mask).flatten().nonzero().flatten().tolist())
    assert len(gone) == 5
    assert len(gone & set(rises.argsort()[:7].tolist())) >= 4
