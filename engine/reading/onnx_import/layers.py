"""ONNX operators with constant weights as real nn layers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.reading.onnx_import.neural import flat_pads, pads_of
from featherweight.engine.reading.onnx_import.values import (
    Call,
    Host,
    UnsupportedError,
    Value,
    tensor,
)

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[type[nn.Module], ...] = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}

Apply = Callable[..., Any]


def _first(layer: nn.Module, value: Value, *_: Value) -> Any:
    return layer(tensor(value))


@dataclass(frozen=True)
class Layer:
    """A layer and how to call it on the inputs of its node, the constant ones included."""

    module: nn.Module
    apply: Apply = _first


@dataclass
class Parameters:
    """The constants of a graph as parameters: one that several layers use is one parameter.

    `turned` maps a constant to the one that it is the transpose of. The first parameter of a
    constant takes its memory; `taken` is what memory is taken.
    """

    constants: dict[str, Host]
    turned: dict[str, str] = field(default_factory=dict)
    made: dict[tuple[str, bool], nn.Parameter] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    def get(self, name: str, turn: bool = False) -> nn.Parameter:
        """Return a constant as a parameter, turned around if asked."""
        if turn and name in self.turned:
            return self.get(self.turned[name])
        if (name, turn) not in self.made:
            array = self.constants[name]
            straight = np.ascontiguousarray(array.T if turn else array)
            data = torch.from_numpy(straight if straight.flags.writeable else straight.copy())
            if data.data_ptr() in self.taken:
                data = data.clone()
            self.taken.add(data.data_ptr())
            self.made[name, turn] = nn.Parameter(data, requires_grad=data.is_floating_point())
        return self.made[name, turn]


@dataclass(frozen=True)
class Operands:
    """The inputs of a node: names, values on the example, and which are constants."""

    names: list[str]
    values: list[Value]
    parameters: Parameters

    def __len__(self) -> int:
        return len(self.names)

    def known(self, *positions: int) -> bool:
        """Say whether inputs are constants; one left out counts as one."""
        names = [self.names[at] for at in positions if at < len(self.names)]
        return all(not name or name in self.parameters.constants for name in names)

    def given(self, position: int) -> bool:
        """Say whether an input is there."""
        return position < len(self.names) and bool(self.names[position])

    def constant(self, position: int) -> Host:
        """Return the array of a constant input."""
        return self.parameters.constants[self.names[position]]

    def parameter(self, position: int, turn: bool = False) -> nn.Parameter:
        """Return a constant input as a parameter, turned around if asked."""
        return self.parameters.get(self.names[position], turn)

    def example(self, position: int = 0) -> Tensor:
        """Return an input's value on the example as a tensor."""
        return tensor(self.values[position])


Build = Callable[[Call, Operands], Layer | None]
builders: dict[str, Build] = {}


def layer(*names: str) -> Callable[[Build], Build]:
    """Register what builds layers of these operators; it gives None where none fits."""

    def register(build: Build) -> Build:
        builders.update(dict.fromkeys(names, build))
        return build

    return register


def made(kind: type[nn.Module], tensors: dict[str, Any], **options: Any) -> nn.Module:
    """Return a layer in eval mode whose tensors are the given ones."""
    with torch.device("meta"):
        module = kind(**options)
    for name, value in tensors.items():
        setattr(module, name, value)
    if "num_batches_tracked" in module._buffers:
        module.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))
    return module.eval()


def _weights(operands: Operands, weight: int, bias: int) -> dict[str, Any]:
    tensors: dict[str, Any] = {"weight": operands.parameter(weight)}
    if operands.given(bias):
        tensors["bias"] = operands.parameter(bias)
    return tensors


@layer("Conv")
def _convolution(call: Call, operands: Operands) -> Layer | None:
    if not operands.known(1, 2):
        return None
    outputs, inputs, *kernel = operands.constant(1).shape
    count = len(kernel)
    before, after = pads_of(call, list(operands.example().shape[2:]), kernel)
    even = before == after
    group = call.get("group", 1)
    module = made(
        CONVOLUTIONS[count - 1],
        _weights(operands, 1, 2),
        in_channels=inputs * group,
        out_channels=outputs,
        kernel_size=tuple(kernel),
        stride=tuple(call.get("strides") or [1] * count),
        padding=tuple(before) if even else 0,
        dilation=tuple(call.get("dilations") or [1] * count),
        groups=group,
        bias=operands.given(2),
    )
    if even:
        return Layer(module)
    pads = flat_pads(before, after)
    return Layer(module, lambda conv, value, *_: conv(functional.pad(tensor(value), pads)))


