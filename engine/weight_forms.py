"""How a weight tensor is held: as floats that train under a constraint, or in its final small form.

A layer whose weights are not plain parameters any more is a `CompactLayer`: it asks its forms for
float32 tensors when it runs. Methods bring their own forms; the coded archive stores any
`StoredForm` by its symbols and parts.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Symbols:
    """A weight tensor as whole numbers in the order of its elements, ready for a coder.

    `values` are uint32 in [0, 2**bits); `zero` is the symbol of the weight 0.0, None where 0.0
    has none.
    """

    values: npt.NDArray[np.uint32]
    bits: int
    zero: int | None


class WeightForm(nn.Module):
    """One weight tensor of `shape`; called, it gives it as float32 of that shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        raise NotImplementedError


class TrainableForm(WeightForm):
    """A weight that trains under its constraint: a mask, a grid, a codebook."""

    def settled(self) -> "StoredForm":
        """Return the final form; it gives exactly the weight that this one gives now."""
        raise NotImplementedError


class StoredForm(WeightForm):
    """A weight in its final small form, held in buffers as few bits as the form has.

    `kind` names the form in files. `parts` are what it needs beside the symbols: scales, codebook.
    """

    kind: ClassVar[str]

    def symbols(self) -> Symbols:
        """Return the weight as symbols."""
        raise NotImplementedError

    def parts(self) -> dict[str, Array]:
        """Return side tensors by the ledger's kind of them: `scales`, `codebooks`."""
        raise NotImplementedError

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "StoredForm":
        """Return the form that gave these symbols and parts. Raises ValueError on a mismatch."""
        raise NotImplementedError


class CompactLayer(nn.Module):
    """A layer some of whose weights are held by forms; it runs like the layer it replaces.

    The forms are `forms.<tensor>`; what is left (biases) stays parameters under `rest.<tensor>`.
    Takes convolutions, transposed convolutions, linear, embedding and recurrent layers.
    """

    def __init__(self, layer: nn.Module, forms: dict[str, WeightForm]) -> None:
        super().__init__()
        self.forms = nn.ModuleDict(forms)
        self.rest = nn.ParameterDict(
            {name: value for name, value in layer.named_parameters() if name not in forms}
        )
        # Kept out of the registry: it has the layer's settings, and none of its tensors.
        object.__setattr__(self, "settings", _without_tensors(layer))
        self.train(layer.training)

    settings: nn.Module

    @property
    def inner_type(self) -> type[nn.Module]:
        """The type of the layer that it runs like."""
        return type(self.settings)

    def weights(self) -> dict[str, Tensor]:
        """Return every tensor of the layer as floats, by the layer's own names."""
        held = {name: form() for name, form in self.forms.items()}
        return {**held, **dict(self.rest.items())}

    def forward(self, *inputs: Any) -> Any:
        """Run the layer on its decoded weights."""
        return _run(self.settings, self.weights(), inputs)

    def plain(self) -> nn.Module:
        """Return an ordinary layer with the decoded weights as its parameters."""
        layer = copy.deepcopy(self.settings)
        for name, value in self.weights().items():
            setattr(layer, name, nn.Parameter(value.detach().clone()))
        return layer.train(self.training)


def _without_tensors(layer: nn.Module) -> nn.Module:
    empty = copy.copy(layer)
    empty.__dict__ = {**layer.__dict__, "_parameters": {}, "_buffers": dict(layer._buffers)}
    for name in layer._parameters:
        empty._parameters[name] = None
    if isinstance(empty, nn.RNNBase):
        empty._flat_weights = []
    return empty


def _run(layer: nn.Module, weights: dict[str, Tensor], inputs: tuple[Any, ...]) -> Any:
    for kind, run in _RUNS.items():
        if isinstance(layer, kind):
            return run(layer, weights, *inputs)
    raise TypeError(f"{type(layer).__name__} cannot hold its weights in another form")


def _linear(_: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional.linear(x, weights["weight"], weights.get("bias"))


def _convolution(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    result: Tensor = layer._conv_forward(x, weights["weight"], weights.get("bias"))
    return result


def _transposed(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    function = {
        1: functional.conv_transpose1d,
        2: functional.conv_transpose2d,
        3: functional.conv_transpose3d,
    }
    result: Tensor = function[x.ndim - 2](
        x,
        weights["weight"],
        weights.get("bias"),
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.groups,
        layer.dilation,
    )
    return result


def _embedding(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional.embedding(x, weights["weight"], layer.padding_idx)


def _recurrent(layer: Any, weights: dict[str, Tensor], x: Tensor, state: Any) -> Any:
    flat = [weights[name] for names in layer._all_weights for name in names]
    settings = (
        layer.bias,
        layer.num_layers,
        layer.dropout,
        layer.training,
        layer.bidirectional,
        layer.batch_first,
    )
    if layer.mode == "LSTM":
        output, *memory = torch.lstm(x, state, flat, *settings)
        return output, tuple(memory)
    run = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[layer.mode]
    return run(x, state, flat, *settings)


_RUNS: dict[Any, Callable[..., Any]] = {
    nn.Linear: _linear,
    (nn.Conv1d, nn.Conv2d, nn.Conv3d): _convolution,
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): _transposed,
    nn.Embedding: _embedding,
    (nn.LSTM, nn.GRU, nn.RNN): _recurrent,
}


def takes_forms(layer: nn.Module) -> bool:
    """Say whether a layer's weights can be held by forms."""
    return any(isinstance(layer, kind) for kind in _RUNS)
