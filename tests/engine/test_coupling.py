"""What the coupling analysis says of networks: which layers hang together, which are locked."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.network import capture


def coupling_of(module: nn.Module, *example: Tensor) -> Coupling:
    network = capture(module, example)
    assert network.graph_lock == ""
    return analyse(network)


class Around(nn.Module):
    """A convolution, an operation on its result, and a convolution after it."""

    def __init__(self, operation: nn.Module, inputs: int = 8) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.operation = operation
        self.after = nn.Conv2d(inputs, 6, 1)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.after(self.operation(self.before(x))))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


IMAGE = torch.randn(1, 3, 8, 8)


def test_that_a_residual_add_couples_the_layers_on_both_sides() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 1)
            self.norm, self.outer = nn.BatchNorm2d(12), nn.Conv2d(12, 8, 1)
            self.last = nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.last(x + self.outer(torch.relu(self.norm(self.inner(x)))))

    coupling = coupling_of(Residual(), IMAGE)

    assert coupling.coupled("stem") == ("outer",)
    assert coupling.coupled("inner") == ()
    assert set(coupling.followers("inner")) == {"norm", "outer"}
    assert set(coupling.followers("stem")) == {"inner", "last"}
    assert coupling.locks == {"last": "Its channels are the network's output."}


def test_that_a_depthwise_convolution_is_coupled_to_what_it_reads() -> None:
    coupling = coupling_of(Around(nn.Conv2d(8, 16, 3, padding=1, groups=8), 16), IMAGE)

    assert coupling.coupled("before") == ("operation",)
    found = coupling.set_of("before")
    assert found is not None
    assert len(found.atoms) == 8
    assert coupling.channels["operation"].whole_groups


def test_that_concatenated_layers_stay_apart() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)
            self.last = nn.Conv2d(10, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.left(x), self.right(x)], 1))

    coupling = coupling_of(Branches(), IMAGE)

    assert coupling.coupled("left") == coupling.coupled("right") == ()
    assert [len(found.atoms) for found in coupling.sets] == [4, 6]
    left = coupling.channels["left"].outputs.tolist()
    assert coupling.channels["last"].inputs.tolist()[:4] == left


def test_that_a_flatten_gives_each_channel_its_columns() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))

    coupling = coupling_of(network, IMAGE)

    outputs = coupling.channels["0"].outputs
    columns = coupling.channels["2"].inputs
    assert columns.reshape(4, 36).tolist() == [[atom] * 36 for atom in outputs.tolist()]


@pytest.mark.parametrize(
    ("operation", "inputs", "reason"),
    [
        (Apply(lambda x: x.softmax(1)), 8, "Softmax mixes its channels."),
        (Apply(lambda x: x - x.mean(1, keepdim=True)), 8, "Mean mixes its channels."),
        (Apply(lambda x: x.cumsum(1)), 8, "Cumsum mixes its channels."),
        (nn.GroupNorm(1, 8), 8, "Group norm mixes its channels."),
        (
            Apply(lambda x: functional.layer_norm(x, (8, 8, 8))),
            8,
            "Layer norm mixes its channels.",
        ),
        (
            Apply(lambda x: torch.fft.fft(x, dim=1).real),
            8,
            "Its channels go through fft_fft, which cannot be followed.",
        ),
        (
            Apply(lambda x: x[:, [3, 1, 2]]),
            3,
            "Its channels go through index, which cannot be followed.",
        ),
        (Apply(lambda x: x + torch.arange(8.0).view(8, 1, 1)), 8, None),
        (Apply(lambda x: x * x.amax(1, keepdim=True)), 8, "Amax mixes its channels."),
        (Apply(lambda x: x[:, ::2]), 4, "Its channels meet values of fixed size in slice."),
        (Apply(lambda x: x.roll(1, 1)), 8, "Roll mixes its channels."),
    ],
)
def test_that_what_mixes_channels_locks_the_layer_before_it_alone(
    operation: nn.Module, inputs: int, reason: str | None
) -> None:
    coupling = coupling_of(Around(operation, inputs), IMAGE)

    assert "before" in coupling.locks
    assert "after" not in coupling.locks
    if reason:
        assert coupling.locks["before"] == reason


def test_that_adding_the_input_locks_the_layer_it_is_added_to() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1)
            self.last = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x + self.outer(self.inner(x)))

    coupling = coupling_of(Skip(), IMAGE)

    assert coupling.locks["outer"] == "Its channels meet values of fixed size in add."
    assert "inner" not in coupling.locks


def test_that_a_single_channel_cannot_go() -> None:
    gate = nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid())

    class Spatial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = gate

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gate(x)

    coupling = coupling_of(Around(Spatial()), IMAGE)

    assert "spread over others" in coupling.locks["operation.gate.0"]
    assert "before" not in coupling.locks


def test_that_a_network_without_a_graph_locks_all_layers_with_its_reason() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if x.sum() > 0 else self.two(x)

    network = capture(Branching(), (torch.randn(2, 4),))
    coupling = analyse(network)

    assert set(coupling.locks) == {"one", "two"}
    assert network.graph_lock in coupling.locks["one"]
    assert coupling.sets == ()


def test_that_the_analysis_leaves_network_and_modes_as_they_were() -> None:
    network = capture(Around(nn.BatchNorm2d(8)), (IMAGE,))
    network.module.train()
    state = {name: value.clone() for name, value in network.module.state_dict().items()}

    analyse(network)

    assert network.module.training
    assert all(
        torch.equal(value, state[name]) for name, value in network.module.state_dict().items()
    )


def test_that_time_grows_in_proportion_to_the_number_of_layers() -> None:
    def seconds(blocks: int) -> float:
        layers = [nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)) for _ in range(blocks)]
        network = capture(nn.Sequential(*layers), (torch.randn(1, 8, 4, 4),))
        times = []
        for _ in range(3):
            start = time.process_time()
            analyse(network)
            times.append(time.process_time() - start)
        return min(times)

    seconds(4)
    assert seconds(160) < 4 * 4 * max(seconds(40), 0.01)
