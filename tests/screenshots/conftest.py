"""The pictures of the window: one session with the real engine, every scene in light and dark."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPixmap
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialog,
    QLineEdit,
    QPushButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.trainings import FineTuning, Reconstruction
from featherweight.gui import theme
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.item_models.layer_painter import ROW_HEIGHT
from featherweight.gui.item_models.layer_table import Column
from featherweight.gui.item_models.layer_tree import LayerTree
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

WIDTH, HEIGHT = 1280, 800
LONG = 120_000
REDRAWN = 200
# Bits of the demo's network that are fewer than what its choices leave.
LITTLE = 630_000
MOVING = (
    *("loss_chart", "accuracy_chart", "job_stage", "job_detail", "job_left", "job_progress"),
    *("compare_accuracy_chart", "compare_table"),
    *("heat_map", "damage_chart", "sweep_about"),
    *("frontier_chart", "budget_slider", "predicted_drop"),
    *("result_figures", "result_rates", "export_summary", "graph_about"),
    *("flips_headline", "flips_verdict", "flips_classes", "flips_directions", "flips_grid"),
)
SCHEMES: tuple[theme.Scheme, ...] = ("light", "dark")
FOLDED = ("preparation", "reconstruction")
CHOICES = (
    ("block1.conv1", "structure", Setting("channel_pruning", {"ratio": 0.5})),
    ("block1.conv1", "precision", Setting("integer", {"bits": 4})),
    ("block1.conv2", "precision", Setting("integer", {"bits": 8})),
    ("block2.conv1", "structure", Setting("channel_pruning", {"ratio": 0.5})),
    ("block2.conv1", "precision", Setting("integer", {"bits": 4})),
    ("block2.conv2", "structure", Setting("tucker", {"keep": 0.4})),
    ("block2.conv2", "precision", Setting("integer", {"bits": 8})),
    ("block3.pointwise", "structure", Setting("svd", {"keep": 0.5})),
)
READ = SweepPlan(
    choices=(
        *(Choice(precision=Setting("integer", {"bits": bits})) for bits in (8, 6, 5, 4, 3, 2)),
        *(Choice(structure=Setting("svd", {"keep": keep})) for keep in (0.25, 0.5)),
        *(Choice(sparsity=Setting("magnitude", {"sparsity": share})) for share in (0.5, 0.8)),
    ),
    samples=200,
)


class Photo(NamedTuple):
    """A picture of the window, and the places where it shows what is measured anew each time."""

    image: QImage
    moving: tuple[QRect, ...]


class Photographer:
    """Drives one window and keeps a photo of every scene in both schemes."""

    def __init__(self, window: MainWindow, qtbot: QtBot) -> None:
        self.window = window
        self._qtbot = qtbot
        self.document = window.document
        self.photos: dict[str, Photo] = {}

    def take(self, name: str, dialog: QDialog | None = None) -> None:
        """Take a scene, with a dialog in front where there is one."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        for scheme in reversed(SCHEMES):
            theme.apply(app, scheme)
            self._qtbot.wait(REDRAWN)
            picture = self.window.grab()
            moving = moving_places(self.window)
            if dialog is not None:
                corner = place_in_front(picture, dialog.grab())
                moving += [place.translated(corner) for place in moving_places(dialog)]
            self.photos[f"{name}-{scheme}"] = Photo(picture.toImage(), tuple(moving))

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        self._qtbot.waitUntil(lambda: bool(condition()), timeout=LONG)

    def click(self, name: str) -> None:
        """Click on a button of the window or of its dialog."""
        button = self.window.findChild(QPushButton, name)
        assert isinstance(button, QPushButton)
        assert button.isVisible()
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def moving_places(top: QWidget) -> list[QRect]:
    """Return where a window shows times, accuracies and curves."""
    places = []
    for name in MOVING:
        for shown in top.findChildren(QWidget, name):
            if shown.window() is top and shown.isVisible():
                places.append(QRect(shown.mapTo(top, QPoint()), shown.size()))
    for tree in top.findChildren(LayerTree):
        if tree.isVisible():
            left = tree.header().sectionViewportPosition(Column.LATENCY)
            width = tree.header().sectionSize(Column.LATENCY)
            column = QRect(left, 0, width, tree.viewport().height())
            places.append(column.translated(tree.viewport().mapTo(top, QPoint())))
    return places


