"""Files of torch.save: a whole module, or a state dict with the factory of its network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.factory import built_network, load_weights
from featherweight.engine.reading.opening import opened
from featherweight.engine.reading.unpickling import is_checkpoint, load_checkpoint

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Where training scripts put the network among the rest of a checkpoint, best first.
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "ema")


def matches(path: Path) -> bool:
    """Say whether torch.save wrote the file, as a zip or in its older form."""
    return is_checkpoint(path)


def read(source: Source) -> Network:
    """Open a whole module, or weights with `source.factory`.

    Raises TrustNeededError naming the modules whose code is needed; UserError otherwise.
    """
    path = Path(source.path)
    loaded = load_checkpoint(path, source.trust)
    module = _module_in(loaded)
    kind = "PyTorch module"
    if module is None:
        kind = "PyTorch state dict"
        state = _state_in(loaded, path)
        module = built_network(source, len(state))
        load_weights(module, state, source.path)
    return opened(module, source, kind)


def _module_in(loaded: Any) -> nn.Module | None:
    if isinstance(loaded, nn.Module):
        return loaded
    values = loaded.values() if isinstance(loaded, Mapping) else ()
    return next((value for value in values if isinstance(value, nn.Module)), None)


def _state_in(loaded: Any, path: Path) -> dict[str, Tensor]:
    for candidate in _candidates(loaded):
        state = {
            name: value
            for name, value in candidate.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        if state:
            return state
    raise UserError(
        f"{path} holds neither a network nor its weights.",
        "Save the network, or its state_dict(), with torch.save.",
    )


def _candidates(loaded: Any) -> list[Mapping[Any, Any]]:
    if not isinstance(loaded, Mapping):
        return []
    named = [loaded.get(key) for key in KEYS]
    return [value for value in [*named, loaded, *loaded.values()] if isinstance(value, Mapping)]
