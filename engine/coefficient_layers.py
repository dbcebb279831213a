"""Layers whose weight is coefficients in a basis of their inputs: plain torch.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import math
from typing import Any

import torch
from torch import nn

from featherweight.engine.structured_convolutions import StructuredConvolution
from featherweight.engine.structured_layers import StructuredLayer


class CoefficientLayer(StructuredLayer):
    """Base of layers that compute W·x as C·(Bᵀx): `weight` is C, outputs by coefficients.

    The inputs x of an output are `channels`, each of places on a grid of `sides`.
    """

    channels: int
    sides: tuple[int, ...]
    groups: int
    weight: nn.Parameter

    def seen(self, tensors: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Return what the coefficients are multiplied with, Bᵀx.

        `rows` are inputs x, groups by rows by columns, of which the columns are the channels and in
        each its places; the answer has a column for every coefficient.
        """
        raise NotImplementedError


class TransformLayer(CoefficientLayer):
    """Base of layers with an orthonormal basis of the grid, and of the channels where it is `klt`.

    The grid's is a product of one for each side: cosines (`dct`), steps (`haar`), or derivatives
    of a Gaussian a quarter of the side wide, made orthonormal (`gaussian`). The coefficients are
    those of the `kept` lowest frequencies of each channel. With `klt` they are those of all
    cosines of each of `kept` mixtures of channels: `turn` is groups by channels by kept, int16, in
    parts of 32768.
    """

    basis: str
    kept: int

    def matrix(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the weight W: outputs by channels by places."""
        weight, places = tensors["weight"], math.prod(self.sides)
        if self.basis == "klt":
            turn = tensors["turn"].to(weight.dtype) / 32768
            held = weight.reshape(self.groups, -1, self.kept, places).transpose(2, 3)
            held = torch.matmul(held, turn.transpose(1, 2)[:, None]).transpose(2, 3)
        else:
            held = weight.reshape(-1, self.channels, self.kept)
            if self.kept < places:
                # The frequencies that are not kept are read from a column of zeros.
                at = torch.tensor(self.order, device=weight.device)
                held = nn.functional.pad(held, (0, 1)).index_select(2, at)
        return self._along(held, False).reshape(self.out_features, self.channels, places)

    def seen(self, tensors: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Return Bᵀx."""
        groups, count, _ = rows.shape
        held = self._along(rows, True).reshape(groups, count, self.channels, -1)
        if self.basis == "klt":
            turn = tensors["turn"].to(rows.dtype) / 32768
            held = torch.matmul(held.transpose(2, 3), turn[:, None]).transpose(2, 3)
        elif self.kept < held.shape[3]:
            held = held.index_select(3, torch.tensor(self.lowest, device=rows.device))
        return held.reshape(groups, count, -1)

    def _hold(self, channels: int, sides: tuple[int, ...], basis: str, kept: int) -> None:
        self.channels, self.sides, self.basis, self.kept = channels, sides, basis, kept
        places = math.prod(sides)
        most = channels if basis == "klt" else places
        if basis not in ("dct", "haar", "gaussian", "klt") or not 0 < kept <= most:
            raise ValueError(f"a basis of {most} has no {kept} coefficients")
        # Deriving Gaussians takes the cube of the side.
        if max(sides) > (64 if basis == "gaussian" else 1024) or places > 2**20:
            raise ValueError("the grid of a basis is too large")
        columns = kept * (places if basis == "klt" else channels)
        self.weight = nn.Parameter(torch.zeros(self.out_features, columns))
        if basis == "klt":
            turn = torch.zeros(self.groups, channels, kept, dtype=torch.int16)
            self.register_buffer("turn", turn)
        self.lowest, self.order = [0], [0]
        if basis != "klt" and kept < places:
            self.lowest = sorted(self._zigzag()[:kept])
            found = {place: at for at, place in enumerate(self.lowest)}
            self.order = [found.get(place, kept) for place in range(places)]
        made = {"haar": self._steps, "gaussian": self._derivatives}.get(basis)
        self.tables = {side: made(side) for side in sides} if made else {}

    def _zigzag(self) -> list[int]:
        """Return the places of frequencies in the grid, the lowest first."""
        keys: list[list[float]] = [[]]
        for side in self.sides:
            haar = self.basis == "haar"
            pitch = [number.bit_length() if haar else number for number in range(side)]
            keys = [[*key, number / (pitch[-1] + 1)] for key in keys for number in pitch]
        return sorted(range(len(keys)), key=lambda at: (round(sum(keys[at]), 9), max(keys[at])))

    def _along(self, values: torch.Tensor, inward: bool) -> torch.Tensor:
        """Return values of grids turned along every side, to frequencies or back."""
        held = values.reshape(-1, *self.sides)
        for side in reversed(self.sides):
            if side > 1:
                waves = self._waves(side, held)
                held = torch.matmul(held, waves.transpose(0, 1) if inward else waves)
            held = held.movedim(-1, 1)
        return held

    def _waves(self, side: int, like: torch.Tensor) -> torch.Tensor:
        """Return the basis of one side: frequencies by places."""
        if side in self.tables:
            return torch.tensor(self.tables[side], dtype=like.dtype, device=like.device)
        at = torch.arange(side, device=like.device)
        # Whole numbers of 1/(4·side) of a turn lose nothing, however high the frequency is.
        turns = at[:, None] * (2 * at[None] + 1) % (4 * side)
        waves = (turns.to(like.dtype) * (math.pi / (2 * side))).cos()
        scale = (((at > 0).to(like.dtype) + 1) / side).sqrt()
        return waves * scale[:, None]

    @staticmethod
    def _steps(side: int) -> list[list[float]]:
        """Return a constant and one step at the middle of every piece, the longest pieces first."""
        rows, pieces = [[math.sqrt(1 / side)] * side], [(0, side)]
        while pieces:
            start, end = pieces.pop(0)
            left = (end - start + 1) // 2
            right = end - start - left
            if right:
                height = math.sqrt(1 / (left * right * (left + right)))
                step = [right * height] * left + [-left * height] * right
                rows.append([0.0] * start + step + [0.0] * (side - end))
                pieces += [(start, start + left), (start + left, end)]
        return rows

    @staticmethod
    def _derivatives(side: int) -> list[list[float]]:
        """Return a Gaussian times powers of the place, each without what it shares with lower."""
        places = [(2 * at + 1) / side - 1 for at in range(side)]
        rows: list[list[float]] = []
        for _ in range(side):
            # The next power starts at the last row, which is as good and keeps all digits.
            row = (
                [place * value for place, value in zip(places, rows[-1], strict=True)]
                if rows
                else [math.exp(-2 * place * place) for place in places]
            )
            for known in rows * 2:
                shared = sum(one * other for one, other in zip(known, row, strict=True))
                row = [one - shared * other for one, other in zip(row, known, strict=True)]
            length = math.sqrt(sum(value * value for value in row))
            rows.append([value / length for value in row])
        return rows


class TransformLinear(TransformLayer):
    """A linear layer whose inputs are `channels` of places, on a grid of `sides`, one by one."""

    options = ("in_features", "out_features", "sides", "basis", "kept", "bias")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sides: tuple[int, ...],
        basis: str,
        kept: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.groups = in_features, out_features, 1
        places = math.prod(sides)
        if places < 1 or in_features % places:
            raise ValueError(f"{in_features} inputs are no grids of {places} places")
        self._hold(in_features // places, sides, basis, kept)
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the product with the whole weight."""
        return nn.functional.linear(x, self.matrix(tensors).flatten(1), tensors.get("bias"))

    def products(self) -> int:
        """Return those of the whole weight."""
        return self.in_features * self.out_features


class TransformConvolution(TransformLayer, StructuredConvolution):
    """A convolution whose grid are the places of its kernel."""

    options = (*StructuredConvolution.options, "basis", "kept")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        bias: bool = True,
        basis: str = "dct",
        kept: int = 1,
        **place: Any,
    ) -> None:
        StructuredConvolution.__init__(self, in_channels, out_channels, kernel_size, bias, **place)
        self._hold(in_channels // self.groups, kernel_size, basis, kept)

    def kernel(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the kernel that the coefficients stand for."""
        shape = (self.out_channels, self.channels, *self.kernel_size)
        return self.matrix(tensors).reshape(shape)


class SharedBasisConvolution(CoefficientLayer, StructuredConvolution):
    """A convolution whose filters are mixtures of the same few `atoms` on every channel.

    `atoms` are count times the places of a kernel, in one dimension. With `maps` every atom is
    convolved with every channel and a 1×1 convolution mixes them; otherwise the kernel is made.
    """

    options = (*StructuredConvolution.options, "count", "maps")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        bias: bool = True,
        count: int = 1,
        maps: bool = False,
        **place: Any,
    ) -> None:
        StructuredConvolution.__init__(self, in_channels, out_channels, kernel_size, bias, **place)
        self.channels, self.sides = in_channels // self.groups, kernel_size
        self.count, self.maps = count, maps
        self.weight = nn.Parameter(torch.zeros(out_channels, self.channels * count))
        self.atoms = nn.Parameter(torch.zeros(count * math.prod(kernel_size)))

    def kernel(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the filters that are mixed of the atoms."""
        atoms = tensors["atoms"].reshape(self.count, -1)
        held = torch.matmul(tensors["weight"].reshape(-1, self.count), atoms)
        return held.reshape(self.out_channels, self.channels, *self.kernel_size)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the convolution, by its kernel or by a map for each atom and channel."""
        if not self.maps:
            return super().computed(tensors, x)
        atoms = tensors["atoms"].reshape(self.count, 1, *self.kernel_size)
        ones = (1,) * len(self.kernel_size)
        made = self.convolved(x, atoms.repeat(self.in_channels, 1, *ones), None, self.in_channels)
        mixed = tensors["weight"].reshape(self.out_channels, -1, *ones)
        convolve = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)
        return convolve[len(ones) - 1](made, mixed, tensors.get("bias"), groups=self.groups)

    def products(self) -> int:
        """Return those of the kernel, or of the maps and of their mixture."""
        if not self.maps:
            return super().products()
        places = math.prod(self.kernel_size)
        mixed = self.out_channels * self.channels * self.count
        return self.in_channels * self.count * places + mixed

    def seen(self, tensors: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Return the product of every channel with every atom."""
        atoms = tensors["atoms"].reshape(self.count, -1).to(rows.dtype)
        held = rows.unflatten(2, (self.channels, -1))
        return torch.matmul(held, atoms.transpose(0, 1)).flatten(2)
