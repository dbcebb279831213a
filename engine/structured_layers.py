"""Layers whose weight is a matrix made of few numbers: plain torch, so that every exporter follows.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import torch
from torch import nn


class StructuredLayer(nn.Module):
    """Base of layers that compute with the few numbers of a structured matrix.

    All tensors of a kind are given from outside to `computed`, so that they can be held in other
    forms than as parameters; tables of whole numbers are buffers. `options` are the names of what
    the constructor is given, all of them attributes; the one named `bias` says whether there is
    one.
    """

    options: tuple[str, ...] = ()
    in_features: int
    out_features: int
    bias: nn.Parameter | None

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for its tensors by name."""
        raise NotImplementedError

    def products(self) -> int:
        """Return the multiply-accumulates for one place of the input (a row, a pixel)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output."""
        held: dict[str, torch.Tensor] = {
            name: value
            for name, value in (*self._parameters.items(), *self._buffers.items())
            if value is not None
        }
        return self.computed(held, x)

    def _add_bias(self, bias: bool) -> None:
        self.bias = nn.Parameter(torch.zeros(self.out_features)) if bias else None


class MonarchLinear(StructuredLayer):
    """A linear layer of two block-diagonal matrices with a transposition between them.

    The inputs fall into `in_blocks` and the outputs into `out_blocks`; the weight between each two
    is a product of `rank` columns and rows. `first` is in_blocks·out_blocks·rank by the inputs of a
    block, ordered by block of inputs, block of outputs and rank; `second` is outputs by
    in_blocks·rank.
    """

    options = ("in_features", "out_features", "in_blocks", "out_blocks", "rank", "bias")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        in_blocks: int,
        out_blocks: int,
        rank: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.in_blocks, self.out_blocks, self.rank = in_blocks, out_blocks, rank
        if in_features % in_blocks or out_features % out_blocks:
            raise ValueError("the blocks of a MonarchLinear must share its channels evenly")
        inner = in_blocks * out_blocks * rank
        self.first = nn.Parameter(torch.zeros(inner, in_features // in_blocks))
        self.second = nn.Parameter(torch.zeros(out_features, in_blocks * rank))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return two batched products, blocks first."""
        inner, outer = self.in_blocks, self.out_blocks
        first = tensors["first"].reshape(inner, outer * self.rank, self.in_features // inner)
        second = tensors["second"].reshape(outer, self.out_features // outer, inner * self.rank)
        rows = x.reshape(-1, inner, self.in_features // inner).transpose(0, 1)
        mixed = torch.matmul(rows, first.transpose(1, 2))
        mixed = mixed.reshape(inner, -1, outer, self.rank).permute(2, 1, 0, 3)
        mixed = mixed.reshape(outer, -1, inner * self.rank)
        made = torch.matmul(mixed, second.transpose(1, 2)).transpose(0, 1)
        made = made.reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def products(self) -> int:
        """Return how many weights there are: each is used once."""
        rows = self.in_features * self.out_blocks + self.out_features * self.in_blocks
        return rows * self.rank


class CirculantBlocks(StructuredLayer):
    """Base of layers of circulant blocks: each is k×k and holds its first column alone.

    `vectors` is blocks by k, the blocks ordered by taps, then by outputs and then by inputs.
    Channels that k does not divide are filled up with zeros.
    """

    block: int
    columns: int
    rows: int

    def _matrices(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return taps by outputs by inputs, made by repeating alone: no table of places."""
        k = self.block
        # Rows of k + 1 numbers out of one that repeats after k are each a step further.
        rows = vectors.flip(1).repeat(1, k + 1).reshape(-1, k, k + 1)[:, :, :k].flip(1)
        rows = rows.reshape(-1, self.rows, self.columns, k, k).transpose(2, 3)
        whole = rows.reshape(-1, self.rows * k, self.columns * k)
        return whole[:, : self.out_features, : self.in_features]


class CirculantLinear(CirculantBlocks):
    """A linear layer of circulant blocks.

    Many small blocks are multiplied as frequencies, where each block is a row of numbers; few or
    large ones as the matrix that they stand for.
    """

    options = ("in_features", "out_features", "block", "bias")

    def __init__(self, in_features: int, out_features: int, block: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.block = in_features, out_features, block
        self.columns, self.rows = -(-in_features // block), -(-out_features // block)
        self.vectors = nn.Parameter(torch.zeros(self.rows * self.columns, block))
        self._add_bias(bias)
        # The tables of waves, about 4·block² numbers, must stay smaller than what they help with.
        self.as_waves = block <= 64 and self.rows * self.columns >= 4 * block

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the product by frequencies or by the whole matrix."""
        if not self.as_waves:
            (matrix,) = self._matrices(tensors["vectors"])
            return nn.functional.linear(x, matrix, tensors.get("bias"))
        missing = self.columns * self.block - self.in_features
        filled = nn.functional.pad(x, (0, missing)) if missing else x
        made = self._by_frequency(tensors["vectors"], filled.reshape(-1, self.columns, self.block))
        made = made[:, : self.out_features].reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def products(self) -> int:
        """Return those of both transforms and of the frequencies, or of the whole matrix."""
        if not self.as_waves:
            return self.in_features * self.out_features
        pairs = (self.block + 1) // 2
        transforms = (self.rows + self.columns) * self.block * 2 * pairs
        return transforms + 4 * pairs * self.rows * self.columns

    def _by_frequency(self, vectors: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs of rows of blocks, filled up."""
        real, imaginary = self._waves(vectors)
        pairs, inner, outer = real.shape[1], 2 * self.columns, 2 * self.rows
        # The first pair holds two real frequencies, the others each a complex one.
        turned = torch.cat([torch.zeros_like(imaginary[:, :1]), imaginary[:, 1:]], 1)
        second = torch.cat([imaginary[:, :1], real[:, 1:]], 1)
        table = torch.stack([real, turned, -turned, second], 2).reshape(self.block, -1)
        held = (vectors @ table).reshape(self.rows, self.columns, pairs, 2, 2)
        held = held.permute(2, 1, 3, 0, 4).reshape(pairs, inner, outer)
        waves = torch.stack([real, imaginary], 2).reshape(self.block, -1)
        seen = (x @ waves).reshape(-1, self.columns, pairs, 2).permute(2, 0, 1, 3)
        made = torch.matmul(seen.reshape(pairs, -1, inner), held)
        made = made.reshape(pairs, -1, self.rows, 2).permute(1, 2, 0, 3)
        share = torch.cat([waves[:, :2], 2 * waves[:, 2:]], 1) / self.block
        made = made.reshape(-1, self.rows, 2 * pairs) @ share.T
        return made.reshape(-1, self.rows * self.block)

    def _waves(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the real and imaginary parts of waves, times by pairs of frequencies."""
        k = self.block
        times = torch.arange(k, device=like.device)
        steps = times[:, None] * times[None, : (k + 1) // 2] % k
        angle = steps.to(like.dtype) * (2 * torch.pi / k)
        odd = (1 - 2 * (times[:, None] % 2)).to(like.dtype)
        last = odd if k % 2 == 0 else torch.zeros_like(odd)
        return angle.cos(), torch.cat([last, -angle.sin()[:, 1:]], 1)


class ToeplitzLikeBlocks(StructuredLayer):
    """Base of layers of square blocks W that Z₁·W - W·Z₋₁ = left·rightᵀ gives, a matrix of rank r.

    Z shifts down by one place; what falls out comes back on top, times 1 or -1. `left` and `right`
    are taps·blocks·side by r, side is the lesser of inputs and outputs. The last block of a tap is
    cut to fit.
    """

    rank: int
    side: int
    blocks: int

    def _matrices(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return taps by outputs by inputs; sums along wrapped diagonals undo the shifts."""
        k, shape = self.side, (-1, self.side, self.rank)
        # Columns by rows, twice side by side: rows of another length read it along diagonals.
        moved = torch.matmul(right.reshape(shape), left.reshape(shape).transpose(1, 2))
        count = moved.shape[0]
        flat = torch.cat([moved, moved], 2).reshape(count, -1)
        flat = torch.cat([flat[:, 1:], flat[:, : k + 1]], 1)
        along = flat.reshape(count, k, 2 * k + 1)[:, :, :k]
        sums = torch.cumsum(along, 1)
        before, whole = sums - along, sums[:, -1:]
        # Once around, the sign turns: so the start of a diagonal follows from its end.
        found = whole / 2 - before
        flat = torch.cat([found, found], 2).reshape(count, -1)[:, k:]
        columns = flat.reshape(count, k, 2 * k - 1)[:, :, :k]
        if self.out_features >= self.in_features:
            tall = columns.transpose(1, 2).reshape(-1, self.blocks * k, k)
            return tall[:, : self.out_features]
        return columns.reshape(-1, self.blocks * k, k)[:, : self.in_features].transpose(1, 2)


class ToeplitzLikeLinear(ToeplitzLikeBlocks):
    """A linear layer of low displacement rank."""

    options = ("in_features", "out_features", "rank", "bias")

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.side = min(in_features, out_features)
        self.blocks = -(-max(in_features, out_features) // self.side)
        self.left = nn.Parameter(torch.zeros(self.blocks * self.side, rank))
        self.right = nn.Parameter(torch.zeros(self.blocks * self.side, rank))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the product with the whole matrix."""
        (matrix,) = self._matrices(tensors["left"], tensors["right"])
        return nn.functional.linear(x, matrix, tensors.get("bias"))

    def products(self) -> int:
        """Return those of the whole matrix."""
        return self.in_features * self.out_features
