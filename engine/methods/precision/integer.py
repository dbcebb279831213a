"""Hold weights as small integers times a scale.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference (2018); the straight-through gradient is from Bengio, Léonard, Courville (2013), learned
scales are from Esser et al.: Learned Step Size Quantization (2020); groups along the inputs and
rounding by the inputs' moments from Frantar et al.: GPTQ (2023), correction of the bias and
equalized ranges from Nagel et al.: Data-Free Quantization (2019).
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.bit_packing import packed, unpacked
from featherweight.engine.evidence import Evidence, InputMoments, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.error_feedback import Feedback
from featherweight.engine.methods.learned_steps import learned_steps, on_grid
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.methods.scale_search import nearest, searched_scales
from featherweight.engine.options import number, words
from featherweight.engine.weight_forms import (
    Array,
    StoredForm,
    Symbols,
    TrainableForm,
    expect,
    expect_parts,
    form_lock,
    masked,
    started,
)

P = TypeVar("P", bound=PrecisionMethod)

WIDENINGS = (1.0, 1.2, 1.4, 1.6)


class IntegerForm(StoredForm):
    """A weight as integers of `bits` bits times `scales`, float32 or float16.

    There is one scale in all, one per row along the first axis, or (rows, groups) with groups of
    equal size along what is left of the row, the last perhaps shorter. An integer q in
    [-top, top], top = 2**(bits-1) - 1, is the symbol q + top.
    """

    kind: ClassVar[str] = "integer"

    def __init__(self, levels: Tensor, scales: Tensor, bits: int) -> None:
        super().__init__(tuple(levels.shape))
        self.bits = bits
        self.packed: Tensor
        self.scales: Tensor
        symbols = (levels.reshape(-1).numpy().astype(np.int16) + top(bits)).astype(np.uint8)
        self.register_buffer("packed", torch.from_numpy(packed(symbols, bits)))
        self.register_buffer("scales", scales.detach().clone())

    def levels(self) -> Tensor:
        """Return the integers, int8, of the weight's shape."""
        symbols = self.symbols().values.astype(np.int16)
        return torch.from_numpy((symbols - top(self.bits)).astype(np.int8)).reshape(self.shape)

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        return self.levels().float() * spread(self.scales, self.shape)

    def symbols(self) -> Symbols:
        """Return the integers, shifted to start at 0."""
        count = int(np.prod(self.shape, dtype=np.int64))
        values = unpacked(self.packed.numpy(), self.bits, count)
        return Symbols(values, self.bits, top(self.bits), self.row)

    def parts(self) -> dict[str, Array]:
        """Return the scales."""
        return {"scales": self.scales.numpy()}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "IntegerForm":
        """Return the form of these integers and scales. Raises ValueError on a mismatch."""
        bits = symbols.bits
        if not 2 <= bits <= 8:
            raise ValueError(f"there are no integers of {bits} bits")
        expect(symbols, shape, bits, top(bits))
        _expect_scales(parts, shape)
        if symbols.values.size and int(symbols.values.max()) > 2 * top(bits):
            raise ValueError(f"an integer is out of the range of {bits} bits")
        levels = (symbols.values.astype(np.int16) - top(bits)).astype(np.int8)
        scales = torch.from_numpy(parts["scales"])
        return cls(torch.from_numpy(levels).reshape(shape), scales, bits)


class TrainableInteger(TrainableForm):
    """Float32 values on a grid; the gradient passes where a value is inside it.

    Its scales are fixed, or `learned` with the values.
    """

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor | None,
        scales: Tensor,
        bits: int,
        learned: bool = False,
    ) -> None:
        super().__init__(tuple(weight.shape))
        self.bits = bits
        self.values = nn.Parameter(started(weight, mask))
        self.mask: Tensor | None
        self.scales: Tensor
        self.register_buffer("mask", mask)
        self.register_buffer("scales", scales)
        self.stretch: nn.Parameter | None = None
        if learned:
            self.stretch = nn.Parameter(torch.zeros(scales.shape))

    def forward(self) -> Tensor:
        """Return the weight on its grid, float32."""
        weight, largest = masked(self.values, self.mask), top(self.bits)
        scales = spread(self.steps(), self.shape)
        if self.stretch is not None:
            return on_grid(weight, scales, -largest, largest)
        bound = scales * largest
        inside = weight.clamp(-bound, bound)
        fixed = nearest(inside.detach(), scales, largest) * scales
        # The difference is exactly zero: it adds a gradient and no rounding.
        return fixed + (inside - inside.detach())

    def steps(self) -> Tensor:
        """Return the scales as they are now, float32 of values that their own type holds."""
        first = self.scales.float()
        if self.stretch is None:
            return first
        shared = math.ceil(math.prod(self.shape) / max(first.numel(), 1))
        steps = learned_steps(first, self.stretch, shared, top(self.bits))
        if self.scales.dtype == torch.float16:
            steps = steps + (halved(steps.detach()).float() - steps.detach())
        return steps

    def settled(self) -> IntegerForm:
        """Return the same weight as integers."""
        weight, steps = masked(self.values, self.mask).detach(), self.steps().detach()
        levels = nearest(weight, spread(steps, self.shape), top(self.bits))
        return IntegerForm(levels.to(torch.int8), steps.to(self.scales.dtype), self.bits)