@layer("ConvTranspose")
def _transposed(call: Call, operands: Operands) -> Layer | None:
    if not operands.known(1, 2):
        raise UnsupportedError("weight is computed, not a constant")
    inputs, outputs, *kernel = operands.constant(1).shape
    count = len(kernel)
    pads = call.get("pads") or [0] * 2 * count
    stride = call.get("strides") or [1] * count
    mode = call.get("auto_pad", "NOTSET")
    wanted = call.get("output_shape")
    if wanted or mode.startswith("SAME"):
        dilations = call.get("dilations") or [1] * count
        totals = [(k - 1) * d + 1 - s for k, d, s in zip(kernel, dilations, stride, strict=True)]
        if wanted:
            extra = call.get("output_padding") or [0] * count
            sizes = operands.example().shape[2:]
            given = zip(totals, sizes, stride, extra, wanted[-count:], strict=True)
            totals = [total + size * s + more - want for total, size, s, more, want in given]
            if min(totals) < 0:
                raise UnsupportedError("output is larger than the weights reach")
        totals = [max(total, 0) for total in totals]
        small, large = [total // 2 for total in totals], [-(-total // 2) for total in totals]
        pads = small + large if mode == "SAME_UPPER" else large + small
    even = pads[:count] == pads[count:]
    group = call.get("group", 1)
    module = made(
        TRANSPOSED[count - 1],
        _weights(operands, 1, 2),
        in_channels=inputs,
        out_channels=outputs * group,
        kernel_size=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(pads[:count]) if even else 0,
        output_padding=tuple(call.get("output_padding") or [0] * count),
        dilation=tuple(call.get("dilations") or [1] * count),
        groups=group,
        bias=operands.given(2),
    )
    if even:
        return Layer(module)
    cuts = [-size for size in flat_pads(pads[:count], pads[count:])]
    return Layer(module, lambda conv, value, *_: functional.pad(conv(tensor(value)), cuts))


@layer("Gemm")
def _gemm(call: Call, operands: Operands) -> Layer | None:
    if not operands.known(1, 2) or call.get("transA", 0) or operands.known(0):
        return None
    straight = bool(call.get("transB", 0))
    outputs = operands.constant(1).shape[0 if straight else 1]
    tensors: dict[str, Any] = {"weight": operands.parameter(1, turn=not straight)}
    if call.get("alpha", 1.0) != 1:
        tensors["weight"] = nn.Parameter(tensors["weight"].detach() * call["alpha"])
    if operands.given(2):
        shift = operands.constant(2)
        if shift.size not in (1, outputs) or (shift.ndim > 1 and shift.shape[0] != 1):
            return None
        whole = shift.shape == (outputs,) and call.get("beta", 1.0) == 1
        spread = np.broadcast_to(shift.reshape(-1), outputs) * call.get("beta", 1.0)
        tensors["bias"] = operands.parameter(2) if whole else _parameter(spread)
    return Layer(_linear(tensors))


@layer("MatMul")
def _matmul(_: Call, operands: Operands) -> Layer | None:
    """Take a third input, the bias that an addition behind it brings."""
    if not operands.known(1, 2) or operands.known(0) or operands.constant(1).ndim != 2:
        return None
    tensors: dict[str, Any] = {"weight": operands.parameter(1, turn=True)}
    if operands.given(2):
        tensors["bias"] = operands.parameter(2)
    return Layer(_linear(tensors))


def _linear(tensors: dict[str, Any]) -> nn.Module:
    outputs, inputs = tensors["weight"].shape
    options = {"in_features": inputs, "out_features": outputs, "bias": "bias" in tensors}
    return made(nn.Linear, tensors, **options)


def _parameter(array: Host) -> nn.Parameter:
    return nn.Parameter(torch.tensor(np.ascontiguousarray(array, dtype=np.float32)))


@layer("BatchNormalization")
def _batch_norm(call: Call, operands: Operands) -> Layer | None:
    if not operands.known(1, 2, 3, 4):
        raise UnsupportedError("statistics are computed, not constants")
    if not call.get("spatial", 1):
        return None
    names = ("weight", "bias", "running_mean", "running_var")
    tensors: dict[str, Any] = {name: operands.parameter(at) for at, name in enumerate(names, 1)}
    for name in names[2:]:
        tensors[name] = tensors[name].detach()
    module = made(
        BATCH_NORMS[operands.example().ndim],
        tensors,
        num_features=operands.constant(1).shape[0],
        eps=call.get("epsilon", 1e-5),
        # ONNX counts what stays of the old value, torch what comes of the new one.
        momentum=1 - call.get("momentum", 0.9),
    )
    several = call.outputs > 1
    return Layer(module, lambda norm, value, *_: (norm(value), None) if several else norm(value))


@layer("LayerNormalization")
def _layer_norm(call: Call, operands: Operands) -> Layer | None:
    data = operands.example()
    shape = tuple(data.shape[call.get("axis", -1) % data.ndim :])
    if not operands.known(1, 2) or operands.constant(1).shape != shape or call.outputs > 1:
        return None
    if operands.given(2) and operands.constant(2).shape != shape:
        return None
    module = made(
        nn.LayerNorm,
        _weights(operands, 1, 2),
        normalized_shape=shape,
        eps=call.get("epsilon", 1e-5),
        bias=operands.given(2),
    )
    return Layer(module)


@layer("Gather")
def _embedding(call: Call, operands: Operands) -> Layer | None:
    if call.get("axis", 0) or not operands.known(0) or operands.known(1):
        return None
    table = operands.constant(0)
    if table.ndim != 2 or table.dtype != np.float32 or operands.example(1).ndim == 0:
        return None
    rows, width = table.shape
    weights = {"weight": operands.parameter(0)}
    module = made(nn.Embedding, weights, num_embeddings=rows, embedding_dim=width)
    return Layer(module, lambda embedding, _, indices: embedding(tensor(indices).long()))


@layer("PRelu")
def _prelu(_: Call, operands: Operands) -> Layer | None:
    data = operands.example()
    if not operands.known(1) or data.ndim < 2:
        return None
    slope = operands.constant(1)
    channels = data.shape[1]
    fits = slope.size == 1 or slope.shape in ((channels,) + (1,) * (data.ndim - 2),)
    if not fits:
        return None
    weight = nn.Parameter(operands.parameter(1).detach().reshape(-1))
    return Layer(made(nn.PReLU, {"weight": weight}, num_parameters=slope.size))
