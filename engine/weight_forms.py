"""How a weight tensor is held: as floats that train under a constraint, or in its final small form.

A layer whose weights are not plain parameters any more is a `CompactLayer`: it asks its forms for
float32 tensors when it runs. Methods bring their own forms; the coded archive stores any
`StoredForm` by its symbols and parts.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featherweight.engine.functional_layers import is_usual, run, runs, without_tensors
from featherweight.engine.network import Leaf, Network

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Symbols:
    """A weight tensor as whole numbers, ready for a coder: one for each element in their order.

    Only a form whose elements share values without an index has fewer.
    `values` are uint32 in [0, 2**bits); `zero` is the symbol of the weight 0.0, None where 0.0
    has none. `row` is how many of them make a row of the tensor, 0 where they make none.
    """

    values: npt.NDArray[np.uint32]
    bits: int
    zero: int | None
    row: int = 0


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

    `kind` names the form in files. `parts` are what it needs beside the symbols: scales, codebook,
    a table that takes the place of indices.
    """

    kind: ClassVar[str]

    @property
    def row(self) -> int:
        """How many elements have the same place along the first axis."""
        return math.prod(self.shape[1:])

    def symbols(self) -> Symbols:
        """Return the weight as symbols."""
        raise NotImplementedError

    def parts(self) -> dict[str, Array]:
        """Return side tensors by the ledger's kind of them: `scales`, `codebooks`, `tables`."""
        raise NotImplementedError

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "StoredForm":
        """Return the form that gave these symbols and parts. Raises ValueError on a mismatch."""
        raise NotImplementedError


class FloatForm(StoredForm):
    """A weight as float32; its symbols are the 32-bit patterns."""

    kind: ClassVar[str] = "float32"

    def __init__(self, weight: Tensor) -> None:
        super().__init__(tuple(weight.shape))
        self.values: Tensor
        self.register_buffer("values", started(weight, None))

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        return self.values

    def symbols(self) -> Symbols:
        """Return the bit patterns; +0.0 is the zero."""
        return Symbols(bit_patterns(self.values), 32, 0)

    def parts(self) -> dict[str, Array]:
        """Return nothing: the symbols are all there is."""
        return {}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "FloatForm":
        """Return the form of these bit patterns. Raises ValueError on a mismatch."""
        expect(symbols, shape, 32, 0)
        expect_parts(parts)
        return cls(torch.from_numpy(symbols.values.view(np.float32)).reshape(shape))


class MaskedForm(TrainableForm):
    """A float32 weight that trains; where `mask` (bool) is False it is 0.0 and stays so.

    Without a mask all of it trains.
    """

    def __init__(self, weight: Tensor, mask: Tensor | None) -> None:
        super().__init__(tuple(weight.shape))
        self.values = nn.Parameter(started(weight, mask))
        self.mask: Tensor | None
        self.register_buffer("mask", mask)

    def forward(self) -> Tensor:
        """Return the weight, float32; no gradient reaches what is masked."""
        return masked(self.values, self.mask)

    def settled(self) -> FloatForm:
        """Return the same weight as plain floats; the mask lives on only as zeros."""
        return FloatForm(self())


class CompactLayer(Leaf):
    """A layer some of whose weights are held by forms; it runs like the layer it replaces.

    The forms are `forms.<tensor>`; what is left (most biases) stays parameters under
    `rest.<tensor>`, and tables stay buffers of their names.
    Takes convolutions, transposed convolutions, linear, embedding and recurrent layers.
    """

    settings: nn.Module
    forms: nn.ModuleDict
    rest: nn.ParameterDict

    def __init__(self, layer: nn.Module, forms: dict[str, WeightForm]) -> None:
        super().__init__()
        for name, table in layer.named_buffers():
            if name not in forms:
                self.register_buffer(name, table)
        # Kept out of the registry: it has the layer's settings, and none of its tensors.
        object.__setattr__(self, "settings", without_tensors(layer))
        self.forms = nn.ModuleDict(forms)
        self.rest = nn.ParameterDict(
            {name: value for name, value in layer.named_parameters() if name not in forms}
        )
        self.train(layer.training)

    def __getattr__(self, name: str) -> Any:
        """Give what code that looks into its layers would find: a weight as it is now, a setting.

        Raises AttributeError where the layer that it stands for has no such attribute.
        """
        settings = self.__dict__.get("settings")
        if name.startswith("__") or settings is None or name in (*self._modules, *self._buffers):
            return super().__getattr__(name)
        if name in self.forms:
            return self.forms[name]()
        return self.rest[name] if name in self.rest else getattr(settings, name)

    @property
    def inner_type(self) -> type[nn.Module]:
        """The type of the layer that it runs like."""
        return type(self.settings)

    def held(self) -> dict[str, WeightForm]:
        """Return the forms by the names of the tensors that they hold."""
        return {name: form for name, form in self.forms.items() if isinstance(form, WeightForm)}

    def weights(self) -> dict[str, Tensor]:
        """Return every tensor of the layer as floats, by the layer's own names."""
        decoded = {name: form() for name, form in self.held().items()}
        return {**decoded, **dict(self.rest.items())}

    def tables(self) -> dict[str, Tensor]:
        """Return the layer's tables of whole numbers by its own names."""
        return dict(self.named_buffers(recurse=False))

    def forward(self, *inputs: Any) -> Any:
        """Run the layer on its decoded weights."""
        return run(self.settings, {**self.weights(), **self.tables()}, inputs)

    def train(self, mode: bool = True) -> "CompactLayer":
        """Set training mode, in which recurrent layers drop out."""
        self.settings.training = mode
        super().train(mode)
        return self

    def with_float_biases(self) -> None:
        """Hold tensors of one dimension as float32 parameters again, in place."""
        for name, form in self.held().items():
            if len(form.shape) == 1:
                del self.forms[name]
                self.rest[name] = nn.Parameter(form().detach().clone())

    def plain(self) -> nn.Module:
        """Return an ordinary layer with the decoded weights as its parameters."""
        layer = copy.deepcopy(self.settings)
        for name, value in self.weights().items():
            setattr(layer, name, nn.Parameter(value.detach().clone()))
        for name, table in self.tables().items():
            setattr(layer, name, table.clone())
        return layer.train(self.training)


