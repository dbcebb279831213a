"""The demo network: a small residual network with batch norm and depthwise separable blocks."""

from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3×3 convolutions with a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Take and give (N, C, H, W)."""
        inner = self.relu(self.norm1(self.conv1(x)))
        result: Tensor = self.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return result


class Separable(nn.Module):
    """A 3×3 convolution of each channel alone, then a 1×1 convolution across the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Take and give (N, C, H, W)."""
        inner = self.relu(self.norm1(self.depthwise(x)))
        result: Tensor = self.relu(self.norm2(self.pointwise(inner)))
        return result


class Demo(nn.Module):
    """Classifier of 1×28×28 images into ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.block1 = Residual(32, 32)
        self.block2 = Residual(32, 96, stride=2)
        self.block3 = Separable(96, 192)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(192, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Take float32 (N, 1, 28, 28); give logits (N, 10)."""
        x = self.block3(self.block2(self.block1(self.stem(images))))
        result: Tensor = self.classifier(self.pool(x).flatten(1))
        return result


def build() -> nn.Module:
    """Make the network with fresh weights."""
    return Demo()
