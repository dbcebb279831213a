"""A convolution whose filters are a few prototypes at several places of the kernel."""

import math
from typing import Annotated, ClassVar, Literal

from torch import nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.prototypes import fitted, started
from featherweight.engine.methods.transformed import (
    Convolution,
    filled,
    on_meta,
    smallest,
    units_of,
    ways_of,
    weight_bits,
)
from featherweight.engine.options import Retraining, number, words
from featherweight.engine.transformed_layers import ShiftedConvolution, TransformedConvolution

MOST_SHIFT, MOST_COPIES, SIZES = 2, 64, 3


class Translations(FactorMethod, frozen=True, kw_only=True):
    """Translated filters (Cheng et al. 2017, arXiv 1710.09282, on transferred filters).

    There is one prototype for every `copies` filters. A filter is a factor times a prototype that
    lies up to `shift` places to any side in the kernel, with zeros behind it, and where `resized`
    also at 0.5 or 1.5 times its size. Filters choose prototype, place, size and factor, and
    prototypes become the nearest to what chose them, by turns, from a start as in k-means++.
    """

    name: ClassVar[str] = "translations"
    title: ClassVar[str] = "Shifted filters"
    label: ClassVar[str] = "Shifted {}"
    advice: ClassVar[str] = (
        "Filters become copies of a few, shifted within the kernel and scaled. Only the file gets "
        "smaller: the network runs as before. Needs retraining: before it, little of most layers "
        "is left beyond 2 copies."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "copies"
    retrain: ClassVar[Retraining] = "needed"

    copies: Annotated[
        int,
        number("Copies", "Filters for each that is kept: so many times smaller.", 2, MOST_COPIES),
    ] = 4
    shift: Annotated[
        int, number("Shift", "How many places to either side a copy may lie.", 1, MOST_SHIFT)
    ] = 1
    cut: Annotated[
        bool,
        words(
            "Cut",
            "Cut off what is shifted out of the kernel; else what is kept is smaller by the shift "
            "and stays inside.",
        ),
    ] = True
    resized: Annotated[
        bool, words("Resize", "Copies may also be half as large, or half as large again.")
    ] = False

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the filters cannot be shifted copies; empty if they can."""
        if not isinstance(layer, Convolution):
            return "Shifted filters are for convolutions."
        if max(layer.kernel_size) < 3:
            return "Its kernel is under 3 places wide, which leaves no room for shifts."
        outputs, size = layer.out_channels, math.prod(layer.kernel_size)
        ways = SIZES * (2 * MOST_SHIFT + 1) ** len(layer.kernel_size)
        if smallest(layer, size, ways, math.ceil(outputs / 2)) >= weight_bits(layer):
            return "The layer is too small: half of its filters and a table would take as much."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the convolution of shifted copies on the meta device."""
        assert isinstance(layer, Convolution)
        return on_meta(
            ShiftedConvolution,
            layer,
            count=math.ceil(layer.out_channels / self.copies),
            shift=self.shift,
            cut=self.cut,
            resized=self.resized,
        )

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the convolution of the copies found."""
        assert isinstance(layer, Convolution)
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, TransformedConvolution)
        units, ways = units_of(layer.weight, made), ways_of(made)
        start = started(units, ways, made.count, True, check)
        return filled(chain, layer, fitted(units, ways, start, True, check))