def place_in_front(picture: QPixmap, dialog: QPixmap) -> QPoint:
    """Draw a dialog in the middle of the window, dimmed; return where its corner is."""
    painter = QPainter(picture)
    painter.fillRect(picture.rect(), QColor(0, 0, 0, 90))
    corner = QPoint((WIDTH - dialog.width()) // 2, (HEIGHT - dialog.height()) // 2)
    painter.drawPixmap(corner, dialog)
    painter.setPen(QColor(theme.colours().line))
    painter.drawRect(corner.x(), corner.y(), dialog.width() - 1, dialog.height() - 1)
    painter.end()
    return corner


@pytest.fixture(scope="module")
def photos(
    qapp: QApplication, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Photo]:
    """Return every photo by name; the demo is opened, chosen for, run and exported once."""
    folder = tmp_path_factory.mktemp("photographed")
    kept = (qapp.font(), qapp.palette(), qapp.styleSheet(), qapp.cursorFlashTime())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_FOLDER", str(folder / "data"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(folder)
        qapp.setCursorFlashTime(0)
        taken = photographed(qapp, folder / "data", QtBot(request))
    qapp.setFont(kept[0])
    qapp.setPalette(kept[1])
    qapp.setStyleSheet(kept[2])
    qapp.setCursorFlashTime(kept[3])
    return taken


def photographed(app: QApplication, folder: Path, qtbot: QtBot) -> dict[str, Photo]:
    """Walk through the main job and take its pictures."""
    theme.apply(app, "light")
    client = EngineClient()
    client.start()
    document = Document(client, folder)
    window = MainWindow(document, client, Settings(folder))
    window.show()
    person = Photographer(window, qtbot)
    try:
        person.wait(window.isActiveWindow)
        person.wait(lambda: client.state == "ready")
        person.take("start")
        take_table(person)
        take_graph(person)
        take_atlas(person)
        take_budget(person)
        take_recovery(person)
        take_run(person)
        take_results_and_export(person)
        take_flips(person)
        take_compare(person)
    finally:
        window.close()
        window.deleteLater()
    return person.photos


def take_table(person: Photographer) -> None:
    """Open the demo, choose for layers, measure, and look at one of them."""
    document = person.document
    person.click("start_demo")
    person.wait(lambda: document.task is not None)
    for layer, slot, setting in CHOICES:
        document.set_choice((layer,), slot, setting)
    document.set_recovery(FineTuning(epochs=4))
    person.click("measure_latency_button")
    person.wait(lambda: document.latency is not None)
    document.select(("block2.conv2",))
    person.window.workbench.show_dock("details")
    person.wait(lambda: "block2.conv2" in document.details)
    scroll = person.window.workbench.table.tree.verticalScrollBar()
    scroll.setValue(-(-scroll.value() // ROW_HEIGHT) * ROW_HEIGHT)
    person.take("table")
    person.window.workbench.show_dock("choices")


def take_graph(person: Photographer) -> None:
    """Look at the graph, with what is coupled to a layer lit up."""
    bench = person.window.workbench
    show_graph = next(action for action in bench.toggles() if action.objectName() == "action_graph")
    show_graph.trigger()
    person.wait(lambda: bench.graph.picture.boxes and not bench.graph.busy)
    person.document.select(("block1.conv2",))
    strengths = person.document.strengths
    person.wait(lambda: any(len(one.points) > 5 for one in strengths.traces.values()))
    person.take("graph")
    show_graph.trigger()
    person.document.select(("block2.conv2",))


def take_atlas(person: Photographer) -> None:
    """Sweep a few settings and look at what the layers lose."""
    bench, atlas = person.window.workbench, person.document.atlas
    show_atlas = next(action for action in bench.toggles() if action.objectName() == "action_atlas")
    show_atlas.trigger()
    person.wait(lambda: atlas.estimate is not None)
    atlas.ask(READ)
    person.wait(lambda: atlas.estimate is not None)
    person.click("sweep_start_button")
    person.wait(lambda: atlas.summary is not None and atlas.estimate is not None)
    shown = bench.atlas.shown
    shown.setCurrentText("Integers")
    shown.activated.emit(shown.currentIndex())
    person.document.select(("stem.0", "block1.conv1", "block2.conv2"))
    person.take("atlas")
    show_atlas.trigger()
    person.document.select(("block2.conv2",))


def take_budget(person: Photographer) -> None:
    """Give the network an eighth of its size, with one layer left out, and take it back."""
    document, bench = person.document, person.window.workbench
    allocations, steps = document.allocations, document.undo_stack.index()
    bench.show_dock("budget")
    document.select(())
    document.hold(("stem.0",), "left")
    person.wait(lambda: allocations.frontier is not None and not allocations.tracing)
    field = bench.budget.bar.field
    field.setText("1/8")
    field.setModified(True)
    field.editingFinished.emit()
    person.wait(lambda: document.allocated and not bench.table.tree.flashing)
    person.wait(lambda: document.prediction and document.prediction.after.bits < LITTLE)
    person.take("budget")
    document.undo_stack.setIndex(steps)
    bench.show_dock("choices")
    document.select(("block2.conv2",))


def take_recovery(person: Photographer) -> None:
    """Look at the trainings of the recipe, two of them on and the rarer options shown."""
    document, bench = person.document, person.window.workbench
    steps = document.undo_stack.index()
    bench.show_dock("recovery")
    document.set_training("reconstruction", Reconstruction())
    folds = [person.window.findChild(QAbstractButton, f"{name}_fold") for name in FOLDED]
    for fold in folds:
        assert fold is not None
        fold.setChecked(False)
    person.click("recovery_more")
    # The header may still tell of the budget's recipe.
    person.wait(lambda: document.prediction and document.prediction.after.bits > LITTLE)
    person.take("recovery")
    person.click("recovery_more")
    document.undo_stack.setIndex(steps)
    bench.show_dock("choices")


def take_run(person: Photographer) -> None:
    """Take a run in its midst and let it end."""
    document = person.document
    person.click("compress_button")
    person.wait(lambda: document.job and len(document.job.points.get("accuracy", ())) > 8)
    person.take("run")
    person.wait(lambda: document.results)


def take_results_and_export(person: Photographer) -> None:
    """Take the result, export it and take what was checked."""
    person.take("results")
    person.click("export_button")
    dialog = person.window.findChild(QDialog, "export_dialog")
    assert isinstance(dialog, QDialog)
    path = dialog.findChild(QLineEdit, "export_path")
    assert isinstance(path, QLineEdit)
    path.setText("fashion.onnx")
    person.click("export_start_button")
    summary = dialog.findChild(QWidget, "export_summary")
    assert isinstance(summary, QWidget)
    person.wait(summary.isVisible)
    person.take("export", dialog)
    dialog.reject()


def take_compare(person: Photographer) -> None:
    """Recover once more, from the original as a teacher, and compare both."""
    document, results = person.document, person.window.workbench.results
    document.set_recovery(FineTuning(epochs=4, distillation=0.5))
    document.compress()
    person.wait(lambda: len(document.results) == 2)
    results.list.selectAll()
    person.click("compare_button")
    dialog = person.window.findChild(QDialog, "compare_dialog")
    assert isinstance(dialog, QDialog)
    person.take("compare", dialog)
    dialog.reject()


def take_flips(person: Photographer) -> None:
    """Look at the images whose class the result changed."""
    document, bench = person.document, person.window.workbench
    bench.show_dock("results")
    person.click("flips_button")
    person.wait(lambda: document.flips.found is not None and document.idle)
    grid = bench.flips.grid
    person.wait(
        lambda: set(bench.flips.model.samples(grid.visible_rows())) <= set(document.flips.pictures)
    )
    bench.show_dock("results")
    person.take("flips")
    next(one for one in bench.toggles() if one.objectName() == "action_flips").trigger()
