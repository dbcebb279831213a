"""Channels removed from hand-written transformers and gated units."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.network import Network

Proof = Callable[..., Network]
WIDTH, HEADS = 24, 3


class Attention(nn.Module):
    """Attention of heads, its projections split or fused, its products written out or not."""

    def __init__(self, projections: str, written_out: bool, causal: bool = False) -> None:
        super().__init__()
        self.written_out, self.causal = written_out, causal
        self.projections = projections
        if projections == "split":
            self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        else:
            self.fused = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        if self.projections == "interleaved":
            split = self.fused(x).reshape(batch, length, 3, HEADS, WIDTH // HEADS)
            query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            parts = (
                (self.query(x), self.key(x), self.value(x))
                if self.projections == "split"
                else self.fused(x).split(WIDTH, 2)
            )
            query, key, value = (
                part.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts
            )
        mixed = self._mixed(query, key, value, length)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, length: int) -> Tensor:
        if not self.written_out:
            return functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        scores = query * (WIDTH // HEADS) ** -0.5 @ key.transpose(-2, -1)
        if self.causal:
            past = torch.tril(torch.ones(length, length))
            scores = scores.masked_fill(past == 0, float("-inf"))
        return scores.softmax(-1) @ value


class Block(nn.Module):
    """A transformer block with the norms first."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Patches, a class token and a table of positions in front of one block."""

    def __init__(self, projections: str, written_out: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.block = Block(Attention(projections, written_out))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.block(x))[:, 0])


class LanguageModel(nn.Module):
    """Two causal blocks whose output layer is the embedding."""

    def __init__(self, written_out: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(40, WIDTH), nn.Embedding(12, WIDTH)
        self.blocks = nn.Sequential(
            *(Block(Attention("fused", written_out, causal=True)) for _ in range(2))
        )
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 40, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))


@pytest.mark.parametrize("projections", ["split", "fused", "interleaved"])
@pytest.mark.parametrize("written_out", [True, False])
def test_that_a_vision_transformer_loses_head_widths_and_hidden_units(
    projections: str, written_out: bool, proven_removal: Proof
) -> None:
    example = (torch.randn(1, 3, 16, 16),)

    pruned = proven_removal(VisionTransformer(projections, written_out), example)

    assert pruned.layer("block.wide").out_features == 58
    assert pruned.layer("block.attention.out").in_features == 3 * 5


@pytest.mark.parametrize("written_out", [True, False])
def test_that_a_language_model_keeps_its_embedding_tied(
    written_out: bool, proven_removal: Proof
) -> None:
    example = (torch.randint(0, 40, (1, 12)),)

    pruned = proven_removal(LanguageModel(written_out), example)

    assert pruned.layer("head").weight is pruned.layer("tokens").weight
    assert pruned.layer("blocks.1.attention.fused").out_features < 3 * WIDTH


def test_that_tied_embeddings_without_a_norm_lose_width_together(proven_removal: Proof) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.head = nn.Embedding(30, 16), nn.Linear(16, 30)
            self.head.weight = self.tokens.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.tokens(x)))

    pruned = proven_removal(Tied(), (torch.randint(0, 30, (1, 7)),))

    assert pruned.layer("head").weight is pruned.layer("tokens").weight
    assert pruned.layer("tokens").weight.shape == (30, 10)
    assert (pruned.layer("tokens").embedding_dim, pruned.layer("head").in_features) == (10, 10)


class Heads(nn.Module):
    """Attention of four heads of width 4 whose queries and keys are changed on the way."""

    def __init__(self, change: nn.Module, shared_keys: bool = False) -> None:
        super().__init__()
        self.change, self.shared_keys = change, shared_keys
        self.query, self.out = nn.Linear(16, 16), nn.Linear(16, 5)
        self.key, self.value = (nn.Linear(16, 8 if shared_keys else 16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).view(x.shape[0], x.shape[1], -1, 4).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(
            self.change(query), self.change(key), value, enable_gqa=self.shared_keys
        )
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], 16))


