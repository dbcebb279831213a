"""A convolution whose filters are turned prototypes."""

import math
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.prototypes import Fit, fitted, most_prototypes, started
from featherweight.engine.methods.transformed import (
    filled,
    number_bits,
    on_meta,
    smallest,
    units_of,
    ways_of,
    weight_bits,
)
from featherweight.engine.options import number, words
from featherweight.engine.transformed_layers import RotatedConvolution, TransformedConvolution

WAYS = {"C4": 4, "D4": 8}
MOST_PROTOTYPES = 512


class Rotations(FactorMethod, frozen=True, kw_only=True):
    """Filters in orbits of rotations (Cohen and Welling 2016, arXiv 1602.07576).

    A k×k slice of a filter, or a whole filter, is a factor times one of the prototypes turned by
    quarters ("C4"), or also mirrored ("D4"). Slices choose prototype, turn and factor, and
    prototypes become the nearest to what chose them, by turns, from a start as in k-means++. There
    are as many prototypes as fit, with factors and table, into `keep` of the weight, and at most
    512. Tied filters are all turns of each prototype in order, and so the outputs turn with the
    inputs; their prototypes are the means of the filters turned back.
    """

    name: ClassVar[str] = "rotations"
    title: ClassVar[str] = "Rotated prototypes"
    label: ClassVar[str] = "Rotated {}"
    advice: ClassVar[str] = (
        "Square slices of filters become a few prototypes, turned and scaled. Only the file gets "
        "smaller: the network runs as before. Slices need recovery below about a quarter; whole "
        "and tied filters need retraining."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float,
        number("Keep", "Share of the weight's bits that all its stand-ins may take.", 0.01, 1.0),
    ] = 0.25
    group: Annotated[
        Literal["C4", "D4"],
        words("Group", "C4 turns prototypes by quarters; D4 mirrors them as well."),
    ] = "D4"
    units: Annotated[
        Literal["slices", "filters", "tied"],
        words(
            "Of",
            "What is a turned prototype: each slice of a filter, each whole filter, or tied "
            "filters in a fixed order, of which 1/4 (C4) or 1/8 (D4) is held whatever is kept.",
        ),
    ] = "slices"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the filters cannot be turned prototypes; empty if they can."""
        if not isinstance(layer, nn.Conv2d):
            return "Turned prototypes are for convolutions of two dimensions."
        height, width = layer.kernel_size
        if height != width:
            return "Its kernel is not square, so a quarter turn would not fit."
        if height == 1:
            return "Its kernel has one place, so there is nothing to turn."
        outputs, channels = layer.weight.shape[:2]
        bits = number_bits(layer)
        slices = height * width * bits + outputs * channels * (bits + 3)
        filters = smallest(layer, height * width, WAYS["D4"])
        if outputs == 1 or max(slices, filters) >= weight_bits(layer):
            return "The layer is too small: one prototype and its factors would take as much."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the convolution of turned prototypes on the meta device."""
        assert isinstance(layer, nn.Conv2d)
        return on_meta(
            RotatedConvolution,
            layer,
            count=self._count(layer),
            group=self.group,
            units_are=self.units,
        )

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the convolution of the prototypes found."""
        assert isinstance(layer, nn.Conv2d)
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, TransformedConvolution)
        units, ways = units_of(layer.weight, made), ways_of(made)
        if self.units == "tied":
            return filled(chain, layer, _tied(units, ways, made.count))
        start = started(units, ways, made.count, True, check)
        return filled(chain, layer, fitted(units, ways, start, True, check))

    def _count(self, layer: nn.Conv2d) -> int:
        outputs, channels = layer.weight.shape[:2]
        ways, bits = WAYS[self.group], number_bits(layer)
        if self.units == "tied":
            return math.ceil(outputs / ways)
        units = outputs * channels if self.units == "slices" else outputs
        each = layer.weight.numel() // units * bits
        budget = math.floor(self.keep * weight_bits(layer))
        return min(most_prototypes(budget, each, units, ways, bits), MOST_PROTOTYPES)


def _tied(units: Tensor, ways: Tensor, count: int) -> Fit:
    """Return the means of filters turned back by the place that they have in the order."""
    back = ways.double()[torch.arange(len(units)) // count]
    turned = units.double() @ back
    owners = torch.arange(len(units)) % count
    sums = torch.zeros(count, *turned.shape[1:], dtype=torch.float64).index_add_(0, owners, turned)
    means = sums / owners.bincount()[:, None, None]
    return Fit(means, owners, torch.ones(len(units)))
