"""Which channels the method chooses, and that any mixture of blocks stays right."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.channel_removal import remove_channels
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Network, capture

Proof = Callable[..., Network]
IMAGE = torch.randn(1, 3, 8, 8)


class Joined(nn.Module):
    """Two branches side by side, added to a third that is as wide as both."""

    def __init__(self, left: int = 8, right: int = 16) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, left, 1), nn.Conv2d(3, right, 1)
        self.norm = nn.BatchNorm2d(left + right)
        self.both, self.last = nn.Conv2d(3, left + right, 1), nn.Conv2d(left + right, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.norm(torch.cat([self.left(x), self.right(x)], 1))
        return self.last(torch.relu(joined + self.both(x)))


def pair(channels: int = 6) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 2, 1)
    )


def kept_rows(module: nn.Module, setting: ChannelPruning, layer: str = "0") -> list[int]:
    """Return which output channels of a layer are left."""
    network = capture(module, (IMAGE,))
    coupling = analyse(network)
    removal = plan(network, coupling, {layer: setting})
    return np.flatnonzero(removal.stays(coupling.channels[layer].outputs)).tolist()


def test_that_each_score_removes_the_channels_it_calls_least() -> None:
    network = pair()
    with torch.no_grad():
        # Rows 0 and 1 have the smallest L1 norm, rows 4 and 5 the smallest L2 norm.
        rows = [[3.0, 0, 0], [0, 3.1, 0], [2, 2, 2], [3, 3, 3], [1.1, 1.1, 1.1], [1.2, 1.2, 1.2]]
        network[0].weight.copy_(torch.tensor(rows)[:, :, None, None])
        network[1].weight.copy_(torch.tensor([1.0, -2, 0.1, -0.2, 3, 4]))

    assert kept_rows(network, ChannelPruning(ratio=0.33, score="l1")) == [2, 3, 4, 5]
    assert kept_rows(network, ChannelPruning(ratio=0.33, score="l2")) == [0, 1, 2, 3]
    assert kept_rows(network, ChannelPruning(ratio=0.33, score="bn_scale")) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("channels", "ratio", "multiple", "left"),
    [
        (10, 0.0, 1, 10),
        (10, 0.3, 1, 7),
        (10, 0.95, 1, 1),
        (3, 0.95, 1, 1),
        (32, 0.5, 8, 16),
        (32, 0.45, 8, 24),
        (32, 0.95, 8, 8),
        (12, 0.95, 16, 12),
    ],
)
def test_that_the_kept_number_follows_ratio_and_multiple(
    channels: int, ratio: float, multiple: int, left: int
) -> None:
    setting = ChannelPruning(ratio=ratio, multiple=multiple)

    assert len(kept_rows(pair(channels), setting)) == left


def test_that_layers_of_one_set_lose_the_same_share(proven_removal: Proof) -> None:
    module = Joined()
    with torch.no_grad():
        module.left.weight.mul_(100)

    pruned = proven_removal(module, (IMAGE,), lambda _: {"both": ChannelPruning(ratio=0.5)})

    widths = [pruned.layer(name).out_channels for name in ("left", "right", "both")]
    assert widths == [4, 8, 12]
    assert pruned.layer("norm").num_features == pruned.layer("last").in_channels == 12


def test_that_a_multiple_holds_for_every_layer_of_a_set(proven_removal: Proof) -> None:
    setting = ChannelPruning(ratio=0.45, multiple=4)

    pruned = proven_removal(Joined(), (IMAGE,), lambda _: {"left": setting, "right": setting})

    widths = [pruned.layer(name).out_channels for name in ("left", "right", "both")]
    assert widths == [4, 12, 16]


def refused(module: nn.Module, chosen: dict[str, ChannelPruning]) -> UserError:
    network = capture(module, (IMAGE,))
    with pytest.raises(UserError) as caught:
        plan(network, analyse(network), chosen)
    return caught.value


def test_that_unequal_settings_of_coupled_layers_are_refused_naming_both() -> None:
    chosen = {"left": ChannelPruning(ratio=0.3), "both": ChannelPruning(ratio=0.5)}

    error = refused(Joined(), chosen)

    assert error.message == (
        "Layer left and layer both lose channels together, yet the recipe gives them "
        "ratio 0.3 and 0.5."
    )
    assert error.hint == "Give them the same."


def test_that_a_locked_layer_is_refused_with_its_reason() -> None:
    error = refused(Joined(), {"last": ChannelPruning()})

    assert error.message.endswith(
        "last cannot lose channels: Its channels are the network's output."
    )


def test_that_the_scale_of_a_missing_batch_norm_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1))

    error = refused(network, {"0": ChannelPruning(score="bn_scale")})

    assert error.message.startswith("Layer 0 is not followed by a batch norm")
    assert "l1" in error.hint


def test_that_norms_say_why_they_have_no_channels_to_remove() -> None:
    assert ChannelPruning.lock(nn.Conv2d(3, 4, 1)) == ""
    assert ChannelPruning.lock(nn.Embedding(3, 4)) == ""
    assert "follows" in ChannelPruning.lock(nn.BatchNorm2d(4))
    assert ChannelPruning.lock(nn.GRU(3, 4)) == ""


def test_that_a_slice_never_loses_its_last_channel(proven_removal: Proof) -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 16, 1)
            self.few, self.rest = nn.Conv2d(2, 4, 1), nn.Conv2d(14, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            return self.few(x[:, :2]) + self.rest(x.narrow(1, 2, 14))

    module = Sliced()
    with torch.no_grad():
        module.first.weight[0].mul_(1e-3)
        module.first.weight[1].mul_(1e-2)

    pruned = proven_removal(module, (IMAGE,), lambda _: {"first": ChannelPruning(ratio=0.75)})

    assert pruned.layer("few").in_channels == 1
    assert pruned.layer("rest").in_channels == 4


def test_that_a_skeleton_gets_the_shapes_of_the_real_network() -> None:
    network = capture(Joined(), (IMAGE,))
    removal = plan(network, analyse(network), {"left": ChannelPruning(ratio=0.5)})
    skeleton, real = network.skeleton(), network.copy()

    remove_channels(skeleton, removal)
    remove_channels(real, removal)

    shapes = {name: value.shape for name, value in real.module.state_dict().items()}
    assert {n: value.shape for n, value in skeleton.module.state_dict().items()} == shapes
    assert all(value.is_meta for value in skeleton.module.parameters())


def test_that_a_pruned_network_can_be_analysed_and_pruned_again() -> None:
    network = capture(Joined(), (IMAGE,))
    for left in (12, 6):
        setting = {"left": ChannelPruning(ratio=0.5)}
        remove_channels(network, plan(network, analyse(network), setting))
        assert network.layer("both").out_channels == left

    again = capture(network.module, (IMAGE,))
    assert torch.equal(again.outputs(IMAGE)[0], network.outputs(IMAGE)[0])


class Block(nn.Module):
    """One of several ways to go on from a number of channels to another."""

    def __init__(self, kind: str, inputs: int, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.outputs = {"add": inputs, "gate": inputs, "cat": inputs + width}.get(kind, width)
        if kind in {"swap", "shuffle", "depthwise"}:
            self.outputs = inputs
        groups = {"depthwise": inputs, "groups": 2}.get(kind, 1)
        wide = width if kind in {"cat", "plain", "groups"} else self.outputs
        self.conv = nn.Conv2d(inputs, wide, 3, padding=1, groups=groups)
        self.norm = nn.BatchNorm2d(wide)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.nn.functional.leaky_relu(self.norm(self.conv(x)))
        if self.kind == "add":
            return x + made
        if self.kind == "cat":
            return torch.cat([made, x], 1)
        if self.kind == "gate":
            return x * torch.sigmoid(made.mean((2, 3), keepdim=True))
        if self.kind == "swap":
            return torch.cat([part + 0.5 for part in reversed(made.chunk(2, 1))], 1)
        if self.kind == "shuffle":
            split = made.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
            return torch.channel_shuffle(split, 2)
        return made


KINDS = st.sampled_from(["plain", "add", "cat", "gate", "depthwise", "groups", "swap", "shuffle"])
BLOCKS = st.lists(st.tuples(KINDS, st.sampled_from([4, 6, 8])), min_size=2, max_size=6)
SETTINGS = st.builds(
    ChannelPruning,
    ratio=st.floats(0.0, 0.95),
    score=st.sampled_from(["l1", "l2"]),
    multiple=st.sampled_from([1, 1, 2, 3]),
)


@settings(max_examples=20, deadline=None)
@given(blocks=BLOCKS, choices=st.lists(SETTINGS | st.none(), min_size=8, max_size=8))
def test_that_any_mixture_of_blocks_equals_the_original_with_channels_zeroed(
    blocks: list[tuple[str, int]], choices: list[ChannelPruning | None], proven_removal: Proof
) -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 1)]
    width = 8
    for kind, wanted in blocks:
        block = Block(kind, width, wanted)
        layers.append(block)
        width = block.outputs
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, 3))

    def chosen(coupling: Coupling) -> dict[str, ChannelPruning]:
        return {
            found.layers[-1]: choice
            for found, choice in zip(coupling.sets, choices, strict=False)
            if choice is not None
        }

    proven_removal(network, (torch.randn(1, 3, 4, 4),), chosen)
