"""Starts the window: `python -m featherweight.gui.app [--demo] [FILE]`."""

import argparse
import shlex
import sys
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from featherweight.gui import theme
from featherweight.gui.crash_report import CrashReport
from featherweight.gui.document import Document
from featherweight.gui.engine_client import LOCAL_ENGINE, EngineClient
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings, data_folder


def main(argv: list[str] | None = None) -> int:
    """Show the window until it is closed; returns the exit status."""
    asked = _arguments(sys.argv[1:] if argv is None else argv)
    app = QApplication(sys.argv[:1])
    app.setApplicationName("featherweight")
    app.setApplicationDisplayName("Featherweight")
    app.setDesktopFileName("featherweight")
    command = tuple(shlex.split(asked.engine)) if asked.engine else LOCAL_ENGINE
    client = EngineClient(command)
    settings = Settings(data_folder())
    client.use(settings.cuda)
    client.start()
    theme.apply(app, settings.scheme)
    document = Document(client, settings.folder)
    window = MainWindow(document, client, settings)
    report = CrashReport(settings.folder / "window.log", window)
    report.caught.connect(window.show_notice)
    report.install()
    window.show()
    if asked.demo:
        QTimer.singleShot(0, document.open_demo)
    elif asked.file is not None:
        QTimer.singleShot(0, lambda: window.open_path(asked.file.absolute()))
    status = app.exec()
    report.remove()
    return status


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="featherweight window", description="Open the window of Featherweight."
    )
    parser.add_argument("file", nargs="?", type=Path, help="a network or a project to open")
    parser.add_argument("--demo", action="store_true", help="open the demo")
    parser.add_argument(
        "--engine",
        metavar="COMMAND",
        help="what starts the engine, for example: ssh gpu-box featherweight engine",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
