"""A network that runs in ONNX Runtime, on weights that layers here hold.

It has no graph of layers and gives no gradients: its weights can be made smaller, and that is all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from featherweight.engine.bounded_runtime import Array, BoundedRuntime, typed
from featherweight.engine.lifting import place
from featherweight.engine.weight_forms import CompactLayer

STRUCTURE_LOCK = (
    "The network runs in ONNX Runtime with its weights, so no other layer can take its place."
)
EVIDENCE_LOCK = "The network runs in ONNX Runtime, where neither inputs nor gradients are measured."
TRAINING_LOCK = "it runs in ONNX Runtime, which gives no gradients"


@dataclass(frozen=True)
class Slot:
    """A weight of the model by its name there: the layer and its tensor that hold it.

    A matrix that is `turned` is the transpose of the file's; any other tensor has the same elements
    in the same order, in the file in `shape`.
    """

    name: str
    layer: str
    tensor: str
    shape: tuple[int, ...]
    turned: bool = False

    def filed(self, value: Tensor) -> Array:
        """Return the held tensor (float32) as the file has it, a view of it where it can be."""
        array: Array = (value.T if self.turned else value).detach().numpy()
        return np.ascontiguousarray(array).reshape(self.shape)

    def lies_as_filed(self, value: Tensor) -> bool:
        """Say whether `filed` gives a view."""
        return (value.T if self.turned else value).is_contiguous()


@dataclass(frozen=True)
class Opaque:
    """A model whose weights are inputs, in ONNX Runtime; nothing changes it, so copies share it."""

    model: onnx.ModelProto
    runtime: BoundedRuntime

    def __deepcopy__(self, _: Any) -> "Opaque":
        return self


@dataclass
class _Lent:
    """Weights as the model takes them: of which tensors, in which versions, they were made.

    The tensors are kept so that no other can have their place. A copy starts without any.
    """

    made: dict[str, tuple[list[int], list[int], list[Tensor], Array]] = field(default_factory=dict)

    def __deepcopy__(self, _: Any) -> "_Lent":
        return _Lent()


class OpaqueNetwork(nn.Module):
    """Layers that hold the weights of a model, which ONNX Runtime runs on them.

    `slots` are its weights, `uncounted` says in words whose products nobody can count.
    """

    uncounted = "what ONNX Runtime computes"

    def __init__(self, opaque: Opaque) -> None:
        super().__init__()
        self.opaque = opaque
        self.slots: list[Slot] = []
        self._lent = _Lent()
        self.eval()

    def hold(self, layer: nn.Module, slots: list[Slot]) -> None:
        """Add a layer that holds these weights, all of them its own, under their layer's name."""
        place(self, slots[0].layer, layer)
        self.slots += slots

    @property
    def given(self) -> list[str]:
        """The names of the model's inputs that take no weights, in order."""
        taken = {slot.name for slot in self.slots}
        return [name for name in self.opaque.runtime.inputs if name not in taken]

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the model on the weights that the layers hold now. Raises RuntimeError."""
        runtime = self.opaque.runtime
        feeds = {slot.name: self._lend(slot) for slot in self.slots}
        for name, value in zip(self.given, inputs.values(), strict=True):
            feeds[name] = runtime.taken(name, value.detach().numpy())
        samples = max((value.shape[0] for value in inputs.values() if value.ndim), default=1)
        return given_back(runtime.run(feeds, samples))

    def _lend(self, slot: Slot) -> Array:
        """Return a weight for the model: the held memory itself where that has its numbers."""
        layer, kind = (
            self.get_submodule(slot.layer),
            typed(self.opaque.runtime.inputs[slot.name][0]),
        )
        form = layer.held().get(slot.tensor) if isinstance(layer, CompactLayer) else None
        parts = [*form.parameters(), *form.buffers()] if form else [getattr(layer, slot.tensor)]
        if form is None and kind == np.float32 and slot.lies_as_filed(parts[0]):
            return slot.filed(parts[0])
        places, versions = [id(part) for part in parts], [part._version for part in parts]
        known = self._lent.made.get(slot.name)
        if known is None or known[:2] != (places, versions):
            with torch.no_grad():
                array = slot.filed(getattr(layer, slot.tensor)).astype(kind, copy=False)
            known = (places, versions, parts, array)
            self._lent.made[slot.name] = known
        return known[3]


def given_back(outputs: Iterable[Array]) -> tuple[Tensor, ...]:
    """Return what ONNX Runtime gave as tensors, half precision as float32."""
    tensors = [torch.from_numpy(output) for output in outputs]
    return tuple(one.float() if one.dtype == torch.float16 else one for one in tensors)
