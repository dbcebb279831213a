"""The window: the start screen first, then the workbench, with notices above whatever is shown."""

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QTimer
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QPaintEvent
from PySide6.QtWidgets import QApplication, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from featherweight.engine.events import Source, is_library_name
from featherweight.gui import icons, theme
from featherweight.gui.actions import MENUS, Actions
from featherweight.gui.dialogs.stop import stop_question
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.settings import SCHEMES, Settings
from featherweight.gui.views.drop_hint import DropHint
from featherweight.gui.views.header import Header
from featherweight.gui.views.notice_bar import NoticeBar
from featherweight.gui.views.start_screen import StartScreen
from featherweight.gui.widgets.text import label
from featherweight.gui.window_actions import WindowActions
from featherweight.resources.demo.sources import demo_source

if TYPE_CHECKING:
    from featherweight.gui.workbench import Workbench

WIDTH, HEIGHT = 1280, 800
ENGINE_STATES = {
    "stopped": "The engine is not running",
    "starting": "The engine is starting…",
    "ready": "Engine ready",
}


class MainWindow(QMainWindow):
    """One document with its engine."""

    def __init__(self, document: Document, client: EngineClient, settings: Settings) -> None:
        super().__init__()
        self.document = document
        self.commands = Actions(self)
        self._client = client
        self._settings = settings
        self._workbench: Workbench | None = None
        self._painted = False
        self._shown_job = 0
        self._wiring = WindowActions(self.commands, document, client, settings, self)
        self._build()
        self._build_menus()
        self._connect()
        self.resize(WIDTH, HEIGHT)
        self.restoreGeometry(settings.bytes_of("geometry"))

    @property
    def workbench(self) -> "Workbench":
        """The page with the layer table; made when it is first asked for."""
        if self._workbench is None:
            from featherweight.gui.workbench import Workbench

            self._workbench = Workbench(self.document, self._client)
            self._workbench.choices.help_asked.connect(self._wiring.explain)
            self._pages.addWidget(self._workbench)
            self._workbench.arrange(self._settings.bytes_of("workbench"))
            view = next(menu for menu in self._menus if menu.title() == "&View")
            view.addActions(self._workbench.toggles())
        return self._workbench

    def open_path(self, path: Path) -> None:
        """Open a file, whatever it is."""
        self._wiring.open_path(path)

    def show_notice(self, sentence: str, hint: str = "", details: str = "") -> None:
        """Show one sentence until it is dismissed."""
        self.notices.show_notice(sentence, hint, details)
        if self._workbench is not None:
            self._workbench.log.append(f"{sentence} {hint}\n{details}".rstrip() + "\n")

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            QTimer.singleShot(0, self, lambda: self.workbench)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self.commands.repaint()

    def quit(self) -> None:
        """Close the window, after a question where that would stop a job."""
        if not self._asked_to_stop():
            self.close()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        if event.spontaneous() and self._asked_to_stop():
            event.ignore()
            return
        self.document.close()
        self._settings.keep_bytes("geometry", self.saveGeometry())
        if self._workbench is not None:
            self._settings.keep_bytes("workbench", self._workbench.saveState())
        self._settings.flush()
        self._client.close()
        super().closeEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()
            self._drop_hint.cover()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:  # noqa: N802
        self._drop_hint.hide()
        super().dragLeaveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        self._drop_hint.hide()
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        event.acceptProposedAction()
        self.open_path(paths[0])

    def _build(self) -> None:
        self.setObjectName("main_window")
        self.setWindowTitle("Featherweight")
        self.setWindowIcon(icons.application_icon())
        self.setAcceptDrops(True)
        commands = self.commands
        self.notices = NoticeBar()
        self.start_screen = StartScreen(self._settings, commands["open"], commands["open_demo"])
        self.header = Header(self.document, commands)
        self._pages = QStackedWidget()
        self._pages.addWidget(self.start_screen)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for piece in (self.header, self.notices, self._pages):
            layout.addWidget(piece)
        self.header.hide()
        self.setCentralWidget(page)
        self._drop_hint = DropHint(self)
        self._state = label("", "muted")
        self._state.setObjectName("engine_state")
        self._state.setContentsMargins(0, 0, 12, 0)
        self.statusBar().setSizeGripEnabled(False)
        self.statusBar().addPermanentWidget(self._state)
        commands.repaint()
        commands[f"scheme_{self._settings.scheme}"].setChecked(True)
        commands["cuda"].setChecked(self._settings.cuda)

    def _build_menus(self) -> None:
        self._menus = [self.menuBar().addMenu(title) for title in MENUS]
        for menu, names in zip(self._menus, MENUS.values(), strict=True):
            menu.setToolTipsVisible(True)
            for name in names:
                if name:
                    menu.addAction(self.commands[name])
                else:
                    menu.addSeparator()

    def _connect(self) -> None:
        document = self.document
        document.noticed.connect(self.show_notice)
        document.notice_over.connect(self.notices.settle)
        document.open_failed.connect(self._on_open_failed)
        document.network_missing.connect(self._on_network_missing)
        document.network_changed.connect(self._on_network_changed)
        document.path_changed.connect(self._on_path_changed)
        document.busy_changed.connect(self._on_state_changed)
        self._client.state_changed.connect(self._on_state_changed)
        document.job_changed.connect(self._on_job_changed)
        document.results_changed.connect(self._on_results_changed)
        self.start_screen.chosen.connect(self.open_path)
        self.commands["start_screen"].triggered.connect(self._show_start_screen)
        for scheme in SCHEMES:
            self.commands[f"scheme_{scheme}"].triggered.connect(
                lambda _=False, scheme=scheme: self._choose_scheme(scheme)
            )
        self.commands["cuda"].toggled.connect(self._choose_device)
        self._on_state_changed()

    def _on_network_changed(self) -> None:
        document = self.document
        self.notices.clear()
        self._pages.setCurrentWidget(self.workbench)
        self.header.show()
        self.setWindowTitle(f"{document.name} – Featherweight")
        if document.source is not None and document.source != demo_source():
            self._settings.add_recent(document.path or Path(document.source.path))

    def _on_path_changed(self) -> None:
        document = self.document
        if document.source is None or document.path is None or document.unsaved:
            return
        self.setWindowTitle(f"{document.name} – Featherweight")
        if document.path.exists():
            self._settings.add_recent(document.path, instead_of=Path(document.source.path))

    def _on_open_failed(self, source: Source, sentence: str, hint: str, details: str) -> None:
        self.show_notice(sentence, hint, details)
        known = Path(source.path).is_file() or is_library_name(source.path)
        if known and self._client.running:
            reason = f"{sentence} {hint}".strip()
            self.notices.offer("Describe it…", lambda: self._wiring.describe(source, reason))

    def _asked_to_stop(self) -> bool:
        job = self.document.job
        if job is None or not job.active:
            return False
        box = stop_question(job, self)
        box.accepted.connect(self.close)
        box.open()
        return True

    def _on_network_missing(self, project: Path, network: str) -> None:
        self.show_notice(f"The network of {project.name} is not where it was: {network}.")
        self.notices.offer("Find it…", lambda: self._wiring.find_network(project))

    def _on_state_changed(self) -> None:
        busy = self.document.busy
        self._state.setText(f"{busy}…" if busy else ENGINE_STATES[self._client.state])

    def _on_results_changed(self) -> None:
        if self.document.results:
            self.workbench.show_dock("results")

    def _on_job_changed(self) -> None:
        job = self.document.job
        if job is not None and job.active and job.request != self._shown_job:
            self._shown_job = job.request
            self.notices.clear()
            self.workbench.show_dock("job")

    def _show_start_screen(self) -> None:
        self.start_screen.refresh()
        self._pages.setCurrentWidget(self.start_screen)
        self.header.hide()

    def _choose_device(self, cuda: bool) -> None:
        self._settings.cuda = cuda
        self._client.use(cuda)
        job = self.document.job
        if job is not None and job.active:
            self.show_notice("Where recoveries train changes once the engine is restarted.")
        else:
            self._client.restart()

    def _choose_scheme(self, scheme: theme.Scheme) -> None:
        self._settings.scheme = scheme
        app = QApplication.instance()
        if isinstance(app, QApplication):
            theme.apply(app, scheme)
        self.commands.repaint()
