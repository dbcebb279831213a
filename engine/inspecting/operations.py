"""Multiply-accumulates: by formula for known layers, by the shapes of what is called for the rest.

By convention only products count: convolutions, matrix products, attention, recurrent layers.
Element-wise arithmetic, sums, norms, softmax, pooling, resampling and look-ups count none. What
is in neither list is named as uncounted.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featherweight.engine.inspecting.free_operations import is_free
from featherweight.engine.structured_layers import StructuredLayer
from featherweight.engine.weight_forms import CompactLayer

Shape = Sequence[int]
FREE_LAYERS = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.PReLU,
    nn.Dropout,
    nn.Identity,
    nn.ChannelShuffle,
)


def layer_macs(layer: nn.Module, input_shape: Shape, output_shape: Shape) -> int | None:
    """Return the multiply-accumulates of one call of a layer, from its settings and shapes.

    Both shapes are whole tensors with their batch, so the count is for all samples of the call.
    None where the kind of layer is not known. Weights may be on the meta device.
    """
    plain = layer.settings if isinstance(layer, CompactLayer) else layer
    formula = _formula_of(plain)
    return None if formula is None else formula(plain, input_shape, output_shape)


def has_formula(layer: nn.Module) -> bool:
    """Say whether `layer_macs` knows the layer's kind."""
    plain = layer.settings if isinstance(layer, CompactLayer) else layer
    return _formula_of(plain) is not None


# Its constructor has no types.
_Mode: Any = TorchDispatchMode


