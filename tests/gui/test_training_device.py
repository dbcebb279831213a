"""The choice of where recoveries train."""

from pathlib import Path

from pytestqt.qtbot import QtBot

from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings


def test_that_training_on_a_graphics_card_is_remembered_and_the_engine_starts_anew(
    window: MainWindow, own_folder: Path, qtbot: QtBot
) -> None:
    client = window._client
    client.start()
    qtbot.waitUntil(lambda: client.state == "ready")
    before = client.process_id
    window.commands["cuda"].trigger()
    assert Settings(own_folder).cuda
    qtbot.waitUntil(lambda: client.state == "ready" and client.process_id != before)
    window.commands["cuda"].trigger()
    assert not Settings(own_folder).cuda
