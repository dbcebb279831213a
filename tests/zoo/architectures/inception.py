"""Networks of parallel branches that are joined: GoogLeNet, Inception-v3, SqueezeNet."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Kernel = int | tuple[int, int]
Make = Callable[..., nn.Module]


class Joined(nn.Module):
    """Branches side by side, their channels one after the other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Join what the branches give."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Rectified(nn.Module):
    """A convolution with bias, then ReLU."""

    def __init__(self, given: int, made: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified maps."""
        return functional.relu(self.conv(x), inplace=True)


GOOGLENET = (
    (64, (96, 128), (16, 32), 32),
    (128, (128, 192), (32, 96), 64),
    (192, (96, 208), (16, 48), 64),
    (160, (112, 224), (24, 64), 64),
    (128, (128, 256), (24, 64), 64),
    (112, (144, 288), (32, 64), 64),
    (256, (160, 320), (32, 128), 128),
    (256, (160, 320), (32, 128), 128),
    (384, (192, 384), (48, 128), 128),
)


class Googlenet(nn.Module):
    """GoogLeNet (Szegedy et al. 2015, table 1) without the classifiers that help in training."""

    def __init__(self, modules: int = 9, thinner: int = 1, classes: int = 1000) -> None:
        super().__init__()

        def thin(width: int) -> int:
            return width // thinner

        self.stem = nn.Sequential(
            Rectified(3, thin(64), 7, 2),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.LocalResponseNorm(5),
            Rectified(thin(64), thin(64), 1),
            Rectified(thin(64), thin(192), 3),
            nn.LocalResponseNorm(5),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        layers: list[nn.Module] = []
        given = thin(192)
        for position, (one, three, five, pooled) in enumerate(GOOGLENET[:modules]):
            layers.append(
                Joined(
                    Rectified(given, thin(one), 1),
                    nn.Sequential(
                        Rectified(given, thin(three[0]), 1),
                        Rectified(thin(three[0]), thin(three[1]), 3),
                    ),
                    nn.Sequential(
                        Rectified(given, thin(five[0]), 1),
                        Rectified(thin(five[0]), thin(five[1]), 5),
                    ),
                    nn.Sequential(nn.MaxPool2d(3, 1, 1), Rectified(given, thin(pooled), 1)),
                )
            )
            given = sum(map(thin, (one, three[1], five[1], pooled)))
            if position in (1, 6):
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.trunk = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(given, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        x = functional.adaptive_avg_pool2d(self.trunk(self.stem(x)), 1)
        return self.fc(self.dropout(torch.flatten(x, 1)))


class Unit(nn.Module):
    """Inception-v3's convolution: no bias, batch norm, ReLU."""

    def __init__(
        self, given: int, made: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(made, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed and rectified maps."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class InceptionV3(nn.Module):
    """Inception-v3 (Szegedy et al. 2016, table 1), without the classifier for training."""

    def __init__(self, thinner: int = 1, deep: bool = True, classes: int = 1000) -> None:
        super().__init__()
        self.thinner = thinner
        t = self._thin
        self.stem = nn.Sequential(
            Unit(3, t(32), 3, 2),
            Unit(t(32), t(32), 3),
            Unit(t(32), t(64), 3, padding=1),
            nn.MaxPool2d(3, 2),
            Unit(t(64), t(80), 1),
            Unit(t(80), t(192), 3),
            nn.MaxPool2d(3, 2),
        )
        pools = (32, 64, 64) if deep else (32,)
        givens = (192, 256, 288) if deep else (192,)
        wide = (128, 160, 160, 192) if deep else (128,)
        last = 288 if deep else 256
        blocks = [self._small(given, pool) for given, pool in zip(givens, pools, strict=True)]
        blocks.append(self._first_reduction(last))
        blocks += [self._factored(480 + last, width) for width in wide]
        blocks += [self._second_reduction(768), self._expanded(1280)]
        blocks += [self._expanded(2048)] if deep else []
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(t(2048), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        x = functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), (1, 1))
        return self.fc(torch.flatten(self.dropout(x), 1))

    def _thin(self, width: int) -> int:
        return width // self.thinner

    def _chain(self, *steps: tuple[int, Kernel], given: int, stride: int = 1) -> nn.Sequential:
        """Units of (channels, kernel); a stride is that of the last, which then pads nothing."""
        units: list[nn.Module] = []
        for position, (width, kernel) in enumerate(steps):
            high, across = (kernel, kernel) if isinstance(kernel, int) else kernel
            strided = stride > 1 and position + 1 == len(steps)
            padding = 0 if strided else (high // 2, across // 2)
            step = stride if strided else 1
            units.append(Unit(self._thin(given), self._thin(width), kernel, step, padding))
            given = width
        return nn.Sequential(*units)

    def _pooled(self, given: int, width: int) -> nn.Sequential:
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), self._chain((width, 1), given=given))

    def _small(self, given: int, pooled: int) -> nn.Module:
        return Joined(
            self._chain((64, 1), given=given),
            self._chain((48, 1), (64, 5), given=given),
            self._chain((64, 1), (96, 3), (96, 3), given=given),
            self._pooled(given, pooled),
        )

    def _first_reduction(self, given: int) -> nn.Module:
        return Joined(
            self._chain((384, 3), given=given, stride=2),
            self._chain((64, 1), (96, 3), (96, 3), given=given, stride=2),
            nn.MaxPool2d(3, 2),
        )

    def _factored(self, given: int, width: int) -> nn.Module:
        flat, tall = (1, 7), (7, 1)
        return Joined(
            self._chain((192, 1), given=given),
            self._chain((width, 1), (width, flat), (192, tall), given=given),
            self._chain(
                (width, 1), (width, tall), (width, flat), (width, tall), (192, flat), given=given
            ),
            self._pooled(given, 192),
        )

    def _second_reduction(self, given: int) -> nn.Module:
        return Joined(
            self._chain((192, 1), (320, 3), given=given, stride=2),
            self._chain((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), given=given, stride=2),
            nn.MaxPool2d(3, 2),
        )

    def _expanded(self, given: int) -> nn.Module:
        def forked(width: int) -> Joined:
            return Joined(
                self._chain((384, (1, 3)), given=width), self._chain((384, (3, 1)), given=width)
            )

        return Joined(
            self._chain((320, 1), given=given),
            nn.Sequential(self._chain((384, 1), given=given), forked(384)),
            nn.Sequential(self._chain((448, 1), (384, 3), given=given), forked(384)),
            self._pooled(given, 192),
        )


class Fire(nn.Module):
    """SqueezeNet's module: few 1×1 filters, then 1×1 and 3×3 filters side by side."""

    def __init__(self, given: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(given, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return both kinds of maps, one after the other."""
        x = self.activation(self.squeeze(x))
        both = self.activation(self.expand1x1(x)), self.activation(self.expand3x3(x))
        return torch.cat(both, 1)


class Squeezenet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360, and its later release)."""

    def __init__(self, fires: int = 8, thinner: int = 1, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64 // thinner, 3, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        ]
        given = 64 // thinner
        for position in range(fires):
            squeezed = 16 * (position // 2 + 1) // thinner
            layers.append(Fire(given, squeezed, 4 * squeezed))
            given = 8 * squeezed
            if position in (1, 3):
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Conv2d(given, classes, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d((1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        return torch.flatten(self.classifier(self.features(x)), 1)
