"""Hierarchical networks of this decade: Swin and ConvNeXt."""

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTHS = (2, 2, 6, 2)


def cut(x: Tensor, size: int) -> Tensor:
    """Cut maps (batch, height, width, channels) into windows (windows, tokens, channels)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def put_together(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Undo `cut`."""
    x = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


class WindowAttention(nn.Module):
    """Attention inside windows with a learned bias for each distance (Liu et al. 2021, eq. 4)."""

    def __init__(self, width: int, heads: int, size: int, resolution: int, shift: int) -> None:
        super().__init__()
        self.heads, self.size, self.shift = heads, size, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * size - 1) ** 2, heads) * 0.02)
        grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"))
        flat = grid.flatten(1)
        far = (flat[:, :, None] - flat[:, None, :]) + size - 1
        self.register_buffer("index", far[0] * (2 * size - 1) + far[1])
        self.register_buffer("mask", self._mask(resolution) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of maps (batch, height, width, channels) window by window."""
        _, height, width, channels = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        windows = cut(x, self.size)
        count, tokens, _ = windows.shape
        qkv = self.qkv(windows).view(count, tokens, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = (query * (channels // self.heads) ** -0.5) @ key.transpose(-2, -1)
        bias = self.table[self.index.view(-1)].view(tokens, tokens, self.heads)
        scores = scores + bias.permute(2, 0, 1).unsqueeze(0)
        if self.mask is not None:
            each = self.mask.shape[0]
            scores = scores.view(-1, each, self.heads, tokens, tokens)
            scores = (scores + self.mask[:, None]).view(-1, self.heads, tokens, tokens)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, tokens, channels)
        x = put_together(self.proj(mixed), self.size, height, width)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x

    def _mask(self, resolution: int) -> Tensor:
        """Keep apart what the shift has brought together: (windows, tokens, tokens)."""
        areas = torch.zeros(1, resolution, resolution, 1)
        edges = (0, resolution - self.size, resolution - self.shift, resolution)
        for row in range(3):
            for column in range(3):
                rows = slice(edges[row], edges[row + 1])
                columns = slice(edges[column], edges[column + 1])
                areas[:, rows, columns] = 3 * row + column
        area = cut(areas, self.size).squeeze(-1)
        apart = area.unsqueeze(1) != area.unsqueeze(2)
        return torch.zeros(apart.shape).masked_fill(apart, -100.0)


class SwinBlock(nn.Module):
    """Attention in windows, shifted in every second block, then two linear layers."""

    def __init__(self, width: int, heads: int, size: int, resolution: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, size, resolution, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (batch, height, width, channels)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Merging(nn.Module):
    """Four neighbours become one place of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the height and the width."""
        even, odd = x[:, 0::2], x[:, 1::2]
        parts = (even[:, :, 0::2], odd[:, :, 0::2], even[:, :, 1::2], odd[:, :, 1::2])
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    """Swin-T (Liu et al. 2021, section 3.3)."""

    def __init__(
        self,
        width: int = 96,
        depths: tuple[int, ...] = DEPTHS,
        heads: int = 3,
        sizes: tuple[int, int] = (224, 7),
        classes: int = 1000,
    ) -> None:
        super().__init__()
        side, size = sizes
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.norm0 = nn.LayerNorm(width)
        layers: list[nn.Module] = []
        resolution = side // 4
        for stage, depth in enumerate(depths):
            if stage:
                layers.append(Merging(width))
                width, heads, resolution = 2 * width, 2 * heads, resolution // 2
            for position in range(depth):
                shift = size // 2 if position % 2 and resolution > size else 0
                layers.append(SwinBlock(width, heads, size, resolution, shift))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, side, side)."""
        x = self.layers(self.norm0(self.patches(x).permute(0, 2, 3, 1)))
        return self.head(self.norm(x).mean((1, 2)))


class MapNorm(nn.LayerNorm):
    """Layer norm over the channels of maps (batch, channels, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize every place."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvnextBlock(nn.Module):
    """Depthwise 7×7, then two linear layers at every place, scaled and added (figure 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (batch, channels, height, width)."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class Convnext(nn.Module):
    """ConvNeXt-T (Liu et al. 2022, table 9)."""

    def __init__(
        self,
        widths: tuple[int, ...] = (96, 192, 384, 768),
        depths: tuple[int, ...] = (3, 3, 9, 3),
        classes: int = 1000,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), MapNorm(widths[0], eps=1e-6)]
        given = widths[0]
        for width, depth in zip(widths, depths, strict=True):
            if width != given:
                layers += [MapNorm(given, eps=1e-6), nn.Conv2d(given, width, 2, 2)]
                given = width
            layers += [ConvnextBlock(width) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(given, eps=1e-6)
        self.head = nn.Linear(given, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        return self.head(self.norm(self.features(x).mean([-2, -1])))
