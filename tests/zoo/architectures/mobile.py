"""Small networks for phones and microcontrollers, of depthwise convolutions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def divisible(width: float, by: int = 8) -> int:
    """Return the nearest multiple that is no more than a tenth below."""
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded


def unit(
    given: int, made: int, kernel: int, stride: int = 1, groups: int = 1, eps: float = 1e-5
) -> list[nn.Module]:
    """Return a convolution that keeps the size, without bias, and its batch norm."""
    convolution = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(made, eps=eps)]


class Excitation(nn.Module):
    """Squeeze-and-excitation: every channel is scaled by what all of them say (Hu et al. 2018)."""

    def __init__(self, width: int, squeezed: int, inner: Activation, gate: Activation) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)
        self.inner = inner()
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels."""
        pooled = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.fc2(self.inner(self.fc1(pooled))))


class Inverted(nn.Module):
    """Wide depthwise convolution between narrow ends (Sandler et al. 2018, figure 3)."""

    def __init__(
        self,
        given: int,
        wide: int,
        made: int,
        depthwise: list[nn.Module],
        activation: Activation,
    ) -> None:
        super().__init__()
        expand = [*unit(given, wide, 1, eps=depthwise[1].eps), activation()]
        self.block = nn.Sequential(
            *(expand if wide != given else []),
            *depthwise,
            *unit(wide, made, 1, eps=depthwise[1].eps),
        )
        self.adds = given == made and depthwise[0].stride == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction where sizes allow it."""
        return x + self.block(x) if self.adds else self.block(x)


class MobilenetV2(nn.Module):
    """MobileNet-v2 (Sandler et al. 2018, table 2)."""

    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, stages: int = 7, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        given = divisible(32 * width)
        layers = [*unit(3, given, 3, 2), nn.ReLU6(inplace=True)]
        for expansion, channels, count, stride in self.STAGES[:stages]:
            made = divisible(channels * width)
            for position in range(count if stages == 7 else min(count, 2)):
                wide = given * expansion
                step = stride if position == 0 else 1
                depthwise = [*unit(wide, wide, 3, step, wide), nn.ReLU6(inplace=True)]
                layers.append(Inverted(given, wide, made, depthwise, nn.ReLU6))
                given = made
        last = divisible(1280 * min(width, 1.0))
        layers += [*unit(given, last, 1), nn.ReLU6(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        return self.classifier(self.features(x).mean((2, 3)))


class MobilenetV3(nn.Module):
    """MobileNet-v3 large (Howard et al. 2019, table 1)."""

    BLOCKS = (
        (3, 16, 16, False, nn.ReLU, 1),
        (3, 64, 24, False, nn.ReLU, 2),
        (3, 72, 24, False, nn.ReLU, 1),
        (5, 72, 40, True, nn.ReLU, 2),
        (5, 120, 40, True, nn.ReLU, 1),
        (5, 120, 40, True, nn.ReLU, 1),
        (3, 240, 80, False, nn.Hardswish, 2),
        (3, 200, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 480, 112, True, nn.Hardswish, 1),
        (3, 672, 112, True, nn.Hardswish, 1),
        (5, 672, 160, True, nn.Hardswish, 2),
        (5, 960, 160, True, nn.Hardswish, 1),
        (5, 960, 160, True, nn.Hardswish, 1),
    )

    def __init__(self, every: int = 1, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        eps = 0.001
        given = divisible(16 * width)
        layers = [*unit(3, given, 3, 2, eps=eps), nn.Hardswish()]
        wide = given
        for kernel, expanded, channels, excited, activation, stride in self.BLOCKS[::every]:
            wide, made = divisible(expanded * width), divisible(channels * width)
            depthwise = [*unit(wide, wide, kernel, stride, wide, eps), activation()]
            if excited:
                squeezed = divisible(wide / 4)
                depthwise.append(Excitation(wide, squeezed, nn.ReLU, nn.Hardsigmoid))
            layers.append(Inverted(given, wide, made, depthwise, activation))
            given = made
        layers += [*unit(given, 6 * given, 1, eps=eps), nn.Hardswish()]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        last = divisible(1280 * width)
        self.classifier = nn.Sequential(
            nn.Linear(6 * given, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class EfficientnetB0(nn.Module):
    """EfficientNet-B0 (Tan and Le 2019, table 1)."""

    STAGES = (
        (1, 3, 16, 1, 1),
        (6, 3, 24, 2, 2),
        (6, 5, 40, 2, 2),
        (6, 3, 80, 3, 2),
        (6, 5, 112, 3, 1),
        (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    )

    def __init__(self, stages: int = 7, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        given = divisible(32 * width)
        layers = [*unit(3, given, 3, 2), nn.SiLU(inplace=True)]
        for expansion, kernel, channels, count, stride in self.STAGES[:stages]:
            made = divisible(channels * width)
            for position in range(count if stages == 7 else min(count, 2)):
                wide = given * expansion
                step = stride if position == 0 else 1
                depthwise = [
                    *unit(wide, wide, kernel, step, wide),
                    nn.SiLU(inplace=True),
                    Excitation(wide, max(1, given // 4), nn.SiLU, nn.Sigmoid),
                ]
                layers.append(Inverted(given, wide, made, depthwise, nn.SiLU))
                given = made
        layers += [*unit(given, 4 * given, 1), nn.SiLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * given, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        pooled = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(pooled.flatten(1))


class Shuffled(nn.Module):
    """ShuffleNet-v2's block: half the channels are worked on, then both halves are interleaved."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        half = made // 2
        entering = given if stride > 1 else half
        self.left = (
            nn.Sequential(
                *unit(given, given, 3, stride, given), *unit(given, half, 1), nn.ReLU(inplace=True)
            )
            if stride > 1
            else None
        )
        self.right = nn.Sequential(
            *unit(entering, half, 1),
            nn.ReLU(inplace=True),
            *unit(half, half, 3, stride, half),
            *unit(half, half, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Work on half of the channels, or on all where the size is halved."""
        if self.left is None:
            kept, worked = x.chunk(2, dim=1)
            out = torch.cat((kept, self.right(worked)), dim=1)
        else:
            out = torch.cat((self.left(x), self.right(x)), dim=1)
        batch, channels, height, width = out.size()
        out = out.view(batch, 2, channels // 2, height, width)
        return torch.transpose(out, 1, 2).contiguous().view(batch, channels, height, width)


class ShufflenetV2(nn.Module):
    """ShuffleNet-v2 1× (Ma et al. 2018, table 5)."""

    def __init__(
        self,
        widths: tuple[int, ...] = (24, 116, 232, 464, 1024),
        depths: tuple[int, ...] = (4, 8, 4),
        classes: int = 1000,
    ) -> None:
        super().__init__()
        given = widths[0]
        self.conv1 = nn.Sequential(*unit(3, given, 3, 2), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        blocks = []
        for width, depth in zip(widths[1:], depths, strict=False):
            for position in range(depth):
                blocks.append(Shuffled(given, width, 2 if position == 0 else 1))
                given = width
        self.stages = nn.Sequential(*blocks)
        self.conv5 = nn.Sequential(*unit(given, widths[-1], 1), nn.ReLU(inplace=True))
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        x = self.conv5(self.stages(self.maxpool(self.conv1(x))))
        return self.fc(x.mean([2, 3]))


class DsCnn(nn.Module):
    """DS-CNN for keywords in speech (Zhang et al. 2018, arXiv 1711.07128), small."""

    def __init__(self, width: int = 64, depth: int = 4, size: tuple[int, int] = (49, 10)) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, width, (10, 4), 2, (5, 1)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for _ in range(depth):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, groups=width),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        left = (math.ceil((size[0] + 1) / 2), size[1] // 2)
        self.features = nn.Sequential(*layers, nn.Dropout(0.4), nn.AvgPool2d(left))
        self.fc = nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Classify spectra (batch, 1, frames, coefficients)."""
        return self.fc(self.features(x).squeeze(-1).squeeze(-1))