class Rotary(nn.Module):
    """Positions turned into angles, from tables kept as buffers or computed each time."""

    def __init__(self, tables: bool) -> None:
        super().__init__()
        self.tables = tables
        self.register_buffer("cosines", torch.rand(6, 4))
        self.register_buffer("sines", torch.rand(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(6).float(), torch.arange(4).float())
        cosines = self.cosines if self.tables else angles.cos()
        sines = self.sines if self.tables else angles.sin()
        first, second = x.chunk(2, -1)
        return x * cosines + torch.cat([-second, first], -1) * sines


@pytest.mark.parametrize(
    ("change", "shared_keys", "left"),
    [
        (nn.LayerNorm(4), False, (8, 8, 8)),
        (Rotary(tables=True), False, (8, 8, 8)),
        (Rotary(tables=False), False, (8, 8, 8)),
        (nn.Identity(), True, (8, 4, 4)),
    ],
    ids=["norm of each head", "rotary tables", "rotary computed", "grouped queries"],
)
def test_that_heads_lose_whole_heads_where_their_widths_are_tied(
    change: nn.Module, shared_keys: bool, left: tuple[int, int, int], proven_removal: Proof
) -> None:
    pruned = proven_removal(Heads(change, shared_keys), (torch.randn(1, 6, 16),))

    widths = tuple(pruned.layer(name).out_features for name in ("query", "key", "value"))
    assert widths == left


def test_that_the_modules_of_torch_for_transformers_can_be_pruned(proven_removal: Proof) -> None:
    encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    network = nn.Sequential(nn.Linear(8, 16), encoder, nn.Flatten(), nn.Linear(16 * 9, 5))

    pruned = proven_removal(network, (torch.randn(1, 9, 8),))

    assert pruned.layer("1.linear1").out_features == 19
    assert pruned.layer("1.self_attn.in_proj").out_features == 3 * 4 * 2


def test_that_gated_units_lose_channels_of_both_halves(proven_removal: Proof) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 24), nn.Linear(12, 16)
            self.gate, self.up, self.down = nn.Linear(16, 10), nn.Linear(16, 10), nn.Linear(10, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.second(functional.glu(self.first(x), -1)))
            return self.down(functional.silu(self.gate(x)) * self.up(x))

    pruned = proven_removal(Gated(), (torch.randn(1, 6),))

    assert pruned.layer("first").out_features == 2 * 7
    assert pruned.layer("gate").out_features == pruned.layer("up").out_features == 6


def test_that_a_mixer_loses_hidden_units_along_positions_and_channels(
    proven_removal: Proof,
) -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
            self.token1, self.token2 = nn.Linear(16, 20), nn.Linear(20, 16)
            self.channel1, self.channel2 = nn.Linear(16, 32), nn.Linear(32, 16)
            self.last = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).flatten(2).transpose(1, 2)
            mixed = self.token2(functional.gelu(self.token1(self.norm(x).transpose(1, 2))))
            x = x + mixed.transpose(1, 2)
            x = x + self.channel2(functional.gelu(self.channel1(self.norm(x))))
            return self.last(x.mean(1))

    pruned = proven_removal(Mixer(), (torch.randn(1, 3, 16, 16),))

    assert (pruned.layer("token1").out_features, pruned.layer("channel1").out_features) == (12, 19)


def test_that_channels_are_followed_through_an_einsum_with_a_raw_weight(
    proven_removal: Proof,
) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(6, 4, 1)
            self.mix = nn.Parameter(torch.randn(10, 6))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            return self.last(torch.einsum("bchw,cd->bdhw", x, self.mix))

    pruned = proven_removal(Mixed(), (torch.randn(1, 3, 8, 8),))

    assert pruned.module.get_parameter("mix").shape == (6, 6)
