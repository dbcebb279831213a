"""Timing the layers of a network: whose times they are, what they add up to, how they stop."""

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Event, Progress
from featherweight.engine.inspecting.latency import measure
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture


class Uneven(nn.Module):
    """One heavy layer, and a light one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.heavy = nn.Conv2d(8, 64, 7, padding=3)
        self.light = nn.BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        return torch.relu(self.light(self.light(self.heavy(x))))


EXAMPLE = torch.randn(4, 8, 32, 32)


def networks() -> list[Network]:
    """The same module with and without a graph."""
    return [
        capture(Uneven(), (EXAMPLE,)),
        Network(Uneven().eval(), (EXAMPLE,), graph_lock="it branches on data"),
    ]


@pytest.mark.parametrize("network", networks(), ids=["graph", "module"])
def test_that_every_layer_gets_measured_milliseconds_and_its_share(network: Network) -> None:
    report = measure(network, Job(), repeats=5)
    assert list(report.layers) == list(report.shares) == ["heavy", "light"]
    figures = [*report.layers.values(), report.other, report.total]
    assert {(figure.unit, figure.basis) for figure in figures} == {("ms", "measured")}
    assert all(figure.value > 0 for figure in report.layers.values())
    assert sum(report.shares.values()) == pytest.approx(1)
    assert report.shares["heavy"] > report.shares["light"]
    assert report.total.value > 0
    assert report.batch == 4


def test_that_a_layer_called_twice_shows_one_call_and_the_share_of_both() -> None:
    report = measure(capture(Uneven(), (EXAMPLE,)), Job(), repeats=5)
    whole = report.layers["heavy"].value + 2 * report.layers["light"].value
    assert report.shares["light"] == pytest.approx(2 * report.layers["light"].value / whole)


def test_that_progress_is_told_and_ends_at_the_last_step() -> None:
    events: list[Event] = []
    measure(capture(Uneven(), (EXAMPLE,)), Job(events.append), repeats=3)
    told = [event for event in events if isinstance(event, Progress)]
    assert (told[-1].step, told[-1].steps) == (5, 5)


def test_that_a_slow_network_is_timed_fewer_times() -> None:
    events: list[Event] = []
    network = capture(Uneven(), (EXAMPLE,))
    passes: list[bool] = []
    network.layer("heavy").register_forward_hook(lambda *_: passes.append(True))
    measure(network, Job(events.append), repeats=1000, seconds=0.0)
    told = [event for event in events if isinstance(event, Progress)]
    assert len(passes) == 2 * (2 + 3)
    assert (told[-1].step, told[-1].steps) == (1002, 1002)


@pytest.mark.parametrize("network", networks(), ids=["graph", "module"])
def test_that_a_cancel_between_two_layers_stops_and_leaves_no_hooks(network: Network) -> None:
    job = Job()
    # The heavy layer runs first, so the light one must not run any more.
    network.layer("heavy").register_forward_hook(lambda *_: job.cancel())
    ran: list[bool] = []
    network.layer("light").register_forward_hook(lambda *_: ran.append(True))
    network.module.train()
    with pytest.raises(CancelledError):
        measure(network, job)
    assert ran == []
    assert all(part.training for part in network.module.modules())
    assert not network.layer("heavy")._forward_pre_hooks
    assert len(network.layer("light")._forward_hooks) == 1
