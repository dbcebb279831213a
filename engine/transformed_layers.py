"""Convolutions whose filters are a few prototypes, each moved in one of a few ways: plain torch.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

from typing import Any

import torch
from torch import nn

from featherweight.engine.structured_convolutions import StructuredConvolution


class TransformedConvolution(StructuredConvolution):
    """Base of convolutions that make units, filters or slices of them, of moved prototypes.

    `prototypes` is `count` by channels of a unit by places of a prototype. A way to move one says
    for every place of the kernel which place of the prototype comes there. `codes` (uint8) has
    prototype·ways + way for every unit, in as few bits as the largest takes, the lowest first.
    `scales` are factors of the units. `ordered` units have neither: they are the moved prototypes
    in their order, all in the first way first.
    """

    options: tuple[str, ...] = (*StructuredConvolution.options, "count")
    sliced = ordered = scaled = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        count: int,
        bias: bool = True,
        **place: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, **place)
        channels = in_channels // self.groups
        size, ways = self._ways()
        self.count, self.ways = count, ways.shape[0]
        self.places: list[int] = ways.reshape(-1).tolist()
        if self.ordered and count * self.ways < out_channels:
            raise ValueError(f"{count} prototypes are too few for {out_channels} filters")
        self.bits = max((count * self.ways - 1).bit_length(), 1)
        self.units = out_channels * channels if self.sliced else out_channels
        self.prototypes = nn.Parameter(torch.zeros(count, 1 if self.sliced else channels, size))
        if not self.ordered:
            packed = -(-self.units * self.bits // 8)
            self.register_buffer("codes", torch.zeros(packed, dtype=torch.uint8))
        if self.scaled:
            units = (out_channels, channels) if self.sliced else (out_channels,)
            self.scales = nn.Parameter(torch.zeros(units))

    def kernel(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the filters that the prototypes stand for."""
        moved = self.moved(tensors["prototypes"])
        if self.ordered:
            units = moved.transpose(0, 1).flatten(0, 1)[: self.units]
        else:
            units = moved.flatten(0, 1).index_select(0, self._chosen(tensors["codes"]))
        if self.scaled:
            units = units * tensors["scales"].reshape(-1, 1, 1)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        return units.reshape(shape)

    def moved(self, prototypes: torch.Tensor) -> torch.Tensor:
        """Return every prototype in every way: count by ways by channels by kernel places."""
        places = torch.tensor(self.places, device=prototypes.device)
        found = prototypes.index_select(2, places)
        return found.reshape((*found.shape[:2], self.ways, -1)).transpose(1, 2)

    def _chosen(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the unpacked codes of all units, int64."""
        # Divided, because not every exporter can shift bytes.
        steps = 2 ** torch.arange(max(self.bits, 8), device=codes.device)
        single = codes.long().unsqueeze(1) // steps[:8] % 2
        rows = single.reshape(-1)[: self.units * self.bits].reshape(self.units, self.bits)
        return (rows * steps[: self.bits]).sum(1)

    def _ways(self) -> tuple[int, torch.Tensor]:
        """Return how many places a prototype has, and the place for every way and kernel place."""
        raise NotImplementedError


class DoublyConvolution(TransformedConvolution):
    """A convolution whose filters are crops of larger ones, `margin` larger on every side over 1.

    The ways are the crops in reading order.
    """

    options: tuple[str, ...] = (*TransformedConvolution.options, "margin")

    def __init__(self, *given: Any, margin: int = 1, **others: Any) -> None:
        self.margin = margin
        super().__init__(*given, **others)

    def _ways(self) -> tuple[int, torch.Tensor]:
        """Return the places of the crops."""
        sides = [side + self.margin if side > 1 else 1 for side in self.kernel_size]
        size = torch.Size(sides).numel()
        grid = torch.arange(size, device="cpu").reshape(sides)
        for axis, side in enumerate(self.kernel_size):
            grid = grid.unfold(axis, side, 1)
        return size, grid.reshape(-1, *self.kernel_size)


class RotatedConvolution(TransformedConvolution):
    """A two-dimensional convolution of prototypes turned by quarters.

    The `group` is "C4", or "D4" where prototypes are also mirrored, left to right before turning.
    The units are "slices" or "filters" with a factor each; "tied" filters are ordered.
    """

    options: tuple[str, ...] = (*TransformedConvolution.options, "group", "units_are")

    def __init__(
        self, *given: Any, group: str = "C4", units_are: str = "slices", **others: Any
    ) -> None:
        if units_are not in ("slices", "filters", "tied") or group not in ("C4", "D4"):
            raise ValueError("a RotatedConvolution has slices, filters or tied ones in C4 or D4")
        self.group, self.units_are = group, units_are
        self.sliced, self.ordered = units_are == "slices", units_are == "tied"
        self.scaled = not self.ordered
        super().__init__(*given, **others)

    def _ways(self) -> tuple[int, torch.Tensor]:
        """Return the places of the turns."""
        height, width = self.kernel_size
        if height != width:
            raise ValueError("only square kernels can be turned")
        grid = torch.arange(height * width, device="cpu").reshape(height, width)
        starts = [grid] if self.group == "C4" else [grid, grid.flip(1)]
        turns = [start.rot90(turn) for start in starts for turn in range(4)]
        return height * width, torch.stack(turns)


class ShiftedConvolution(TransformedConvolution):
    """A convolution of prototypes at several places of the kernel, up to `shift` to each side.

    What is shifted out is lost where they are as large as the kernel and `cut`; otherwise they are
    `shift` smaller on every side over 1 and stay inside. Behind it come zeros. `resized` adds the
    prototypes at half of their size and at 1.5 times it. Every filter has a factor.
    """

    options: tuple[str, ...] = (*TransformedConvolution.options, "shift", "cut", "resized")
    scaled = True

    def __init__(
        self, *given: Any, shift: int = 1, cut: bool = True, resized: bool = False, **others: Any
    ) -> None:
        self.shift, self.cut, self.resized = shift, cut, resized
        self.resizing: list[float] = []
        super().__init__(*given, **others)

    def moved(self, prototypes: torch.Tensor) -> torch.Tensor:
        """Return every prototype in every way: count by ways by channels by kernel places."""
        if self.resized:
            size = prototypes.shape[2]
            by = torch.tensor(self.resizing, dtype=prototypes.dtype, device=prototypes.device)
            prototypes = torch.cat([prototypes, prototypes @ by.reshape(size, 2 * size)], 2)
        return super().moved(nn.functional.pad(prototypes, (0, 1)))

    def _ways(self) -> tuple[int, torch.Tensor]:
        """Return the places of the shifts, of every size; the place behind the last is zero."""
        steps = [min(self.shift, side - 1) for side in self.kernel_size]
        sides = list(self.kernel_size)
        if not self.cut:
            sides = [side - step for side, step in zip(sides, steps, strict=True)]
        size, sizes = torch.Size(sides).numel(), 3 if self.resized else 1
        around = [step for step in reversed(steps) for _ in range(2)]
        found = []
        for start in range(0, sizes * size, size):
            grid = torch.arange(start, start + size, device="cpu").reshape(sides)
            grid = nn.functional.pad(grid, around, value=sizes * size)
            for axis, side in enumerate(self.kernel_size):
                grid = grid.unfold(axis, side, 1)
            found.append(grid.reshape(-1, *self.kernel_size))
        if self.resized:
            by = [self._resizing(sides, factor) for factor in (0.5, 1.5)]
            self.resizing = torch.cat(by, 1).reshape(-1).tolist()
        return size, torch.cat(found)

    def _resizing(self, sides: list[int], factor: float) -> torch.Tensor:
        """Return the matrix, from places to places, of linear interpolation about the centre."""
        result = torch.ones(1, 1, device="cpu")
        for side in sides:
            there = torch.arange(side, device="cpu") - (side - 1) / 2
            apart = (there[:, None] - there[None, :] / factor).abs()
            result = torch.kron(result, (1 - apart * min(factor, 1)).clamp_min(0))
        return result
