"""What the window remembers between starts: its place, its look and the recent files."""

import os
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QByteArray, QSettings, QStandardPaths

RECENT = 10
FOLDER_VARIABLE = "FEATHERWEIGHT_FOLDER"
SCHEMES: tuple[Literal["system", "light", "dark"], ...] = ("system", "light", "dark")


def data_folder() -> Path:
    """Return the person's folder for settings, untitled projects and the log."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    location = QStandardPaths.StandardLocation.GenericDataLocation
    return Path(QStandardPaths.writableLocation(location)) / "featherweight"


class Settings:
    """Settings kept in a file below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = QSettings(str(folder / "window.ini"), QSettings.Format.IniFormat)

    @property
    def scheme(self) -> Literal["system", "light", "dark"]:
        """Light, dark, or as the system has it."""
        kept = self._kept.value("scheme", "system", type=str)
        return next((scheme for scheme in SCHEMES if scheme == kept), "system")

    @scheme.setter
    def scheme(self, scheme: Literal["system", "light", "dark"]) -> None:
        self._kept.setValue("scheme", scheme)

    @property
    def recent(self) -> tuple[Path, ...]:
        """The files opened last that still exist, the newest first."""
        kept = self._kept.value("recent", "", type=str)
        paths = (Path(line) for line in str(kept).splitlines())
        return tuple(path for path in paths if path.exists())

    def add_recent(self, path: Path, instead_of: Path | None = None) -> None:
        """Put a file first among the recent ones; it may take another's place."""
        others = [known for known in self.recent if known not in (path, instead_of)]
        self._kept.setValue("recent", "\n".join(map(str, [path, *others][:RECENT])))

    def bytes_of(self, key: str) -> QByteArray:
        """Return what was kept of a window's place or arrangement; empty where nothing was."""
        value = self._kept.value(key)
        return value if isinstance(value, QByteArray) else QByteArray()

    def keep_bytes(self, key: str, value: QByteArray) -> None:
        """Keep a window's place or arrangement."""
        self._kept.setValue(key, value)

    def flush(self) -> None:
        """Write to the disk now."""
        self._kept.sync()