def takes_forms(layer: nn.Module) -> bool:
    """Say whether a layer's weights can be held by forms."""
    return runs(layer)


def form_lock(layer: nn.Module) -> str:
    """Return the reason, a sentence, why a layer's weights cannot be held by forms; or empty."""
    if isinstance(layer, CompactLayer):
        return "Its weights are compressed already."
    if not takes_forms(layer):
        return f"{type(layer).__name__} layers keep their few weights as they are."
    if not is_usual(layer):
        return f"{type(layer).__name__} computes in a way of its own, which needs its own weights."
    weights = [value for value in layer.parameters(recurse=False) if value.ndim >= 2]
    if not weights:
        return "It has no weights of two or more dimensions."
    if not all(value.numel() for value in weights):
        return "Some of its weights are empty."
    for value in weights:
        if value.dtype != torch.float32:
            return f"Its weights are {str(value.dtype).removeprefix('torch.')}, not float32."
    return ""


@torch.no_grad()
def settle(network: Network) -> None:
    """Put the final form in the place of every trainable one, in place."""
    for module in network.module.modules():
        if isinstance(module, CompactLayer):
            for name, form in module.held().items():
                if isinstance(form, TrainableForm):
                    module.forms[name] = form.settled()


def densified(network: Network) -> Network:
    """Return a copy in which every compact layer is an ordinary one of the same weights."""
    dense = network.copy()
    densify(dense)
    return dense


@torch.no_grad()
def densify(network: Network) -> None:
    """Put an ordinary layer of the same weights in the place of every compact one."""
    for name, layer in list(network.module.named_modules()):
        if isinstance(layer, CompactLayer):
            network.replace(name, layer.plain())


def stored_forms() -> dict[str, type[StoredForm]]:
    """Return every kind of stored form that is loaded, by its name in files."""
    found: dict[str, type[StoredForm]] = {}
    classes = StoredForm.__subclasses__()
    while classes:
        kind = classes.pop()
        found[kind.kind] = kind
        classes += kind.__subclasses__()
    return found


def masked(weight: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weight with 0.0 where the mask is False."""
    return weight if mask is None else torch.where(mask, weight, 0.0)


def started(weight: Tensor, mask: Tensor | None) -> Tensor:
    """Return the masked weight as a tensor of its own whose elements lie in order."""
    # Another order of the elements would make the network's outputs differ in their last bit.
    own = weight.detach().clone(memory_format=torch.contiguous_format)
    return masked(own, mask)


def bit_patterns(values: Tensor) -> npt.NDArray[np.uint32]:
    """Return the bit patterns of float16 or float32 values in the order of their elements."""
    flat = values.detach().contiguous().reshape(-1).numpy()
    return flat.view(f"<u{flat.itemsize}").astype(np.uint32)


def expect(symbols: Symbols, shape: tuple[int, ...], bits: int, zero: int | None) -> None:
    """Raise ValueError unless the symbols are as many as the shape has elements, of these bits."""
    count = int(np.prod(shape, dtype=np.int64))
    if (symbols.values.size, symbols.bits, symbols.zero) != (count, bits, zero):
        raise ValueError(f"the symbols do not fit a weight of the shape {shape}")


def expect_parts(parts: dict[str, Array], **shapes: tuple[int, ...]) -> None:
    """Raise ValueError unless the parts are exactly these, float32 of these shapes."""
    found = {kind: part.shape for kind, part in parts.items() if part.dtype == np.float32}
    if found != shapes or len(parts) != len(shapes):
        raise ValueError(f"the parts do not fit: {found} instead of {shapes}")
