"""Every bad input of the corpus brought to the window: one notice each, and nothing is lost."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_corpus import SHAPE, Case, cases, damaged, factory, good
from PySide6.QtWidgets import QApplication, QDialog
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Source, TaskSource
from featherweight.engine.recipe import Setting
from featherweight.gui.dialogs.trust import TrustDialog
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

LONG = 30_000
CORPUS = [case for case in (*cases(), *damaged(6)) if not case.heavy]
# Words of libraries and of Python that say nothing to somebody who opens a file.
RAW = re.compile(r"Traceback|opcode|\b\w+(Error|Exception)\b|\$\.|at 0x|codec|got `")


class Visitor:
    """Brings inputs to a window and hears what it says of them."""

    def __init__(self, window: MainWindow, folder: Path, qtbot: QtBot) -> None:
        self.window, self.document, self.qtbot = window, window.document, qtbot
        self.builder = f"{factory(folder)}:build"
        self.good = folder / "good.onnx"
        self.good.write_bytes(good(".onnx"))
        self.heard: list[tuple[str, str, str]] = []
        self.document.noticed.connect(lambda *said: self.heard.append(said))
        self.document.open_failed.connect(lambda _, *said: self.heard.append(said))

    def open_good(self) -> None:
        with self.qtbot.waitSignal(self.document.network_changed, timeout=LONG):
            self.document.open(Source(path=str(self.good)))
        self.qtbot.waitUntil(lambda: not self.document.busy, timeout=LONG)
        layer = next(iter(self.document.layers))
        self.document.set_choice((layer,), "precision", Setting("integer", {"bits": 8}))
        self.heard.clear()

    def bring(self, case: Case, path: Path) -> None:
        self.heard.clear()
        self.window.notices.clear()
        document = self.document
        if case.door == "network":
            shapes = () if case.suffix in (".onnx", ".pt2") else (SHAPE,)
            code, _, _ = self.builder.rpartition(":")
            document.open(
                Source(path=str(path), factory=self.builder, trust=(code,), input_shapes=shapes)
            )
        elif case.door == "data":
            document.set_task(TaskSource(data=str(path)))
        elif case.door == "recipe":
            document.load_recipe(path)
        else:
            self.window.open_path(path)
        self.qtbot.waitUntil(lambda: not document.busy, timeout=LONG)
        if case.door == "data" and not self.heard:
            document.compress()
            self.qtbot.waitUntil(lambda: document.idle, timeout=LONG)

    def refused_trust(self) -> bool:
        """Answer a question for trust with no; says whether there was one."""
        asked = [dialog for dialog in self.window.findChildren(TrustDialog) if dialog.isVisible()]
        for dialog in asked:
            dialog.reject()
        return bool(asked)

    def complaints(self, path: Path) -> Iterator[str]:
        """Say what is wrong with how a bad input was told."""
        if len(self.heard) != 1:
            yield f"{len(self.heard)} notices"
            return
        sentence, hint, details = self.heard[0]
        if self.window.notices.text != f"{sentence} {hint}":
            yield "it is not in the notice bar"
        if str(path) not in f"{sentence} {hint}":
            yield "it does not name the file"
        if not hint or details:
            yield "it has no mend, or a traceback"
        if "\n" in sentence or not sentence.endswith(".") or RAW.search(f"{sentence} {hint}"):
            yield "it is no sentence for people"


@pytest.fixture
def visitor(
    engine: EngineClient, own_folder: Path, tmp_path: Path, qtbot: QtBot
) -> Iterator[Visitor]:
    """Return a visitor of a window in which a good network is open."""
    document = Document(engine, own_folder)
    window = MainWindow(document, engine, Settings(own_folder))
    document.setParent(window)
    qtbot.addWidget(window)
    with qtbot.waitExposed(window):
        window.show()
    made = Visitor(window, tmp_path, qtbot)
    made.open_good()
    yield made
    window.close()


def test_that_every_bad_input_ends_in_one_notice_with_a_mend_and_nothing_is_lost(
    visitor: Visitor, engine: EngineClient, tmp_path: Path, qtbot: QtBot
) -> None:
    document, process = visitor.document, engine.process_id
    wrong, told, asked = [], 0, 0
    for number, case in enumerate(CORPUS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = case.path(folder)
        case.make(path)
        network = document.network
        visitor.bring(case, path)
        if visitor.refused_trust():
            asked += 1
        elif visitor.heard:
            told += 1
            wrong += [
                f"{case.name}: {reason}: {visitor.heard}" for reason in visitor.complaints(path)
            ]
        if visitor.heard and document.network is not network:
            wrong.append(f"{case.name}: the network is not open any more")
        if document.network is not network or document.recipe.layers == {}:
            visitor.open_good()
        wrong += [
            f"{case.name}: {dialog.windowTitle()} is shown"
            for dialog in QApplication.topLevelWidgets()
            if isinstance(dialog, QDialog) and dialog.isVisible()
        ]
    assert wrong == []
    assert told > 400
    assert asked >= 5
    assert visitor.window.isVisible()
    assert engine.process_id == process
    with qtbot.waitSignal(document.details_changed, timeout=LONG):
        document.request_details(next(iter(document.layers)))
