"""Networks that are hard to follow: skips across sizes, two inputs, functions, shared layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def twice(given: int, width: int) -> nn.Sequential:
    """Return two 3×3 convolutions, each rectified."""
    return nn.Sequential(
        nn.Conv2d(given, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class Unet(nn.Module):
    """U-Net (Ronneberger et al. 2015, figure 1), padded so that the sizes stay."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            twice(widths[level - 1] if level else 1, widths[level]) for level in range(depth + 1)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * wide, wide, 2, 2) for wide in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(twice(2 * wide, wide) for wide in reversed(widths[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Say of every pixel (batch, 1, height, width) what it belongs to."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        for up, merge, skipped in zip(self.up, self.merge, reversed(kept[:-1]), strict=True):
            x = merge(torch.cat([skipped, up(x)], dim=1))
        return self.out(x)


class TwoInputs(nn.Module):
    """A picture and a vector of numbers, joined before the last layers; gives two outputs."""

    def __init__(self, width: int = 32, numbers: int = 16) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.read = nn.Sequential(nn.Linear(numbers, width), nn.ReLU())
        self.gate = nn.Linear(width, 2 * width)
        self.mix = nn.Linear(3 * width, 2 * width)
        self.label = nn.Linear(2 * width, 10)
        self.value = nn.Linear(2 * width, 1)

    def forward(self, picture: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Label pictures (batch, 3, height, width) with numbers (batch, numbers)."""
        seen, read = self.look(picture), self.read(numbers)
        seen = seen * torch.sigmoid(self.gate(read))
        mixed = functional.elu(self.mix(torch.cat([seen, read], dim=-1)))
        return {"label": self.label(mixed), "value": self.value(mixed).squeeze(-1)}


class Functional(nn.Module):
    """No layers at all: parameters of its own, used by functions."""

    def __init__(self, width: int = 32, side: int = 32) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(width, 3, 3, 3) * 0.2)
        self.first_bias = nn.Parameter(torch.zeros(width))
        self.second = nn.Parameter(torch.randn(2 * width, width, 3, 3) * 0.1)
        self.scale = nn.Parameter(torch.rand(2 * width, 1, 1) + 0.5)
        self.mixed = nn.Parameter(torch.randn(2 * width, width) * 0.1)
        self.last = nn.Parameter(torch.randn(10, width * (side // 4) ** 2) * 0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, side, side)."""
        x = functional.relu(functional.conv2d(x, self.first, self.first_bias, 2, 1))
        x = functional.relu(functional.conv2d(x, self.second, None, 2, 1) * self.scale)
        x = torch.einsum("bchw,cd->bdhw", x, self.mixed)
        return functional.linear(torch.tanh(x).flatten(1), self.last)


class Shared(nn.Module):
    """One convolution and its norm called three times, a twin of it called on its own."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.step = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.twin = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.twin.weight = self.step.weight
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        x = self.stem(x)
        for _ in range(3):
            x = x + functional.relu(self.norm(self.step(x)))
        return self.fc(self.twin(x).relu().mean((2, 3)))


class Branching(nn.Module):
    """Its way depends on its numbers, so no graph holds all of it."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.enter = nn.Linear(16, width)
        self.bright = nn.Linear(width, width)
        self.dark = nn.Linear(width, width)
        self.leave = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify vectors (batch, 16), the bright ones otherwise than the dark ones."""
        y = self.enter(x).relu()
        y = self.bright(y) if x.mean() > 0 else self.dark(y)
        return self.leave(y.relu())
