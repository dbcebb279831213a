"""What is measured of layers on data equals what a plain computation gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.events import TaskSource
from featherweight.engine.evidence import Evidence, Need
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.task import Task

BOTH: frozenset[Need] = frozenset({"moments", "gradients"})


def task_of(network: Network, inputs: Tensor, classes: int) -> Task:
    labels = torch.arange(len(inputs)) % classes
    samples = TensorSamples((inputs,), labels)
    dataset = Dataset(samples, samples, labelled=True)
    return Task(TaskSource(kind="classification"), "classification", dataset, network, classes)


def evidence_of(network: Network, task: Task, *names: str) -> dict[str, Evidence]:
    found = Collector(task, 1000, Job()).collect(network, dict.fromkeys(names, BOTH))
    return {name: tensors["weight"] for name, tensors in found.items()}


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.fc = nn.Linear(4 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(self.up(self.conv(x).relu()).relu().flatten(1))
        return result


@pytest.mark.parametrize("name", ["conv", "up", "fc"])
def test_that_the_power_of_a_change_is_that_of_the_outputs_it_changes(name: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(6, 4, 8, 8)
    network = capture(Mixed(), (inputs[:1],))
    moments = evidence_of(network, task_of(network, inputs, 5), name)[name].moments
    assert moments is not None
    layer = network.layer(name)
    seen: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad(), layer.register_forward_hook(lambda _, x, y: seen.append((x[0], y))):
        network.outputs(inputs)
        change = torch.randn_like(layer.weight)
        layer.weight += change
        after = layer(seen[0][0])
    error = (after - seen[0][1]).square().sum()
    positions = after.numel() // after.shape[1] if name != "fc" else len(after)
    assert moments.power(change) == pytest.approx(float(error) / positions, rel=1e-4)
    torch.testing.assert_close(moments.weight(moments.matrix(change), change.shape), change)


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)
)
@settings(max_examples=25, deadline=None)
def test_that_a_convolution_of_any_shape_has_the_moments_of_its_patches(
    kernel: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    layer = nn.Conv1d(4, 4, kernel, stride, padding, dilation, groups)
    up = nn.ConvTranspose1d(4, 4, kernel, stride, 0, 0, groups, dilation=dilation)
    inputs = torch.randn(3, 4, 9)
    network = capture(nn.Sequential(layer, up, nn.Flatten()), (inputs[:1],))
    task = task_of(network, inputs, 2)
    for name, called in (("0", layer), ("1", up)):
        moments = evidence_of(network, task, name)[name].moments
        assert moments is not None
        x = inputs if name == "0" else layer(inputs)
        change = torch.randn_like(called.weight)
        bare = type(called)(4, 4, kernel, stride, padding if name == "0" else 0, groups=groups,
                            dilation=dilation, bias=False)  # fmt: skip
        with torch.no_grad():
            bare.weight.copy_(change)
            power = bare(x).square().sum() / (3 * bare(x).shape[2])
        assert moments.power(change) == pytest.approx(float(power), rel=1e-3)


def test_that_squared_gradients_are_those_of_every_sample_alone() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(5, 4, 8, 8)
    network = capture(Mixed(), (inputs[:1],))
    found = evidence_of(network, task_of(network, inputs, 5), "conv", "up", "fc")
    for name in ("conv", "up", "fc"):
        weight = network.layer(name).get_parameter("weight")
        each = [
            torch.autograd.grad(
                functional.cross_entropy(network.outputs(x[None])[0], torch.tensor([at])), weight
            )[0]
            for at, x in enumerate(inputs)
        ]
        gradients = found[name].gradients
        assert gradients is not None
        squares = torch.stack([one.square() for one in each]).mean(0)
        torch.testing.assert_close(gradients.squares, squares, rtol=1e-4, atol=1e-9)
        moments = found[name].moments
        assert moments is not None
        assert gradients.rows is not None
        rows = torch.stack([moments.matrix(one * weight).sum(2).reshape(-1) for one in each])
        torch.testing.assert_close(gradients.rows, rows.square().mean(0), rtol=1e-3, atol=1e-9)


def test_that_collecting_leaves_the_network_as_it_was() -> None:
    inputs = torch.randn(4, 4, 8, 8)
    network = capture(Mixed(), (inputs[:1],))
    network.module.train()
    evidence_of(network, task_of(network, inputs, 5), "conv")
    assert network.module.training
    assert all(value.grad is None for value in network.module.parameters())
    assert not network.layer("conv")._forward_pre_hooks
    assert not network.layer("conv")._forward_hooks


def test_that_rows_that_fill_up_a_fixed_batch_are_no_samples() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(6, 4, 8, 8)
    network = capture(Mixed(), (inputs[:4],))
    any_batch = evidence_of(network, task_of(network, inputs, 5), "conv", "fc")
    network.dynamic_batch = False
    filled = evidence_of(network, task_of(network, inputs, 5), "conv", "fc")
    for name in ("conv", "fc"):
        expected, found = any_batch[name].gradients, filled[name].gradients
        assert expected is not None
        assert found is not None
        torch.testing.assert_close(found.squares, expected.squares, rtol=1e-4, atol=1e-9)
