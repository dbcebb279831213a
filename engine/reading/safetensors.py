"""safetensors files: weights only, mapped into memory, with the factory of their network."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from featherweight.engine.errors import UserError, plain_reason
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.bounds import ALWAYS_BYTES, BoundedMemory
from featherweight.engine.reading.factory import built_network, load_weights
from featherweight.engine.reading.opening import opened
from featherweight.engine.weight_unpacking import unpacked

SUFFIXES = (".safetensors",)
LENGTH_BYTES = 8
# A sign of one bit becomes a float of 32.
TIMES_PACKED = 64


def matches(path: Path) -> bool:
    """Say whether a file starts with the length of a JSON header that fits into it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        return length <= size - LENGTH_BYTES and file.read(2) in (b'{"', b"{}", b"{ ")


def read(source: Source) -> Network:
    """Open weights with `source.factory`. Raises UserError, and TrustNeededError for foreign code.

    The weights stay on disk until they are used, but for those of few bits, which are unpacked.
    """
    state = _state(Path(source.path))
    module = built_network(source, len(state))
    load_weights(module, state, source.path)
    return opened(module, source, "safetensors")


def _state(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            told = (file.metadata() or {}).get("packed")
        if not told:
            return tensors
        with BoundedMemory(ALWAYS_BYTES + TIMES_PACKED * path.stat().st_size):
            return unpacked(tensors, json.loads(told))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged: its packed weights do not fit what it tells of them.",
            "Save or download it again.",
        ) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file: {plain_reason(error)}.",
            "Save or download it again.",
        ) from error
