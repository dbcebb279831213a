"""The workbench: table, graph, atlas and flips in the middle; what is asked of layers around."""

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QAction, QKeySequence, QShowEvent
from PySide6.QtWidgets import QDockWidget, QMainWindow, QTabBar, QTabWidget, QWidget

from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.views.atlas import AtlasView
from featherweight.gui.views.budget import BudgetView
from featherweight.gui.views.choices import ChoicesView
from featherweight.gui.views.details import DetailsView
from featherweight.gui.views.flips import FlipsView
from featherweight.gui.views.graph import GraphView
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
        self._fresh = False
        self.setDockNestingEnabled(True)
        self.setTabPosition(Qt.DockWidgetArea.AllDockWidgetAreas, QTabWidget.TabPosition.North)
        self.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
        self.table = LayerTableView(document)
        self.graph = GraphView(document)
        self.atlas = AtlasView(document)
        self.flips = FlipsView(document)
        self.choices = ChoicesView(document)
        self.budget = BudgetView(document)
        self.results = ResultsView(document)
        self.log = LogPanel(client)
        self.setCentralWidget(self._build_pages())
        self.budget.atlas_asked.connect(lambda: self._pages.setCurrentWidget(self.atlas))
        self.results.flips_asked.connect(lambda: self._pages.setCurrentWidget(self.flips))
        self._docks = [
            self._dock("choices", "&Choices", self.choices),
            self._dock("budget", "&Budget", self.budget),
            self._dock("details", "D&etails", DetailsView(document)),
            self._dock("recovery", "Reco&very", RecoveryView(document)),
            self._dock("job", "&Job", JobView(document)),
            self._dock("results", "&Results", self.results),
            self._dock("log", "L&og", self.log),
        ]

    def toggles(self) -> list[QAction]:
        """Return the actions that show other pages, and one for each dock to show and hide it."""
        return [*self._page_actions, *(dock.toggleViewAction() for dock in self._docks)]

    def show_dock(self, name: str) -> None:
        """Bring a dock to the front."""
        dock = next(dock for dock in self._docks if dock.objectName() == name)
        dock.show()
        dock.raise_()

    def arrange(self, state: QByteArray) -> None:
        """Put the docks where they were, or where they belong for an empty state."""
        nowhere = Qt.DockWidgetArea.NoDockWidgetArea
        restored = not state.isEmpty() and self.restoreState(state)
        if not restored or any(self.dockWidgetArea(dock) == nowhere for dock in self._docks):
            self.restoreState(_arranged([dock.objectName() for dock in self._docks]))
            self._fresh = True

    def _build_pages(self) -> QTabWidget:
        pages = self._pages = QTabWidget()
        pages.setObjectName("pages")
        pages.setDocumentMode(True)
        pages.tabBar().setAccessibleName("Table, graph, atlas or flips")
        pages.addTab(self.table, "Table")
        pages.addTab(self.graph, "Graph")
        pages.addTab(self.atlas, "Atlas")
        pages.addTab(self.flips, "Flips")
        self._page_actions = [
            self._page_action("graph", "Ctrl+G", self.graph),
            self._page_action("atlas", "Ctrl+Shift+A", self.atlas),
            self._page_action("flips", "Ctrl+Shift+F", self.flips),
        ]
        return pages

    def _page_action(self, name: str, shortcut: str, view: QWidget) -> QAction:
        pages = self._pages
        action = QAction(f"&{name.capitalize()}", self)
        action.setObjectName(f"action_{name}")
        action.setCheckable(True)
        action.setShortcut(QKeySequence(shortcut))
        tip = f"Show the {name} in the place of the table"
        action.setToolTip(f"{tip} ({action.shortcut().toString()})")
        action.setStatusTip(tip)

        def turn(on: bool) -> None:
            if on:
                pages.setCurrentWidget(view)
            elif pages.currentWidget() is view:
                pages.setCurrentWidget(self.table)

        action.toggled.connect(turn)
        action.triggered.connect(lambda on: (view if on else self.table.tree).setFocus())
        pages.currentChanged.connect(lambda: action.setChecked(pages.currentWidget() is view))
        return action

    def _dock(self, name: str, title: str, view: QWidget) -> QDockWidget:
        dock = QDockWidget(title.replace("&", ""), self)
        dock.setObjectName(name)
        dock.setAccessibleName(title.replace("&", ""))
        dock.setWidget(view)
        dock.setTitleBarWidget(QWidget())
        action = dock.toggleViewAction()
        action.setText(title)
        action.setShortcut(QKeySequence(f"Ctrl+{len(self.findChildren(QDockWidget))}"))
        action.setToolTip(f"Show or hide {dock.windowTitle()} ({action.shortcut().toString()})")
        action.setStatusTip(f"Show or hide {dock.windowTitle()}")
        return dock

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        for bar in self.findChildren(QTabBar):
            if not bar.accessibleName():
                bar.setAccessibleName("Panels")
        if self._fresh:
            self._fresh = False
            right, bottom = self._docks[0], self._docks[4]
            self.resizeDocks([right], [RIGHT_WIDTH], Qt.Orientation.Horizontal)
            self.resizeDocks([bottom], [BOTTOM_HEIGHT], Qt.Orientation.Vertical)


def _arranged(names: list[str]) -> QByteArray:
    """Return the arrangement to begin with, found on an empty window.

    Docks that were tabbed by hand leave stray tab bars in the middle of their window; docks that
    were put in place by a state do not.
    """
    window = QMainWindow()
    window.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
    docks = [QDockWidget(window) for _ in names]
    for name, dock in zip(names, docks, strict=True):
        dock.setObjectName(name)
    choices, budget, details, recovery, job, results, log = docks
    for area, first, others in (
        (RIGHT, choices, (budget, details, recovery)),
        (BOTTOM, job, (results, log)),
    ):
        window.addDockWidget(area, first)
        for dock in others:
            window.tabifyDockWidget(first, dock)
        first.raise_()
    log.hide()
    return window.saveState()
