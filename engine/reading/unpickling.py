"""What torch.save wrote, opened without running what it names, unless the person trusts it."""

import _compat_pickle
import functools
import importlib
import pickle
import pickletools
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn
from torch.serialization import safe_globals

from featherweight.engine.errors import UserError, plain_reason
from featherweight.engine.reading.bounds import check_members
from featherweight.engine.reading.legacy_pickle import named_class, no_backend, without_sources
from featherweight.engine.reading.trust import import_trusted, require_trust

# What torch.load raises on a file that is cut off or altered.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
# Three pickles of preamble, the object, and the keys of its storages.
PICKLES_IN_LEGACY_FILE = 5
SHOWN = 5

# Layers hold these as values; called with tensors they compute, and nothing else.
FUNCTIONS = (
    *("torch.nn.functional.relu", "torch.nn.functional.gelu", "torch.nn.functional.silu"),
    *("torch.nn.functional.hardswish", "torch.nn.functional.hardsigmoid"),
    *("torch.nn.functional.leaky_relu", "torch.nn.functional.elu", "torch.nn.functional.mish"),
    *("torch.nn.functional.softmax", "torch.nn.functional.softplus", "torch._C._nn.gelu"),
    "functools.partial",
)
# Layers of before PyTorch 1.4 call for this; torch has it no more.
BACKEND = ("torch.nn.backends.thnn", "_get_thnn_function_backend")
_unpickler: Any = importlib.import_module("torch._weights_only_unpickler")

Global = tuple[str, str]


def is_checkpoint(path: Path) -> bool:
    """Say whether a file is a zip of torch.save or starts like a pickle."""
    members = zip_members(path)
    if members:
        if any(name.endswith("/constants.pkl") for name in members):
            return False
        return any(name == "data.pkl" or name.endswith("/data.pkl") for name in members)
    with path.open("rb") as file:
        start = file.read(9)
    # Eight bytes of length and a brace are a safetensors header, whatever the length.
    pickled = start[:1] == pickle.PROTO and start[1:2] <= bytes([pickle.HIGHEST_PROTOCOL])
    return pickled and start[8:] != b"{"


def zip_members(path: Path) -> list[str]:
    """Return the names in a zip file, none where the file is no readable zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def load_checkpoint(path: Path, trust: tuple[str, ...]) -> Any:
    """Return the object in a file of torch.save: tensors, containers, layers of torch.nn.

    Raises TrustNeededError naming the modules whose code it needs besides, before any of it is
    imported; UserError where the file is damaged or of another kind.
    """
    try:
        with warnings.catch_warnings():
            # A damaged pickle may hold texts that pickletools remarks on.
            warnings.simplefilter("ignore")
            wanted = set(_globals_of(path))
            rewritten = None if zip_members(path) else without_sources(path)
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    allowed = _resolved(wanted, trust, path)
    try:
        # An open file, because torch.load goes by the suffix of a path.
        with (
            rewritten or path.open("rb") as file,
            safe_globals([*allowed, named_class]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(
        f"{path} is damaged or no file of torch.save: {plain_reason(error)}.",
        "Save or download it again.",
    )


def _globals_of(path: Path) -> Iterator[Global]:
    """List every class and function that a checkpoint names, without running anything."""
    members = [name for name in zip_members(path) if name.rpartition("/")[2] == "data.pkl"]
    if members:
        with zipfile.ZipFile(path) as archive, archive.open(members[0]) as pickled:
            check_members(archive, str(path))
            yield from _globals_in(pickled)
        return
    with path.open("rb") as file:
        for _ in range(PICKLES_IN_LEGACY_FILE):
            yield from _globals_in(file)


def _globals_in(pickled: Any) -> Iterator[Global]:
    stream: BinaryIO = pickled
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STACK_GLOBAL":
            raise ValueError("it was saved with a newer pickle protocol than torch.save's own")
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            yield _compat_pickle.IMPORT_MAPPING.get(module, module), name


def _resolved(wanted: set[Global], trust: tuple[str, ...], path: Path) -> list[Any]:
    """Return what the file may name, with its name; foreign modules are imported if trusted."""
    always = _unpickler._get_allowed_globals()
    unknown = sorted(pair for pair in wanted if ".".join(pair) not in always)
    known = {pair: value for pair in unknown if (value := _known(*pair)) is not None}
    foreign = [pair for pair in unknown if pair not in known]
    if any(module == "__main__" for module, _ in foreign):
        names = ", ".join(name for module, name in foreign if module == "__main__")
        raise UserError(
            f"{path} needs {names} from the script that saved it, which cannot be found.",
            "Save its state_dict() instead and name the function that builds the network with "
            "--factory path/to/script.py:function.",
        )
    shown = [".".join(pair) for pair in foreign]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    why = f"it uses {', '.join(shown[:SHOWN])}{more}"
    require_trust(str(path), [_to_trust(module, trust) for module, _ in foreign], trust, why)
    for module, name in foreign:
        known[module, name] = _imported(module, name, trust, path)
    return [(value, ".".join(pair)) for pair, value in known.items()]


def _known(module: str, name: str) -> Any:
    """Return a layer of torch.nn or a plain function on tensors, None for anything else."""
    if (module, name) == BACKEND:
        return no_backend
    holder = vars(sys.modules[module]) if module in sys.modules else {}
    value = holder.get(name)
    if f"{module}.{name}" in FUNCTIONS:
        return functools.partial if module == "functools" else value
    is_layer = isinstance(value, type) and issubclass(value, nn.Module)
    own = is_layer and value.__module__ == module and module.startswith("torch.nn.modules.")
    return value if own else None


def _to_trust(module: str, trust: tuple[str, ...]) -> str:
    """Name what to trust: a whole foreign package, of torch only the one module."""
    root = module.partition(".")[0]
    return module if root == "torch" or root in trust else root


def _imported(module: str, name: str, trust: tuple[str, ...], path: Path) -> Any:
    value: Any = import_trusted(module, trust, str(path))
    for part in name.split("."):
        value = getattr(value, part, None)
    if value is None:
        raise UserError(
            f"{path} needs {name} of {module}, which is not there.",
            "Install the version of it that the network was saved with.",
        )
    return value
