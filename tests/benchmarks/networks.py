"""ResNet-50, VGG-16 and ViT-B/16 as their papers describe them, with random weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """Residual block of ResNet-50 (He et al. 2016), the stride on its 3×3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
        self.look = nn.Sequential(
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        )
        self.expand = nn.Sequential(
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if stride > 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to what it was given."""
        y = functional.relu(self.look(functional.relu(self.reduce(x))))
        return functional.relu(self.expand(y) + self.shortcut(x))


def resnet50() -> nn.Sequential:
    """Four stages of 3, 4, 6 and 3 blocks; 1000 classes."""
    blocks: list[nn.Module] = []
    inputs = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for position in range(count):
            blocks.append(Bottleneck(inputs, width, stride if position == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2048, 1000),
    )


def vgg16() -> nn.Sequential:
    """Configuration D of Simonyan and Zisserman 2015; 1000 classes."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(512 * 49, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 1000),
    )


class Attention(nn.Module):
    """Attention of all tokens to all, in 12 heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.given = nn.Linear(width, 3 * width)
        self.made = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens (batch, tokens, width)."""
        batch, tokens, width = x.shape
        split = self.given(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.made(mixed.transpose(1, 2).reshape(batch, tokens, width))


class EncoderBlock(nn.Module):
    """Attention, then two linear layers, each normalized before and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.second_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine the tokens."""
        x = x + self.attention(self.first_norm(x))
        return x + self.mlp(self.second_norm(x))


class VisionTransformer(nn.Module):
    """ViT-B/16 (Dosovitskiy et al. 2021): 12 blocks of width 768 over 196 patches; 1000 classes."""

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.summary = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images of 224×224."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.summary.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.norm(self.blocks(tokens + self.places))
        return self.head(tokens[:, 0])


def vit_b16() -> VisionTransformer:
    """The base size with patches of 16×16."""
    return VisionTransformer()
