"""The workbench: the layer table in the middle, and around it what is asked and done of layers."""

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QDockWidget, QMainWindow, QTabWidget, QWidget

from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.views.choices import ChoicesView
from featherweight.gui.views.details import DetailsView
from featherweight.gui.views.job import JobView
from featherweight.gui.views.layer_table import LayerTableView
from featherweight.gui.views.log_panel import LogPanel
from featherweight.gui.views.recovery import RecoveryView
from featherweight.gui.views.results import ResultsView

RIGHT = Qt.DockWidgetArea.RightDockWidgetArea
BOTTOM = Qt.DockWidgetArea.BottomDockWidgetArea
RIGHT_WIDTH, BOTTOM_HEIGHT = 400, 230


class Workbench(QMainWindow):
    """A page of the window with docks of its own; it loads pyqtgraph, so it is made late."""

    def __init__(
        self, document: Document, client: EngineClient, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent, Qt.WindowType.Widget)
        self.setObjectName("workbench")
        self.setDockNestingEnabled(True)
        self.setTabPosition(Qt.DockWidgetArea.AllDockWidgetAreas, QTabWidget.TabPosition.North)
        self.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
        self.table = LayerTableView(document)
        self.results = ResultsView(document)
        self.log = LogPanel(client)
        self.setCentralWidget(self.table)
        self._docks = [
            self._dock("choices", "&Choices", ChoicesView(document), RIGHT),
            self._dock("details", "&Details", DetailsView(document), RIGHT),
            self._dock("recovery", "Reco&very", RecoveryView(document), RIGHT),
            self._dock("job", "&Job", JobView(document), BOTTOM),
            self._dock("results", "&Results", self.results, BOTTOM),
            self._dock("log", "L&og", self.log, BOTTOM),
        ]
        self._arrange()
        self._arranged = self.saveState()

    def toggles(self) -> list[QAction]:
        """Return one action for each dock that shows and hides it."""
        return [dock.toggleViewAction() for dock in self._docks]

    def show_dock(self, name: str) -> None:
        """Bring a dock to the front."""
        dock = next(dock for dock in self._docks if dock.objectName() == name)
        dock.show()
        dock.raise_()

    def arrange(self, state: QByteArray) -> None:
        """Put the docks where they were, or where they belong for an empty state."""
        self.restoreState(state if not state.isEmpty() else self._arranged)

    def _dock(self, name: str, title: str, view: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title.replace("&", ""), self)
        dock.setObjectName(name)
        dock.setAccessibleName(title.replace("&", ""))
        dock.setWidget(view)
        action = dock.toggleViewAction()
        action.setText(title)
        action.setShortcut(QKeySequence(f"Ctrl+{len(self.findChildren(QDockWidget))}"))
        action.setToolTip(f"Show or hide {dock.windowTitle()} ({action.shortcut().toString()})")
        action.setStatusTip(f"Show or hide {dock.windowTitle()}")
        self.addDockWidget(area, dock)
        return dock

    def _arrange(self) -> None:
        choices, details, recovery, job, results, log = self._docks
        self.tabifyDockWidget(choices, details)
        self.tabifyDockWidget(choices, recovery)
        choices.raise_()
        self.tabifyDockWidget(job, results)
        self.tabifyDockWidget(job, log)
        log.hide()
        job.raise_()
        self.resizeDocks([choices, job], [RIGHT_WIDTH, RIGHT_WIDTH], Qt.Orientation.Horizontal)
        self.resizeDocks([job], [BOTTOM_HEIGHT], Qt.Orientation.Vertical)