class Integer(PrecisionMethod, frozen=True, kw_only=True):
    """Rounds every weight to a whole multiple of a scale.

    The range is symmetric: ±127 for 8 bits, ±7 for 4, and -1, 0, 1 for 2.
    """

    name: ClassVar[str] = "integer"
    title: ClassVar[str] = "Integers"
    label: ClassVar[str] = "{} bit"
    advice: ClassVar[str] = (
        "8 bits are a quarter of the file at nearly no loss; 4 bits need a little recovery, 2 bits "
        "a lot. Scales per group help most at 4 bits and fewer. Entropy coding afterwards gains "
        "more. Whether 8 bits also run faster is measured at export."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "bits"

    bits: Annotated[
        Literal[8, 6, 5, 4, 3, 2], words("Bits", "How many bits each weight takes.")
    ] = 8
    granularity: Annotated[
        Literal["channel", "group", "tensor"],
        words("Scales", "One scale for every row (output channel), group of inputs, or in all."),
    ] = "channel"
    group_size: Annotated[
        int, number("Group size", "At most how many inputs share a scale, if by group.", 8, 1024)
    ] = 64
    scale_bits: Annotated[
        Literal[32, 16], words("Bits of a scale", "16 bits save half of what scales take.")
    ] = 32
    rounding: Annotated[
        Literal["nearest", "gptq"],
        words(
            "Rounding",
            "To the nearest, or by GPTQ: each rounding makes up for errors before it, as samples "
            "of the data say. Embeddings and recurrent layers round to the nearest.",
        ),
    ] = "nearest"
    bias_correction: Annotated[
        bool,
        words(
            "Correct the bias",
            "Shift biases by the mean error of the outputs on samples of the data. Of use from "
            "4 bits on; with fewer, what layers do to each other makes it harmful.",
        ),
    ] = False
    scales: Annotated[
        Literal["fixed", "learned"],
        words(
            "Scales in training",
            "Fixed at what fits the weights best at first, or learned with them, for long "
            "trainings: in a short one fixed ones gave more accuracy back.",
        ),
    ] = "fixed"
    equalize: Annotated[
        bool,
        words(
            "Equalize ranges",
            "Where only ReLU, pooling or the like lies between two layers that both ask for it, "
            "make channels of the first smaller or larger and the second's weights for them the "
            "other way, so that both have even ranges. Of use with one scale in all.",
        ),
    ] = False

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot become integers; empty if they can."""
        return form_lock(layer)

    def trainable(
        self, weight: Tensor, mask: Tensor | None, check: Check = unchecked
    ) -> TrainableInteger:
        """Return a form whose scales have the least squared error at the start."""
        start = masked(weight.detach(), mask)
        shape = self._scale_shape(tuple(weight.shape))
        rows = in_groups(start.flatten(1), shape[1]) if len(shape) > 1 else start
        found = searched_scales(rows.reshape(math.prod(shape), -1), top(self.bits), check)
        scales = (halved(found) if self.scale_bits == 16 else found).reshape(shape)
        return TrainableInteger(weight, mask, scales, self.bits, self.scales == "learned")

    def narrowed(self, weights: Sequence[Tensor]) -> "Integer":
        """Return it with scales of 16 bits where these are finer than one scale in all would be."""
        return with_half_scales(self, weights, top(self.bits))

    def needs(self) -> frozenset[Need]:
        """Return the inputs' moments if the rounding or the bias goes by them."""
        by_data = self.rounding == "gptq" or self.bias_correction
        return frozenset({"moments"}) if by_data else frozenset()

    def equalizes(self) -> bool:
        """Say whether its range is shared evenly with the layers before and after."""
        return self.equalize

    def corrects_bias(self) -> bool:
        """Say whether the bias takes up the mean error."""
        return self.bias_correction

    def informed(
        self, weight: Tensor, mask: Tensor | None, evidence: Evidence, check: Check = unchecked
    ) -> TrainableInteger:
        """Return a form that starts at the integers which the rounding chose."""
        form = self.trainable(weight, mask, check)
        if self.rounding == "nearest" or evidence.moments is None:
            return form
        values, scales = _fed_back(weight.detach(), form, evidence.moments, check)
        return TrainableInteger(values, mask, scales, self.bits, self.scales == "learned")

    def symbol_bits(self) -> int:
        """Return the bits of one integer."""
        return self.bits

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:
        """Return 32 or 16 bits for every scale."""
        return SideBits(scales=self.scale_bits * math.prod(self._scale_shape(shape)))

    def _scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.granularity == "group":
            return shape[0], group_count(math.prod(shape[1:]), self.group_size)
        return (shape[0] if self.granularity == "channel" else 1,)


def top(bits: int) -> int:
    """Return the largest integer of a symmetric range."""
    return (1 << (bits - 1)) - 1


def along_rows(scales: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return scales shaped to multiply a weight of `shape`."""
    return scales.reshape(-1, *[1] * (len(shape) - 1))


def spread(scales: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return scales of any granularity as float32 that multiplies a weight of `shape`."""
    if scales.ndim == 1:
        return along_rows(scales.float(), shape)
    count = math.prod(shape[1:])
    every = scales.float().repeat_interleave(-(-count // scales.shape[1]), dim=1)
    return every[:, :count].reshape(shape)


def group_count(count: int, most: int) -> int:
    """Return into how many groups of equal size, at most `most`, so many inputs are divided."""
    size = -(-count // -(-count // most))
    return -(-count // size)


def in_groups(rows: Tensor, groups: int) -> Tensor:
    """Return rows (count, n) as (count * groups, size); what a last group lacks are zeros."""
    size = -(-rows.shape[1] // groups)
    return nn.functional.pad(rows, (0, groups * size - rows.shape[1])).reshape(-1, size)


def with_half_scales(method: P, weights: Sequence[Tensor], largest: int) -> P:
    """Return a method with scales of 16 bits where steps that reach the largest weight keep well.

    Steps up to `largest` must be normal in float16: then a scale of 16 bits that is too small for
    them is still no more than that step. Elsewhere the method is as it was.
    """
    limits = torch.finfo(torch.float16)
    peaks = [float(weight.abs().max()) for weight in weights if weight.numel()]
    fits = all(limits.smallest_normal * largest <= peak <= limits.max for peak in peaks)
    return msgspec.structs.replace(method, scale_bits=16) if fits else method


def halved(scales: Tensor) -> Tensor:
    """Return positive scales as positive float16."""
    limits = torch.finfo(torch.float16)
    return scales.clamp(limits.smallest_normal, limits.max).half()


def _expect_scales(parts: dict[str, Array], shape: tuple[int, ...]) -> None:
    scales = parts.get("scales", np.zeros(1))
    expected: tuple[int, ...] = (shape[0] if scales.size != 1 else 1,)
    if scales.ndim == 2 and scales.size:
        count = math.prod(shape[1:])
        size = -(-count // scales.shape[1])
        expected = (shape[0], -(-count // max(size, 1)))
    is_half = scales.dtype == np.float16
    expect_parts(
        {**parts, "scales": scales.astype(np.float32) if is_half else scales}, scales=expected
    )


def _fed_back(
    weight: Tensor, form: TrainableInteger, moments: InputMoments, check: Check
) -> tuple[Tensor, Tensor]:
    """Return the weight on a grid by error feedback, and the scales of that grid.

    What the form's mask takes away is an error like any other. Errors widen the range, so wider
    scales than the form's are tried too, row by row where rows are outputs.
    """
    feedback = Feedback(moments, check)
    kept = None if form.mask is None else moments.matrix(form.mask)
    values, scales, least = weight, form.scales, torch.tensor([torch.inf])
    for factor in WIDENINGS:
        wider = form.scales.float() * factor
        wider = halved(wider) if scales.dtype == torch.float16 else wider
        steps = moments.matrix(spread(wider, form.shape).expand(form.shape))

        def rounded(column: Tensor, group: int, place: int, steps: Tensor = steps) -> Tensor:
            its_steps = steps[group][:, place]
            on_grid = nearest(column, its_steps, top(form.bits)) * its_steps
            return masked(on_grid, None if kept is None else kept[group][:, place])

        found, harm = feedback.changed(weight, rounded, check)
        by_row = len(wider) == len(harm) and not moments.transposed
        harm = harm if by_row else harm.sum(0, keepdim=True)
        better = harm < least
        if factor > 1.0 and not better.any():
            break
        values = torch.where(along_rows(better, form.shape), found, values)
        scales = torch.where(better.reshape(-1, *[1] * (scales.ndim - 1)), wider, scales)
        least = torch.where(better, harm, least)
    return values, scales
