"""What a method is: its options, which layers it takes, what it costs and what it does to a layer.

A method is a frozen Struct whose annotated fields are its options (see `options.number`), in one
file of its slot's folder. It names itself in class variables; `registry` finds it there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from msgspec import Struct
from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Evidence, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.options import MethodDescription, Retraining, Slot, describe
from featherweight.engine.weight_forms import StoredForm, Symbols, TrainableForm


class Method(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all methods.

    `strength` names the option that a sweep varies; in `label`, the shortest name that tells the
    method apart, {} stands for its value. `gain` says honestly what gets better: only
    the file, or also the speed of the exported network. `retrain` says as honestly whether it is
    worth nothing before the network is trained again, better after, or does without.
    """

    name: ClassVar[str]
    slot: ClassVar[Slot]
    title: ClassVar[str]
    label: ClassVar[str] = ""
    advice: ClassVar[str]
    gain: ClassVar[Literal["file", "file and speed"]]
    strength: ClassVar[str]
    retrain: ClassVar[Retraining] = "helps"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return the reason, a sentence, why the method cannot take the layer; empty if it can."""
        raise NotImplementedError

    def needs(self) -> frozenset[Need]:
        """Return what has to be measured on data before the method, with these options, runs."""
        return frozenset()

    def corrects_bias(self) -> bool:
        """Say whether biases take up the mean error of the outputs; needs moments."""
        return False

    @classmethod
    def description(cls) -> MethodDescription:
        """Return what a front end must know."""
        return MethodDescription(
            name=cls.name,
            slot=cls.slot,
            title=cls.title,
            label=cls.label,
            advice=cls.advice,
            gain=cls.gain,
            strength=cls.strength,
            retrain=cls.retrain,
            options=describe(cls),
        )


class FactorMethod(Method, frozen=True, kw_only=True):
    """A structure method that replaces one layer by a chain of smaller ones."""

    slot: ClassVar[Slot] = "structure"

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the chain on the meta device: shapes without numbers. `layer` has its weights."""
        raise NotImplementedError

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the chain whose function is nearest to the layer's; the layer is unchanged.

        Calls `check` in its loops, which raises to stop it.
        """
        raise NotImplementedError

    def informed(
        self,
        layer: nn.Module,
        evidence: Mapping[str, Evidence],  # noqa: ARG002
        check: Check = unchecked,
    ) -> nn.Sequential:
        """Return the chain of the same shapes that is nearest by the evidence of its tensors.

        A method that `needs` none does without; so does a prediction, whose evidence is empty.
        """
        return self.rewritten(layer, check)


class SparsityMethod(Method, frozen=True, kw_only=True):
    """Chooses which weights of a tensor stay."""

    slot: ClassVar[Slot] = "sparsity"

    def mask(self, weight: Tensor) -> Tensor:
        """Return a bool tensor of the weight's shape, True where a weight stays."""
        raise NotImplementedError

    def kept(self, count: int) -> int:
        """Return how many of `count` weights stay."""
        raise NotImplementedError

    def pruned(
        self,
        weight: Tensor,
        evidence: Evidence = NOTHING,  # noqa: ARG002
        check: Check = unchecked,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Return the weight to start from, and its mask; as many stay as without evidence.

        Weights that stay may change to make up for those that go.
        """
        return weight, self.mask(weight)


@dataclass(frozen=True)
class SideBits:
    """Stored bits beside the symbols of a tensor."""

    scales: int = 0
    codebooks: int = 0
    tables: int = 0


class PrecisionMethod(Method, frozen=True, kw_only=True):
    """Holds a weight tensor in fewer bits.

    `holds_zero` says that the weight 0.0 has a symbol also where no mask asks for it; `mask_lock`
    is the reason why it can take no mask, empty if it can.
    """

    slot: ClassVar[Slot] = "precision"
    holds_zero: ClassVar[bool] = True
    mask_lock: ClassVar[str] = ""

    def trainable(
        self, weight: Tensor, mask: Tensor | None, check: Check = unchecked
    ) -> TrainableForm:
        """Return a form that starts at `weight` and trains on this precision's grid.

        Weights where `mask` (bool, the weight's shape) is False are 0.0 and stay so.
        """
        raise NotImplementedError

    def informed(
        self,
        weight: Tensor,
        mask: Tensor | None,
        evidence: Evidence,  # noqa: ARG002
        check: Check = unchecked,
    ) -> TrainableForm:
        """Return a form of the same size that starts where the evidence says it does least harm."""
        return self.trainable(weight, mask, check)

    def equalizes(self) -> bool:
        """Say whether layers that follow each other first share their ranges evenly."""
        return False

    def narrowed(self, weights: Sequence[Tensor]) -> "PrecisionMethod":  # noqa: ARG002
        """Return the method with scales of 16 bits where those of such weights keep well in them.

        Asked of the source's weights; itself where it has no such option.
        """
        return self

    def symbol_bits(self) -> int:
        """Return the bits of one symbol before coding."""
        raise NotImplementedError

    def symbol_count(self, shape: tuple[int, ...]) -> int:
        """Return how many symbols a tensor of that shape has."""
        return math.prod(shape)

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:
        """Return the bits of scales, codebooks and tables of a tensor of that shape."""
        raise NotImplementedError

    def stored_bits(self, shape: tuple[int, ...]) -> int:
        """Return the bits of a tensor of that shape before coding."""
        side = self.side_bits(shape)
        symbols = self.symbol_count(shape) * self.symbol_bits()
        return symbols + side.scales + side.codebooks + side.tables


@dataclass(frozen=True)
class Coded:
    """A coded tensor: the bytes, and how many of their bits are values, indices and tables.

    What is left of the last byte is padding and belongs to the container.
    """

    payload: bytes
    values: int
    indices: int = 0
    tables: int = 0


class CodingMethod(Method, frozen=True, kw_only=True):
    """Turns symbols into bytes and back.

    `fixed_length` says that every symbol takes its own bits whatever the values are, so that the
    size is known from the shape alone.
    """

    slot: ClassVar[Slot] = "coding"
    retrain: ClassVar[Retraining] = "none"
    fixed_length: ClassVar[bool] = False

    def symbol_lock(self, bits: int, zero: bool) -> str:
        """Return why symbols of so many bits, with or without a zero, cannot be coded; or empty."""
        raise NotImplementedError

    def encode(self, symbols: Symbols) -> Coded:
        """Return the coded symbols; the same symbols always give the same bytes."""
        raise NotImplementedError

    def decode(self, payload: bytes, count: int, bits: int, zero: int | None) -> Symbols:
        """Return the symbols again. Raises ValueError where the payload is damaged."""
        raise NotImplementedError

    def predicted(self, symbols: Symbols) -> Coded | None:
        """Return the exact bit counts (with an empty payload) without coding, None if unknown."""
        raise NotImplementedError


def stored_weights(layer: nn.Module) -> list[str]:
    """Return the names of a layer's tensors that sparsity, precision and coding work on.

    These are its parameters of two or more dimensions; biases and norms stay as they are.
    """
    return [name for name, value in layer.named_parameters(recurse=False) if value.ndim >= 2]


def biases(layer: nn.Module) -> list[str]:
    """Return the names of a layer's biases of one dimension, float32."""
    return [
        name
        for name, value in layer.named_parameters(recurse=False)
        if name.startswith("bias") and value.ndim == 1 and value.dtype == torch.float32
    ]


@torch.no_grad()
def settled(form: TrainableForm) -> StoredForm:
    """Return the final form of a trainable one."""
    return form.settled()
