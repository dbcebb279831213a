"""Channels removed from hand-written convolutional networks of every common shape."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.network import Network

Proof = Callable[..., Network]
IMAGE = torch.randn(1, 3, 16, 16)


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def linear_conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    layers = conv(inputs, outputs, kernel, stride, groups)
    return nn.Sequential(layers[0], layers[1])


def classifier(*layers: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


class Residual(nn.Module):
    """A branch added to the input, or to a projection of it."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


class Concatenated(nn.Module):
    """Branches side by side, with the input itself where `keep`."""

    def __init__(self, *branches: nn.Module, keep: bool = False) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        made = [branch(x) for branch in self.branches]
        return torch.cat([x, *made] if self.keep else made, 1)


class SqueezeExcite(nn.Module):
    """A gate for each channel from the means of all."""

    def __init__(self, width: int, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        means = torch.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))
        return x * self.gate(self.excite(means))


class ShuffleUnit(nn.Module):
    """The unit of ShuffleNetV2: half of the channels pass, and all are shuffled."""

    def __init__(self, width: int, split: bool) -> None:
        super().__init__()
        self.split = split
        inputs = width // 2
        self.left = nn.Identity() if split else linear_conv(inputs, width // 2)
        self.right = nn.Sequential(
            conv(inputs, width // 2, 1), linear_conv(width // 2, width // 2, 3, 1, width // 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1) if self.split else (x, x)
        x = torch.cat([self.left(left), self.right(right)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return x.reshape(batch, channels, height, width)


class UNet(nn.Module):
    """Two levels with skips that are concatenated, up by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv(3, 8), conv(8, 12), conv(12, 16)
        self.up2, self.merge2 = nn.ConvTranspose2d(16, 12, 2, 2), conv(24, 12)
        self.up1, self.merge1 = nn.ConvTranspose2d(12, 8, 2, 2), conv(16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        bottom = self.bottom(functional.max_pool2d(second, 2))
        merged = self.merge2(torch.cat([self.up2(bottom), second], 1))
        return self.out(self.merge1(torch.cat([first, self.up1(merged)], 1)))


class Raw(nn.Module):
    """A network without layers: its parameters are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.offset = nn.Parameter(torch.randn(8) * 0.1)
        self.second = nn.Parameter(torch.randn(10, 8, 3, 3) * 0.2)
        self.scale = nn.Parameter(torch.rand(10, 1, 1) + 0.5)
        self.mix = nn.Parameter(torch.randn(10, 12) * 0.3)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(functional.conv2d(x, self.first, self.offset, padding=1))
        x = torch.relu(functional.conv2d(x, self.second, padding=1)) * self.scale
        return self.last(torch.relu(x.mean((2, 3)) @ self.mix))


class Twice(nn.Module):
    """One convolution and one norm that are called two times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = conv(3, 8), conv(8, 8)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(self.again(self.stem(x))).mean((2, 3)))


class PaddedShortcut(nn.Module):
    """The shortcut of the first residual networks: channels padded with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.branch = conv(3, 8), conv(8, 12, 3, 2), conv(12, 12)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.last((self.branch(self.down(x)) + shortcut).mean((2, 3)))


class Decoder(nn.Module):
    """From a vector to an image: a view into channels, group norm, pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 16 * 16, 12 * 4 * 4)
        self.middle, self.norm = nn.Conv2d(12, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1))).view(-1, 12, 4, 4)
        return self.last(functional.pixel_shuffle(torch.relu(self.norm(self.middle(x))), 2))


def dense_block() -> nn.Module:
    layers = [
        Concatenated(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv(width, 6)), keep=True)
        for width in (8, 14, 20)
    ]
    return classifier(conv(3, 8), *layers, nn.BatchNorm2d(26), conv(26, 10, 1), width=10)


def inverted(inputs: int, outputs: int, *gates: nn.Module) -> nn.Module:
    wide = 24
    return nn.Sequential(
        conv(inputs, wide, 1), conv(wide, wide, 3, 1, wide), *gates, linear_conv(wide, outputs)
    )


def grouped() -> nn.Module:
    up = nn.ConvTranspose2d(24, 12, 2, 2, groups=2)
    apart = nn.ConvTranspose2d(12, 12, 2, groups=12)
    multiplied = nn.Conv2d(12, 24, 3, groups=12)
    return classifier(
        conv(3, 16), conv(16, 24, 3, 1, 2), up, nn.PReLU(12), apart, nn.ReLU(), multiplied, width=24
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain with flatten": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.Flatten(),
        nn.Linear(12 * 16, 20),
        nn.Sigmoid(),
        nn.Linear(20, 5),
    ),
    "residual, basic block": lambda: classifier(
        conv(3, 8),
        Residual(nn.Sequential(conv(8, 8), linear_conv(8, 8, 3))),
        Residual(
            nn.Sequential(conv(8, 12, 3, 2), linear_conv(12, 12, 3)), linear_conv(8, 12, 1, 2)
        ),
        width=12,
    ),
    "residual, bottleneck": lambda: classifier(
        conv(3, 16),
        Residual(nn.Sequential(conv(16, 6, 1), conv(6, 6), linear_conv(6, 16))),
        Residual(
            nn.Sequential(conv(16, 8, 1), conv(8, 8), linear_conv(8, 20)), linear_conv(16, 20)
        ),
        width=20,
    ),
    "residual, grouped": lambda: classifier(
        conv(3, 16),
        Residual(nn.Sequential(conv(16, 24, 1), conv(24, 24, 3, 1, 8), linear_conv(24, 16))),
        width=16,
    ),
    "inverted residual": lambda: classifier(
        conv(3, 8), Residual(inverted(8, 8)), inverted(8, 12), width=12
    ),
    "squeeze and excite": lambda: classifier(
        conv(3, 8),
        Residual(inverted(8, 8, SqueezeExcite(24, torch.sigmoid))),
        inverted(8, 12, SqueezeExcite(24, functional.hardsigmoid)),
        width=12,
    ),
    "dense concatenation": dense_block,
    "inception": lambda: classifier(
        conv(3, 8),
        Concatenated(
            conv(8, 6, 1),
            nn.Sequential(conv(8, 4, 1), conv(4, 8)),
            nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(8, 4, 1)),
        ),
        conv(18, 10),
        width=10,
    ),
    "shuffle unit": lambda: classifier(
        conv(3, 8), ShuffleUnit(16, False), ShuffleUnit(16, True), conv(16, 20, 1), width=20
    ),
    "u-net": UNet,
    "groups of every kind": grouped,
    "raw parameters": Raw,
    "shared layers": Twice,
    "padded shortcut": PaddedShortcut,
    "decoder": Decoder,
    "native channel shuffle": lambda: classifier(
        conv(3, 12), nn.ChannelShuffle(3), conv(12, 12, 3, 1, 3), conv(12, 8), width=8
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_that_a_pruned_network_equals_the_original_with_those_channels_zeroed(
    name: str, proven_removal: Proof
) -> None:
    proven_removal(NETWORKS[name](), (IMAGE,))


def test_that_two_inputs_and_a_gate_between_them_lose_channels_together(
    proven_removal: Proof,
) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.vector = conv(3, 8), nn.Linear(6, 8)
            self.inner, self.last = nn.Linear(8, 12), nn.Linear(20, 5)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            mixed = self.image(x).mean((2, 3)) * torch.sigmoid(self.vector(y))
            return self.last(torch.cat([mixed, torch.relu(self.inner(mixed))], 1))

    pruned = proven_removal(Gated(), (torch.randn(1, 3, 8, 8), torch.randn(1, 6)))

    assert pruned.layer("vector").out_features == pruned.layer("image.0").out_channels == 5


def test_that_shuffled_channels_go_one_by_one_and_a_second_time(proven_removal: Proof) -> None:
    def only(layer: str, ratio: float) -> Callable[[Coupling], dict[str, ChannelPruning]]:
        return lambda _: {layer: ChannelPruning(ratio=ratio)}

    units = [conv(3, 8), ShuffleUnit(16, False), ShuffleUnit(16, True), conv(16, 8)]
    network = classifier(*units, width=8)

    once = proven_removal(network, (IMAGE,), only("1.left.0", 0.4))
    twice = proven_removal(once.module, (IMAGE,), only("1.left.0", 0.2))

    assert [once.layer(name).out_channels for name in ("1.left.0", "1.right.0.0")] == [5, 8]
    assert twice.layer("1.left.0").out_channels == 4
    # Of each shuffled pair one half is read by the next unit, the other passes it.
    reading = [twice.layer(name).in_channels for name in ("2.right.0.0", "3.0")]
    assert sum(reading) == 8 + 16 - 4
    buffers = [name for name, value in twice.module.named_buffers() if value.dtype == torch.int64]
    assert sum("order" in name for name in buffers) == 2
