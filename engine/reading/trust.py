"""Whose code may run: our own, and what the person named with `--trust`."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from featherweight.engine.errors import USER_CODE_ERRORS, TrustNeededError, UserError

OURS = "featherweight.resources"


def is_trusted(module: str, trust: tuple[str, ...]) -> bool:
    """Say whether code may be run: of a dotted module name, or of the path of a `.py` file.

    A trusted package includes what is inside it; a trusted `.py` file is known by its stem too.
    """
    if module.endswith(".py"):
        return any(_same_file(module, name) for name in trust)
    known = [OURS, *(Path(name).stem if name.endswith(".py") else name for name in trust)]
    return any(module == name or module.startswith(f"{name}.") for name in known)


def require_trust(path: str, modules: Iterable[str], trust: tuple[str, ...], why: str) -> None:
    """Raise TrustNeededError that names every module in the list that is not trusted."""
    missing = tuple(dict.fromkeys(name for name in modules if not is_trusted(name, trust)))
    if missing:
        raise TrustNeededError(path, missing, why)


def import_trusted(module: str, trust: tuple[str, ...], path: str) -> ModuleType:
    """Import a module, or a `.py` file, that the person trusts: its code runs.

    Raises UserError where it is not there or cannot be imported, TrustNeededError where it is not
    trusted: nobody is asked to trust what does not exist.
    """
    if not _is_there(module, _file_of(module, trust)):
        raise UserError(
            f"{path} needs {module}, which is not there.",
            "Check the name, install the library, or name the file that defines it, like "
            "--trust path/to/networks.py.",
        )
    require_trust(path, [module], trust, "its code would run")
    file = _file_of(module, trust)
    try:
        return _imported_file(file) if file else importlib.import_module(module)
    except USER_CODE_ERRORS as error:
        raise UserError(
            f"{path} needs {module}, which cannot be imported: {_reason(error)}.",
            "Name the file that defines it, like --trust path/to/networks.py, or start "
            "Featherweight where it can be imported.",
        ) from error


def _is_there(module: str, file: Path | None) -> bool:
    """Say whether a module could be imported, by its file or outermost package; nothing runs."""
    if file is not None:
        return file.is_file()
    root = module.partition(".")[0]
    try:
        return root in sys.modules or importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def _file_of(module: str, trust: tuple[str, ...]) -> Path | None:
    if module.endswith(".py"):
        return Path(module)
    files = [Path(name) for name in trust if name.endswith(".py")]
    return next((file for file in files if file.stem == module), None)


def _imported_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ModuleNotFoundError(f"there is no file {file}")
    found = sys.modules.get(file.stem)
    if found is not None and _same_file(getattr(found, "__file__", None) or "", str(file)):
        return found
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _same_file(one: str, other: str) -> bool:
    return bool(one) and Path(one).resolve() == Path(other).resolve()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
