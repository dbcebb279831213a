"""Which code the person allowed for which file, on this machine."""

from pathlib import Path

from msgspec import Struct

from featherweight.engine.errors import UserError
from featherweight.engine.recipe import from_yaml, to_yaml
from featherweight.gui.project_file import write_whole

OWN_CODE = "featherweight.resources."


class Allowed(Struct, frozen=True, forbid_unknown_fields=True):
    """Module names by the path of the file they were allowed for."""

    files: dict[str, tuple[str, ...]] = {}


class TrustMemory:
    """Remembers answers to the trust dialog, so that a project file cannot bring its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._allowed = self._read()

    def allow(self, file: str, names: tuple[str, ...]) -> None:
        """Remember that the person allowed `names` for `file`."""
        known = self._allowed.files.get(file, ())
        merged = (*known, *(name for name in names if name not in known))
        self._allowed = Allowed({**self._allowed.files, file: merged})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, to_yaml(self._allowed).encode())

    def known(self, file: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the person allowed for `file`, and those of `names` that are our own."""
        own = (name for name in names if name.startswith(OWN_CODE))
        return tuple(dict.fromkeys((*self._allowed.files.get(file, ()), *own)))

    def _read(self) -> Allowed:
        try:
            return from_yaml(self._path.read_bytes(), Allowed, str(self._path))
        except (OSError, UserError):
            return Allowed()