class OperationCounter(_Mode):  # type: ignore[misc]  # see above
    """While it is active, counts the products that torch runs, under the name of `place`.

    `macs` and `elements` (of the products' results) are for all samples. `products` counts calls by
    place and kind, `uncounted` by place and operation. While `paused` nothing is counted. `owners`
    gives layers by the memory of weights that code runs on without calling the layer.
    """

    def __init__(self, owners: Callable[[], dict[int, str]] = dict) -> None:
        super().__init__()
        self.owners = owners
        self.place = ""
        self.paused = False
        self.macs: Counter[str] = Counter()
        self.elements: Counter[str] = Counter()
        self.products: Counter[tuple[str, str]] = Counter()
        self.uncounted: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count it."""
        result = func(*args, **(kwargs or {}))
        if not self.paused:
            self._count(func, args, result)
        return result

    def _count(self, operation: Any, inputs: tuple[Any, ...], result: Any) -> None:
        product, place = _PRODUCTS.get(operation.overloadpacket), self._place_of(inputs)
        if product:
            word, formula = product
            first = result if isinstance(result, torch.Tensor) else result[0]
            self.macs[place] += formula(inputs, result)
            self.elements[place] += first.numel()
            self.products[place, word] += 1
        elif not is_free(operation):
            self.uncounted[place, str(operation.overloadpacket).removeprefix("aten.")] += 1

    def _place_of(self, inputs: tuple[Any, ...]) -> str:
        owners = self.owners()
        if not owners:
            return self.place
        memory = (
            value.untyped_storage().data_ptr()
            for value in tree_leaves(inputs)
            if type(value) in (torch.Tensor, nn.Parameter)
        )
        return next((owners[place] for place in memory if place in owners), self.place)


def _convolution(layer: Any, _: Shape, outputs: Shape) -> int:
    inputs: int = layer.in_channels // layer.groups
    taps: int = math.prod(layer.kernel_size)
    return math.prod(outputs) * inputs * taps


def _transposed(layer: Any, inputs: Shape, _: Shape) -> int:
    outputs: int = layer.out_channels // layer.groups
    taps: int = math.prod(layer.kernel_size)
    return math.prod(inputs) * outputs * taps


def _linear(layer: Any, _: Shape, outputs: Shape) -> int:
    return math.prod(outputs) * int(layer.in_features)


def _bilinear(layer: Any, _: Shape, outputs: Shape) -> int:
    return math.prod(outputs) * int(layer.in1_features * layer.in2_features)


def _recurrent(layer: Any, inputs: Shape, _: Shape) -> int:
    directions = 2 if layer.bidirectional else 1
    hidden, given = layer.hidden_size, layer.proj_size or layer.hidden_size
    gates = {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    total, width = 0, layer.input_size
    for _position in range(layer.num_layers):
        total += directions * (gates * hidden * (width + given) + layer.proj_size * hidden)
        width = directions * given
    return math.prod(inputs[:-1]) * total


def _cell(layer: Any, inputs: Shape, _: Shape) -> int:
    width = int(layer.hidden_size) * int(layer.input_size + layer.hidden_size)
    gates = {nn.LSTMCell: 4, nn.GRUCell: 3}.get(type(layer), 1)
    return math.prod(inputs[:-1]) * gates * width


def _structured(layer: Any, _: Shape, outputs: Shape) -> int:
    return math.prod(outputs) // int(layer.out_features) * int(layer.products())


def _nothing(_layer: Any, _inputs: Shape, _outputs: Shape) -> int:
    return 0


_LayerFormula = Callable[[Any, Shape, Shape], int]
_FORMULAS: tuple[tuple[Any, _LayerFormula], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed),
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (nn.RNNBase, _recurrent),
    ((nn.LSTMCell, nn.GRUCell, nn.RNNCell), _cell),
    (StructuredLayer, _structured),
    (FREE_LAYERS, _nothing),
)


def _formula_of(layer: nn.Module) -> _LayerFormula | None:
    return next((formula for kinds, formula in _FORMULAS if isinstance(layer, kinds)), None)


def _pair(first: int, second: int) -> Callable[[tuple[Any, ...], Any], int]:
    """A matrix product of two arguments by position: the last dimension of the first is summed."""

    def count(inputs: tuple[Any, ...], _: Any) -> int:
        columns = inputs[second].shape[-1] if inputs[second].ndim > 1 else 1
        return int(inputs[first].numel() * columns)

    return count


def _any_convolution(inputs: tuple[Any, ...], result: Any) -> int:
    transposed = len(inputs) > 6 and inputs[6]
    counted = inputs[0] if transposed else result
    return int(counted.numel() * math.prod(inputs[1].shape[1:]))


def _attention(inputs: tuple[Any, ...], _: Any) -> int:
    query, key, value = inputs[:3]
    rows = query.numel() // query.shape[-1]
    return int(rows * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _trilinear(inputs: tuple[Any, ...], _: Any) -> int:
    rows = inputs[0].numel() // inputs[0].shape[-1]
    return int(rows * inputs[1].numel())


def _recurrent_kernel(inputs: tuple[Any, ...], _: Any) -> int:
    tokens = inputs[0].numel() // inputs[0].shape[-1]
    return int(tokens * (inputs[1].numel() + inputs[2].numel()))


_MATRICES, _ATTENTION, _CONVOLUTION = "matrix products", "attention", "convolutions"
_aten = torch.ops.aten
_PRODUCTS: dict[Any, tuple[str, Callable[[tuple[Any, ...], Any], int]]] = {
    _aten.mm: (_MATRICES, _pair(0, 1)),
    _aten.bmm: (_MATRICES, _pair(0, 1)),
    _aten.mv: (_MATRICES, _pair(0, 1)),
    _aten.dot: (_MATRICES, _pair(0, 1)),
    _aten.vdot: (_MATRICES, _pair(0, 1)),
    _aten.addmm: (_MATRICES, _pair(1, 2)),
    _aten.addmv: (_MATRICES, _pair(1, 2)),
    _aten.baddbmm: (_MATRICES, _pair(1, 2)),
    _aten.addbmm: (_MATRICES, _pair(1, 2)),
    _aten._int_mm: (_MATRICES, _pair(0, 1)),
    _aten._trilinear: (_MATRICES, _trilinear),
    _aten.convolution: (_CONVOLUTION, _any_convolution),
    _aten._scaled_dot_product_flash_attention_for_cpu: (_ATTENTION, _attention),
    _aten._scaled_dot_product_flash_attention: (_ATTENTION, _attention),
    _aten._scaled_dot_product_efficient_attention: (_ATTENTION, _attention),
    _aten._scaled_dot_product_cudnn_attention: (_ATTENTION, _attention),
    _aten.mkldnn_rnn_layer: ("recurrent steps", _recurrent_kernel),
}
