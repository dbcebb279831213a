"""Networks of attention between tokens: ViT, GPT and a BERT-style encoder."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(nn.Module):
    """Attention of all tokens to all; one linear layer gives queries, keys and values."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens (batch, tokens, width)."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class SplitAttention(nn.Module):
    """Attention with a linear layer each for queries, keys and values, its products written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Mix the tokens (batch, tokens, width); `hidden` is added to all scores."""
        query, key, value = (
            self._by_head(layer(x)) for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        if hidden is not None:
            scores = scores + hidden
        mixed = scores.softmax(dim=-1) @ value
        return self.out(mixed.permute(0, 2, 1, 3).contiguous().flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def feed_forward(width: int, wider: int = 4, approximate: str = "none") -> nn.Sequential:
    """Return two linear layers with a GELU between them."""
    return nn.Sequential(
        nn.Linear(width, wider * width), nn.GELU(approximate), nn.Linear(wider * width, width)
    )


class PreNormBlock(nn.Module):
    """Attention, then two linear layers, each normalized before and added to what came in."""

    def __init__(self, width: int, attention: nn.Module, approximate: str = "none") -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = attention
        self.ln2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = feed_forward(width, approximate=approximate)

    def forward(self, x: Tensor) -> Tensor:
        """Refine the tokens (batch, tokens, width)."""
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Vit(nn.Module):
    """ViT-B/16 (Dosovitskiy et al. 2021, table 1); queries, keys, values fused or apart."""

    def __init__(
        self,
        fused: bool = True,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        sizes: tuple[int, int] = (224, 16),
        classes: int = 1000,
    ) -> None:
        super().__init__()
        side, patch = sizes
        kind = FusedAttention if fused else SplitAttention
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(
            *(PreNormBlock(width, kind(width, heads)) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, side, side)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm(self.blocks(x + self.pos_embed))
        return self.head(x[:, 0])


class Gpt(nn.Module):
    """GPT-2 small (Radford et al. 2019): its first and its last layer share their weights."""

    def __init__(
        self,
        words: int = 50257,
        context: int = 1024,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(words, width)
        self.wpe = nn.Embedding(context, width)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(
            PreNormBlock(width, FusedAttention(width, heads, causal=True), "tanh")
            for _ in range(depth)
        )
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores of every next word for tokens (batch, length)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(places))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class PostNormBlock(nn.Module):
    """Attention and two linear layers, each added to what came in and normalized afterwards."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = SplitAttention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Refine the tokens (batch, tokens, width)."""
        x = self.norm1(x + self.attention(x, hidden))
        return self.norm2(x + self.output(functional.gelu(self.intermediate(x))))


class Bert(nn.Module):
    """BERT-base without a head for a task (Devlin et al. 2019): gives tokens and their summary."""

    def __init__(
        self,
        words: int = 30522,
        context: int = 512,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(words, width, padding_idx=0)
        self.position = nn.Embedding(context, width)
        self.kind = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(PostNormBlock(width, heads) for _ in range(depth))
        self.pooler = nn.Linear(width, width)
        self.register_buffer("places", torch.arange(context).unsqueeze(0), persistent=False)

    def forward(self, tokens: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Encode tokens (batch, length); `attended` is 1 where there is one, 0 for padding."""
        kinds = torch.zeros_like(tokens)
        x = self.word(tokens) + self.kind(kinds) + self.position(self.places[:, : tokens.size(1)])
        x = self.norm(x)
        hidden = (1.0 - attended[:, None, None, :].to(x.dtype)) * -1e4
        for layer in self.layers:
            x = layer(x, hidden)
        return x, torch.tanh(self.pooler(x[:, 0]))
