"""Networks whose blocks add to, or are joined with, what they were given."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def normed(given: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size, without bias, and its batch norm."""
    convolution = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(made))


class Basic(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = normed(given, width, 3, stride)
        self.conv2, self.bn2 = normed(width, width, 3)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = normed(given, width, 1, stride) if stride > 1 or given != width else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to what it was given."""
        kept = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += kept
        return self.relu(out)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions (figure 5 right), the stride on the middle one."""

    expansion = 4

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        made = 4 * width
        self.conv1, self.bn1 = normed(given, width, 1)
        self.conv2, self.bn2 = normed(width, width, 3, stride)
        self.conv3, self.bn3 = normed(width, made, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = normed(given, made, 1, stride) if stride > 1 or given != made else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to what it was given."""
        kept = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += kept
        return self.relu(out)


class Resnet(nn.Module):
    """ResNet for ImageNet (table 1): four stages, each half the size and twice the width."""

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        depths: tuple[int, ...],
        width: int = 64,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        given = width
        stages = []
        for stage, depth in enumerate(depths):
            blocks = []
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(block(given, width * 2**stage, stride))
                given = width * 2**stage * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(given, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.stages(x)), 1))


class Padded(nn.Module):
    """The block of the CIFAR networks: a shortcut without weights that pads with zeros."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = normed(given, width, 3, stride)
        self.conv2, self.bn2 = normed(width, width, 3)
        self.stride = stride
        self.added = width - given

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to what it was given."""
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.added:
            side = self.added // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, side, side))
        return functional.relu(out + x)


class CifarResnet(nn.Module):
    """ResNet-56 for CIFAR-10 (section 4.2, option A): three stages of nine blocks."""

    def __init__(self, depth: int = 9, width: int = 16) -> None:
        super().__init__()
        self.conv, self.bn = normed(3, width, 3)
        given = width
        blocks = []
        for stage in range(3):
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(Padded(given, width * 2**stage, stride))
                given = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(given, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, 32, 32)."""
        x = self.blocks(functional.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    """BN, ReLU, 1×1, BN, ReLU, 3×3; its few channels are joined to all before."""

    def __init__(self, given: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(given)
        self.conv1 = nn.Conv2d(given, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what came in with the new channels behind it."""
        new = self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())
        return torch.cat([x, new], 1)


class Densenet(nn.Module):
    """DenseNet-121 (Huang et al. 2017, table 1): growth 32, blocks of 6, 12, 24 and 16 layers."""

    def __init__(
        self, depths: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32, classes: int = 1000
    ) -> None:
        super().__init__()
        width = 2 * growth
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]
        for position, depth in enumerate(depths):
            for _ in range(depth):
                layers.append(DenseLayer(width, growth))
                width += growth
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            if position + 1 < len(depths):
                layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
                width //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        pooled = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(pooled, 1))


class Excited(nn.Module):
    """RegNet-Y's block: grouped 3×3 convolution and squeeze-and-excitation in a bottleneck."""

    def __init__(self, given: int, width: int, stride: int, group: int) -> None:
        super().__init__()
        self.a = nn.Sequential(*normed(given, width, 1), nn.ReLU(inplace=True))
        self.b = nn.Sequential(
            *normed(width, width, 3, stride, width // group), nn.ReLU(inplace=True)
        )
        squeezed = round(given / 4)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, width, 1),
            nn.Sigmoid(),
        )
        self.c = normed(width, width, 1)
        self.proj = normed(given, width, 1, stride) if stride > 1 or given != width else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to what it was given."""
        kept = self.proj(x) if self.proj is not None else x
        out = self.b(self.a(x))
        return functional.relu(kept + self.c(out * self.se(out)))


class Regnet(nn.Module):
    """RegNetY-400MF (Radosavovic et al. 2020): stage widths and depths of its figure 22."""

    def __init__(
        self,
        widths: tuple[int, ...] = (48, 104, 208, 440),
        depths: tuple[int, ...] = (1, 3, 6, 6),
        group: int = 8,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*normed(3, 32, 3, 2), nn.ReLU(inplace=True))
        given = 32
        blocks = []
        for width, depth in zip(widths, depths, strict=True):
            for position in range(depth):
                blocks.append(Excited(given, width, 2 if position == 0 else 1, group))
                given = width
        self.trunk = nn.Sequential(*blocks)
        self.head = nn.Linear(given, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        return self.head(self.trunk(self.stem(x)).mean([2, 3]))


class SmallResidual(nn.Module):
    """Four 3×3 convolutions for small images, the last two of 64 filters beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = normed(1, 32, 3)
        self.wide, self.wide_norm = normed(32, 64, 3, 2)
        self.block = Basic(64, 64, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 1, 28, 28)."""
        x = self.pool(self.stem_norm(self.stem(x)).relu())
        x = self.block(self.wide_norm(self.wide(x)).relu())
        return self.head(x.mean((2, 3)))
