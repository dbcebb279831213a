"""What the window remembers between starts: its place, its look and the recent files."""

import os
from pathlib import Path
from typing import Literal

import msgspec
from PySide6.QtCore import QByteArray, QSettings, QStandardPaths

from featherweight.engine.events import Source, is_library_name

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
    def cuda(self) -> bool:
        """Whether recoveries train on a graphics card."""
        return bool(self._kept.value("cuda", False, type=bool))

    @cuda.setter
    def cuda(self, cuda: bool) -> None:
        self._kept.setValue("cuda", cuda)

    @property
    def recent(self) -> tuple[Path, ...]:
        """What was opened last and still is there, the newest first; networks of libraries too."""
        kept = self._kept.value("recent", "", type=str)
        paths = (Path(line) for line in str(kept).splitlines())
        return tuple(path for path in paths if path.exists() or is_library_name(str(path)))

    @property
    def libraries(self) -> tuple[Source, ...]:
        """The networks of libraries that were opened last, the newest first, with their inputs."""
        kept = self._kept.value("libraries", "[]", type=str)
        try:
            return msgspec.json.decode(str(kept), type=tuple[Source, ...])
        except msgspec.MsgspecError:
            return ()

    def add_library(self, source: Source) -> None:
        """Put a network of a library first; whether its code is trusted is not kept here."""
        others = [known for known in self.libraries if known.path != source.path]
        first = msgspec.structs.replace(source, trust=())
        kept = msgspec.json.encode([first, *others][:RECENT]).decode()
        self._kept.setValue("libraries", kept)

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
