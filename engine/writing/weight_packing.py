"""Weights of few bits packed into tensors that a safetensors file can hold."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.bit_packing import packed, packed_bytes
from featherweight.engine.methods.precision.frequency import FrequencyForm
from featherweight.engine.methods.precision.hashed import HashedForm
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import Array, CompactLayer, StoredForm, Symbols
from featherweight.engine.weight_unpacking import FORMS, sparse_floats

FLOATS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class PackedWeight:
    """A weight as a file holds it: what the file tells of it, and its tensors by their kinds.

    Where `told` is empty, the weight is the one tensor `values` under its own name.
    """

    told: dict[str, Any]
    parts: dict[str, Tensor]


def packed_weights(network: Network) -> tuple[dict[str, PackedWeight], tuple[str, ...]]:
    """Return the weights that forms hold, by name, and the names of those that stay float32.

    What stays float32 are forms of methods that were added to ours: nobody could unpack them.
    """
    found: dict[str, PackedWeight] = {}
    unknown = []
    for name, layer in network.layers():
        if isinstance(layer, CompactLayer):
            for tensor, form in layer.held().items():
                if isinstance(form, StoredForm) and form.kind in FORMS:
                    found[f"{name}.{tensor}"] = packed_weight(form)
                else:
                    unknown.append(f"{name}.{tensor}")
    return found, tuple(unknown)


def packed_weight(form: StoredForm) -> PackedWeight:
    """Return a form of a known kind as tensors; zeros are left out where a mask is smaller."""
    if isinstance(form, FrequencyForm):
        return _told(form.told(), {"values": form.values})
    if isinstance(form, HashedForm):
        told = {"form": form.kind, "shape": form.shape, "seed": form.seed}
        return _told(told, {"values": form.values})
    symbols = form.symbols()
    kept = symbols.values != symbols.zero
    sparse = symbols.zero is not None and _is_smaller(symbols, int(kept.sum()))
    is_float = FORMS[form.kind] is sparse_floats
    if is_float and not sparse:
        return PackedWeight({}, {"values": _floats(symbols.values, form.kind).reshape(form.shape)})
    values = symbols.values[kept] if sparse else symbols.values
    told = {"form": form.kind, "shape": form.shape, "zero": symbols.zero}
    parts = {kind: torch.from_numpy(part) for kind, part in form.parts().items()}
    if sparse:
        parts["mask"] = torch.from_numpy(packed(kept, 1))
        told["kept"] = values.size
    if is_float:
        return _told(told, {**parts, "values": _floats(values, form.kind)})
    told["bits"] = symbols.bits
    return _told(told, {**parts, "codes": torch.from_numpy(packed(values, symbols.bits))})


def as_metadata(weights: dict[str, PackedWeight]) -> dict[str, str]:
    """Return what a safetensors file tells of its weights: one entry, as their order is chance."""
    told = {name: weight.told for name, weight in weights.items() if weight.told}
    return {"packed": json.dumps(told)} if told else {"format": "pt"}


def _told(told: dict[str, Any], parts: dict[str, Tensor]) -> PackedWeight:
    return PackedWeight({**told, "parts": tuple(parts)}, parts)


def _is_smaller(symbols: Symbols, kept: int) -> bool:
    count, bits = symbols.values.size, symbols.bits
    return packed_bytes(count, 1) + packed_bytes(kept, bits) < packed_bytes(count, bits)


def _floats(patterns: Array, kind: str) -> Tensor:
    dtype = FLOATS[kind]
    whole = patterns.astype(np.uint16 if dtype.itemsize == 2 else np.uint32)
    return torch.from_numpy(whole.view(f"i{dtype.itemsize}")).view(dtype)
