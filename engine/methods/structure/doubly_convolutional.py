"""A convolution whose filters are overlapping crops of larger filters."""

import math
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.prototypes import fitted, most_prototypes
from featherweight.engine.methods.transformed import (
    Convolution,
    filled,
    number_bits,
    on_meta,
    smallest,
    units_of,
    ways_of,
    weight_bits,
)
from featherweight.engine.options import Retraining, number
from featherweight.engine.transformed_layers import DoublyConvolution, TransformedConvolution

MOST_MARGIN = 2


class DoublyConvolutional(FactorMethod, frozen=True, kw_only=True):
    """Doubly convolutional filters (Zhai et al. 2016, "Doubly Convolutional Neural Networks").

    A meta-filter is `margin` larger than the kernel on every side over 1; its crops of the kernel's
    size are filters. Filters are laid over each other in chains, the next always where it costs
    least in squares; a meta-filter starts as the mean of a chain. Then filters choose their crop
    and meta-filters become the means of what chose them, by turns. There are as many as fit, with
    the table of crops, into `keep` of the weight.
    """

    name: ClassVar[str] = "doubly_convolutional"
    title: ClassVar[str] = "Doubly convolutional"
    label: ClassVar[str] = "Crops {}"
    advice: ClassVar[str] = (
        "Filters become crops of fewer, larger filters, which share what overlaps. Only the file "
        "gets smaller: the network runs as before. Filters that were trained freely overlap "
        "little, so it needs retraining."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "keep"
    retrain: ClassVar[Retraining] = "needed"

    keep: Annotated[
        float,
        number("Keep", "Share of the weight's bits that all its stand-ins may take.", 0.01, 1.0),
    ] = 0.45
    margin: Annotated[
        int,
        number("Margin", "How much larger than a filter those it is cut from are.", 1, MOST_MARGIN),
    ] = 1

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the filters cannot be crops; empty if they can."""
        if not isinstance(layer, Convolution):
            return "Crops of larger filters are for convolutions."
        if max(layer.kernel_size) == 1:
            return "Its kernel has one place, so crops would share nothing."
        sides = _sides(layer, MOST_MARGIN)
        ways = math.prod(MOST_MARGIN + 1 for side in layer.kernel_size if side > 1)
        if smallest(layer, math.prod(sides), ways, scaled=False) >= weight_bits(layer):
            return "The layer is too small: even one larger filter would take more than its own."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the convolution of crops on the meta device."""
        assert isinstance(layer, Convolution)
        outputs, channels = layer.weight.shape[:2]
        each = math.prod(_sides(layer, self.margin)) * channels * number_bits(layer)
        ways = math.prod(self.margin + 1 for side in layer.kernel_size if side > 1)
        budget = math.floor(self.keep * weight_bits(layer))
        count = most_prototypes(budget, each, outputs, ways)
        return on_meta(DoublyConvolution, layer, count=count, margin=self.margin)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the convolution of the crops found."""
        assert isinstance(layer, Convolution)
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, TransformedConvolution)
        units = units_of(layer.weight, made)
        start = _Chains(units, layer.kernel_size, self.margin).means(made.count, check)
        return filled(chain, layer, fitted(units, ways_of(made), start, False, check))


class _Chains:
    """Filters U×C×K laid over each other on a canvas, with room for the margin on either side."""

    def __init__(self, units: Tensor, kernel: tuple[int, ...], margin: int) -> None:
        self.kernel = kernel
        self.margins = [margin if side > 1 else 0 for side in kernel]
        self.sides = [side + 2 * room for side, room in zip(kernel, self.margins, strict=True)]
        grid = torch.arange(math.prod(self.sides)).reshape(self.sides)
        for axis, side in enumerate(kernel):
            grid = grid.unfold(axis, side, 1)
        self.windows = grid.reshape(-1, math.prod(kernel))
        steps = torch.meshgrid(*(torch.arange(2 * m + 1) for m in self.margins), indexing="ij")
        self.offsets = torch.stack(steps, -1).reshape(len(self.windows), -1)
        self.units = units.float()
        self.squares = self.units.square().sum(1)
        self.free = torch.ones(len(units), dtype=torch.bool)

    def means(self, count: int, check: Check) -> Tensor:
        """Return the means of `count` chains that take all filters: count×C×places."""
        found = []
        for place in range(count):
            length = math.ceil(int(self.free.sum()) / (count - place))
            found.append(self._chain(length, check))
        return torch.stack(found)

    def _chain(self, length: int, check: Check) -> Tensor:
        """Start with the largest filter that is free, and add what costs least, cut to size."""
        sums = torch.zeros(self.units.shape[1], math.prod(self.sides))
        counts = torch.zeros(math.prod(self.sides))
        low = high = torch.tensor(self.margins)
        unit = int(self.squares.sum(1).masked_fill(~self.free, -1).argmax())
        offset = low
        for step in range(length):
            check()
            if step:
                unit, at = self._cheapest(sums, counts, low, high)
                offset = self.offsets[at]
            low, high = torch.minimum(low, offset), torch.maximum(high, offset)
            window = self.windows[(self.offsets == offset).all(1).nonzero()[0, 0]]
            sums[:, window] += self.units[unit]
            counts[window] += 1
            self.free[unit] = False
        mean = (sums / counts.clamp_min(1)).reshape(-1, *self.sides)
        for axis, (side, room) in enumerate(zip(self.kernel, self.margins, strict=True)):
            mean = mean.narrow(axis + 1, int(low[axis]), side + room)
        return mean.flatten(1)

    def _cheapest(self, sums: Tensor, counts: Tensor, low: Tensor, high: Tensor) -> tuple[int, int]:
        """Return the free filter, and where, that adds least to the squares around the means."""
        reach = torch.maximum(high, self.offsets) - torch.minimum(low, self.offsets)
        lies = (reach <= torch.tensor(self.margins)).all(1) & (counts[self.windows].sum(1) > 0)
        fits = lies.nonzero()[:, 0]
        here, there = counts[self.windows[fits]], sums[:, self.windows[fits]].transpose(0, 1)
        cost = self.squares @ (here / (here + 1)).T
        cost -= 2 * self.units.flatten(1) @ (there / (here + 1)[:, None]).flatten(1).T
        cost += (there.square().sum(1) / (here * (here + 1)).clamp_min(1)).sum(1)
        best = int(cost.masked_fill(~self.free[:, None], torch.inf).argmin())
        return best // len(fits), int(fits[best % len(fits)])


def _sides(layer: Convolution, margin: int) -> list[int]:
    """Return the sides of a meta-filter."""
    return [side + margin if side > 1 else 1 for side in layer.kernel_size]
