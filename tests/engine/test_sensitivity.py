"""How sensitive layers are: the proxies by hand, and against what the loss really does."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from featherweight.engine.atlas import sensitivity
from featherweight.engine.atlas.proxies import expected_rise, relative_output_error
from featherweight.engine.atlas.sensitivity import UNREACHED, SensitivityReport, estimate, portions
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, Progress, TaskSource
from featherweight.engine.evidence import Gradients, InputMoments
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Network, capture
from featherweight.engine.task import Task

FOUR = Integer(bits=4)
LAYERS = 6


class Chain(nn.Module):
    """Layers of one size between an embedding of the input and the classes; one is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 24)
        self.middle = nn.ModuleList(nn.Linear(24, 24) for _ in range(LAYERS))
        self.norm = nn.BatchNorm1d(24)
        self.last = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of four classes; layers count for less the later they come."""
        x = self.first(x)
        for place, layer in enumerate(self.middle):
            x = x + layer(x).tanh() / (1 + place)
        result: Tensor = self.last(self.norm(x))
        return result


def task_of(network: Network, inputs: Tensor, labels: Tensor | None) -> Task:
    samples = TensorSamples((inputs,), labels)
    dataset = Dataset(samples, samples, labelled=labels is not None)
    if labels is None:
        return Task(TaskSource(kind="fidelity"), "fidelity", dataset, network)
    return Task(TaskSource(), "classification", dataset, network, int(labels.max()) + 1)


@pytest.fixture(scope="module")
def trained() -> tuple[Network, Tensor, Tensor]:
    """Return the chain, trained, with its inputs and labels."""
    torch.manual_seed(3)
    inputs = torch.randn(512, 8)
    labels = (inputs @ torch.randn(8, 4) + torch.randn(512, 4)).argmax(1)
    module = Chain()
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    return capture(module.eval(), (inputs[:2],)), inputs, labels


def test_that_the_expected_rise_is_the_slope_and_half_the_weighted_squares() -> None:
    weight, changed = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.5], [5.0, 4.0]])
    squares = torch.tensor([[7.0, 8.0], [0.25, 9.0]])
    assert expected_rise(weight, changed, Gradients(squares)) == 0.5 * (8 * 0.25 + 0.25 * 4)
    assert expected_rise(weight, weight, Gradients(squares)) == 0
    slope = Gradients(squares, mean=torch.tensor([[9.0, 1.0], [-2.0, 9.0]]))
    assert expected_rise(weight, changed, slope) == -0.5 - 4 + 1.5


def test_that_the_relative_output_error_is_that_of_the_outputs_by_hand() -> None:
    inputs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, 0.0]])
    moments = InputMoments(1, ((inputs.T @ inputs / 3)[None],), inputs.mean(0)[None])
    weight, changed = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]])
    # The outputs are 3, -1, 2, and the errors 1, -1, 0.
    assert relative_output_error(weight, changed, moments) == pytest.approx(2 / 14)
    zeros = torch.zeros(1, 2)
    assert relative_output_error(weight, zeros, moments) == pytest.approx(1)
    assert relative_output_error(zeros, weight, moments) == math.inf
    assert relative_output_error(zeros, zeros, moments) == 0


def test_that_layers_of_one_size_stand_in_the_order_in_which_the_loss_really_rises(
    trained: tuple[Network, Tensor, Tensor],
) -> None:
    network, inputs, labels = trained
    task = task_of(network, inputs, labels)
    report = estimate(network, task, FOUR, Job(), samples=512)
    names = [f"middle.{place}" for place in range(LAYERS)]
    told = [report.layers[name].value for name in names]
    weights = [network.layer(name).get_parameter("weight") for name in names]
    real = [rise(task, weight) for weight in weights]
    assert spearmanr(told, real).statistic > 0.8
    assert report.loss == "cross entropy"
    assert report.samples == 512


@torch.no_grad()
def rise(task: Task, weight: Tensor) -> float:
    """Return the mean loss with the weight in 4 bits, above the loss before."""
    before = task.evaluate(task.reference)["loss"].value
    kept = weight.clone()
    weight.copy_(FOUR.trainable(kept, None)())
    after = task.evaluate(task.reference)["loss"].value
    weight.copy_(kept)
    return after - before


def test_that_against_its_own_outputs_the_rise_is_that_of_the_relative_squared_error(
    trained: tuple[Network, Tensor, Tensor],
) -> None:
    network, inputs, _ = trained
    reference = network.copy()
    task = task_of(reference, inputs, None)
    report = estimate(network, task, FOUR, Job(), samples=512)
    names = ["first", *(f"middle.{place}" for place in range(LAYERS)), "last"]
    real = [10 ** (-snr / 10) for snr in snrs(network, task, names)]
    for name, error in zip(names, real, strict=True):
        assert error / 3 < report.layers[name].value < error * 3, name
    assert report.loss == "relative squared error"


def snrs(network: Network, task: Task, names: list[str]) -> list[float]:
    """Return the output SNR with each layer alone in 4 bits."""
    found = []
    for name in names:
        changed = network.copy()
        weight = changed.layer(name).get_parameter("weight")
        with torch.no_grad():
            weight.copy_(FOUR.trainable(weight.detach(), None)())
        found.append(task.evaluate(changed)["snr"].value)
    return found


def test_that_layers_that_cannot_be_told_have_their_reason() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.LSTM(4, 6, batch_first=True)
            self.unused = nn.Linear(6, 6)
            self.last = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.memory(x)[0][:, -1]
            result: Tensor = self.last(x) + 0 * self.unused(x).sum().detach()
            return result

    inputs = torch.randn(9, 5, 4)
    network = capture(Odd(), (inputs[:2],))
    report = estimate(network, task_of(network, inputs, torch.arange(9) % 3), FOUR, Job())
    assert list(report.layers) == ["last"]
    assert report.reasons == {
        "memory": "Gradients of LSTM layers cannot be told sample by sample.",
        "unused": UNREACHED,
    }


def test_that_going_over_the_layers_in_portions_tells_the_same(
    trained: tuple[Network, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, inputs, labels = trained
    task = task_of(network, inputs, labels)
    events: list[Event] = []
    at_once = estimate(network, task, FOUR, Job(), samples=100)
    monkeypatch.setattr(sensitivity, "WEIGHTS_AT_ONCE", 1000)
    apart = estimate(network, task, FOUR, Job(events.append), samples=100)
    assert values(apart) == pytest.approx(values(at_once), rel=1e-5)
    last = [event for event in events if isinstance(event, Progress)][-1]
    # Six portions of two batches, and eight layers.
    assert (last.step, last.steps) == (6 * 2 + 8, 6 * 2 + 8)


def values(report: SensitivityReport) -> dict[str, float]:
    return {name: figure.value for name, figure in report.layers.items()}


def test_that_portions_are_few_and_only_one_name_may_be_above_the_limit() -> None:
    sizes = {"a": 4, "b": 100, "c": 5, "d": 2, "e": 1}
    assert portions(sizes, 10) == [("a", "c", "e"), ("b",), ("d",)]
    assert portions({}, 10) == []


def test_that_a_network_without_gradients_says_how_to_get_them() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.fc(x).detach()
            return result

    inputs = torch.randn(6, 4)
    network = Network(Flat(), (inputs[:2],), graph_lock="it runs elsewhere")
    with pytest.raises(UserError, match="gives no gradients") as raised:
        estimate(network, task_of(network, inputs, torch.arange(6) % 3), FOUR, Job())
    assert "PyTorch" in raised.value.hint


def test_that_a_cancel_stops_between_batches_and_leaves_the_network_as_it_was(
    trained: tuple[Network, Tensor, Tensor],
) -> None:
    network, inputs, labels = trained

    def stop(event: Event) -> None:
        if isinstance(event, Progress):
            job.cancel()

    job = Job(stop)
    with pytest.raises(CancelledError):
        estimate(network, task_of(network, inputs, labels), FOUR, job)
    assert job.step == 1
    assert not any(layer._forward_hooks for _, layer in network.layers())
    assert all(value.grad is None for value in network.module.parameters())
