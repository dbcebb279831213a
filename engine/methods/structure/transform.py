"""A weight held as coefficients in a basis of the inputs."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.coefficient_layers import (
    TransformConvolution,
    TransformLayer,
    TransformLinear,
)
from featherweight.engine.errors import UserError
from featherweight.engine.evidence import Evidence, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.output_fitting import by_taps, mended_bias, patches_of, seen_by
from featherweight.engine.methods.transformed import Convolution, settings_of
from featherweight.engine.options import number, words

LONGEST_SIDE, MOST_CHANNELS, MOST_ROWS = 256, 4096, 1024


class Transform(FactorMethod, frozen=True, kw_only=True):
    """Transform coding of weights (Chen et al. 2016, arXiv 1506.04449; Wang et al. 2016, CNNPack).

    The weight becomes W = C·Bᵀ for an orthonormal basis B, and the slots that follow work on the
    coefficients C. For linear layers B are products of cosines or of Haar's steps along the rows
    and columns of an image, for convolutions along the sides of the kernel; of the frequencies of
    each channel the lowest `keep` stay, in zig-zag. The KLT, the eigenvectors of the covariance of
    the inputs on the data, mixes features, or channels with all cosines of the kernel: the leading
    `keep` of them stay, and the bias takes up the mean of what is lost. Without data it takes the
    singular vectors of the weight. It is stored as int16; the others cost no bits.
    """

    name: ClassVar[str] = "transform"
    title: ClassVar[str] = "Transform domain"
    label: ClassVar[str] = "Transform {}"
    advice: ClassVar[str] = (
        "Holds the weight as frequencies, of which the lowest stay; sparsity and precision then "
        "work on them. Strong with keep 1 and Optimal Brain Damage on linear layers that see an "
        "image; of 1×1 kernels only klt finds any. Only the file gets smaller, not the time."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float,
        number("Keep", "Share of the coefficients that stay, the lowest of all.", 0.01, 1.0),
    ] = 0.5
    basis: Annotated[
        Literal["dct", "haar", "klt"],
        words("Basis", "Cosines, Haar's steps, or the directions the data varies most in (klt)."),
    ] = "dct"
    rows: Annotated[
        int,
        number("Rows", "Of the image that a linear layer sees; 0 finds a square.", 0, MOST_ROWS),
    ] = 0
    columns: Annotated[
        int,
        number("Columns", "Of that image; 0 is as many as rows. Channels follow.", 0, MOST_ROWS),
    ] = 0

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weight has no such coefficients; empty if it has."""
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            return "Transforms take no transposed convolutions."
        if not isinstance(layer, nn.Linear | Convolution):
            return "Transforms take linear layers and convolutions."
        sides = layer.kernel_size if isinstance(layer, Convolution) else _grid(layer.in_features)
        if max(sides) > LONGEST_SIDE:
            return f"Its inputs make no image: a side would be over {LONGEST_SIDE} long."
        if layer.weight[0].numel() < 2:
            return "Each of its outputs has one weight alone, so there is no frequency."
        return ""

    def needs(self) -> frozenset[Need]:
        """Return what the KLT asks of the data."""
        return frozenset({"moments"}) if self.basis == "klt" else frozenset()

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer of coefficients on the meta device.

        Raises UserError where the inputs are no images of the rows and columns, or too many.
        """
        assert isinstance(layer, nn.Linear | Convolution)
        with torch.device("meta"):
            made: TransformLayer
            if isinstance(layer, Convolution):
                channels, sides = layer.in_channels // layer.groups, layer.kernel_size
                kept = self._kept(channels, sides)
                made = TransformConvolution(**settings_of(layer), basis=self.basis, kept=kept)
            else:
                inputs = layer.in_features
                sides = (1,) if self.basis == "klt" else self._sides(inputs)
                kept = self._kept(inputs // math.prod(sides), sides)
                bias = layer.bias is not None
                outputs = layer.out_features
                made = TransformLinear(inputs, outputs, sides, self.basis, kept, bias)
        return nn.Sequential(made).to(layer.weight.dtype)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the layer of the nearest coefficients."""
        return self.informed(layer, {}, check)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the layer of the nearest coefficients, in the basis of the data if it has one."""
        assert isinstance(layer, nn.Linear | Convolution)
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, TransformLayer)
        weight = layer.weight.detach().double().reshape(made.groups, -1, layer.weight[0].numel())
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        if self.basis != "klt":
            assign(made, made.seen({}, weight), bias)
            return chain.train(layer.training)
        found = patches_of(evidence)
        labels, places = by_taps(made.channels, math.prod(made.sides))
        spreads = [part.together(labels, places).blocks[0] for part in seen_by(found, bias)]
        spreads = spreads or [_spread(part, made.channels) for part in weight]
        made.turn = torch.stack([_turn(spread, made.kept, check) for spread in spreads])
        coefficients = _nearest(made, made.turn, weight)
        if found:
            near = made.matrix({"turn": made.turn, "weight": coefficients})
            bias = mended_bias(bias, list(weight), list(near.reshape(weight.shape)), found)
        assign(made, coefficients, bias)
        return chain.train(layer.training)

    def _kept(self, channels: int, sides: tuple[int, ...]) -> int:
        most = channels if self.basis == "klt" else math.prod(sides)
        if self.basis == "klt" and channels > MOST_CHANNELS:
            raise UserError(
                f"A layer of {channels} inputs is too wide for the KLT, which takes "
                f"{MOST_CHANNELS}.",
                "Take the DCT for it.",
            )
        return max(1, math.floor(self.keep * most + 1e-9))

    def _sides(self, inputs: int) -> tuple[int, int]:
        if not self.rows and not self.columns:
            return _grid(inputs)
        rows, columns = self.rows or self.columns, self.columns or self.rows
        if inputs % (rows * columns):
            raise UserError(
                f"{inputs} inputs of a linear layer are no images of {rows}×{columns}.",
                "Set rows and columns to those of its images, or both to 0.",
            )
        return rows, columns


def _grid(inputs: int) -> tuple[int, int]:
    """Return the rows and columns of a square, of one of three colours, or of the nearest to one.

    What is over are channels.
    """
    for channels in (1, 3):
        side = math.isqrt(inputs // channels)
        if side * side * channels == inputs:
            return side, side
    rows = max(side for side in range(1, math.isqrt(inputs) + 1) if inputs % side == 0)
    return rows, inputs // rows


def _spread(weight: Tensor, channels: int) -> Tensor:
    """Return how the channels vary together in the weights of a group."""
    held = weight.double().unflatten(1, (channels, -1)).transpose(0, 1).flatten(1)
    result: Tensor = held @ held.T
    return result


def _turn(spread: Tensor, kept: int, check: Check) -> Tensor:
    """Return the leading eigenvectors as columns, int16 in parts of 32768."""
    check()
    vectors = torch.linalg.eigh(spread).eigenvectors[:, -kept:].flip(1)
    parts: Tensor = (vectors * 32768).round().clamp(-32767, 32767)
    return parts.to(torch.int16)


def _nearest(made: TransformLayer, turn: Tensor, weight: Tensor) -> Tensor:
    """Return the coefficients, outputs by coefficients, that make up for the rounded basis."""
    held = made.seen({"turn": turn}, weight).reshape(*weight.shape[:2], made.kept, -1)
    columns = turn.double() / 32768
    gram = columns.transpose(1, 2) @ columns
    found: Tensor = torch.linalg.solve(gram[:, None], held)
    return found.flatten(0, 1).flatten(1)
