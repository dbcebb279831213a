"""What each action does, and when it can be done."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QFileDialog, QWidget

import featherweight
from featherweight.engine.events import Source, TrustNeeded, is_library_name
from featherweight.gui.actions import Actions
from featherweight.gui.dialogs.about import AboutDialog, ShortcutsDialog
from featherweight.gui.dialogs.method_help import MethodHelpDialog
from featherweight.gui.dialogs.open_library import OpenLibraryDialog
from featherweight.gui.dialogs.open_network import OpenNetworkDialog
from featherweight.gui.dialogs.task import TaskDialog
from featherweight.gui.dialogs.trust import TrustDialog
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.project_file import SUFFIX
from featherweight.gui.settings import Settings
from featherweight.gui.widgets.slot_editor import SlotEditor

if TYPE_CHECKING:
    from featherweight.gui.main_window import MainWindow

RECIPES = (".yaml", ".yml", ".json")
DATA = (".npz", ".gz")
OPENED = (
    "Networks and projects (*.pt *.pth *.bin *.ckpt *.pt2 *.onnx *.safetensors *.fwz"
    " *.featherweight);;"
    "Recipes (*.yaml *.yml *.json);;All files (*)"
)
NO_CHOICE = "Choose a method for at least one layer first"


class WindowActions(QObject):
    """Connects the actions with the document; what asks something opens a dialog on the window."""

    def __init__(
        self,
        actions: Actions,
        document: Document,
        client: EngineClient,
        settings: Settings,
        window: "MainWindow",
    ) -> None:
        super().__init__(window)
        self._actions = actions
        self._document = document
        self._client = client
        self._settings = settings
        self._window = window
        self._connect()
        for changed in (
            document.network_changed,
            document.task_changed,
            document.recipe_changed,
            document.selection_changed,
            document.job_changed,
            document.results_changed,
            document.busy_changed,
        ):
            changed.connect(self.refresh)
        document.trust_needed.connect(self._ask_trust)
        self.refresh()

    def _connect(self) -> None:
        document = self._document
        for name, act in {
            "open": self.choose_file,
            "open_library": self.choose_library,
            "open_demo": document.open_demo,
            "choose_data": self.choose_data,
            "load_recipe": self._load_recipe,
            "save_recipe": self._save_recipe,
            "save_as": self._save_as,
            "export": self.export_latest,
            "undo": document.undo_stack.undo,
            "redo": document.undo_stack.redo,
            "clear_selected": lambda: document.clear_choices(document.selection),
            "clear_all": document.clear_choices,
            "compress": document.compress,
            "cancel": document.cancel,
            "resume": document.resume,
            "measure_latency": document.measure_latency,
            "estimate_sensitivity": document.estimate_sensitivity,
            "restart_engine": self._client.restart,
            "quit": self._window.quit,
            "method_help": self.explain,
            "shortcuts": lambda: ShortcutsDialog(self._actions.all(), self._window).open(),
            "about": lambda: AboutDialog(featherweight.__version__, self._window).open(),
        }.items():
            self._actions[name].triggered.connect(lambda _=False, act=act: act())
        document.undo_stack.undoTextChanged.connect(self.refresh)
        document.undo_stack.indexChanged.connect(self.refresh)

    def refresh(self) -> None:
        """Enable what can be done now, and say why Compress cannot."""
        document, stack = self._document, self._document.undo_stack
        opened, job = document.network is not None, document.job
        chosen = document.recipe.layers
        for name, possible in {
            "choose_data": opened and document.idle,
            "load_recipe": opened,
            "save_recipe": opened,
            "save_as": document.idle,
            "export": document.idle,
            "start_screen": opened,
            "undo": stack.canUndo(),
            "redo": stack.canRedo(),
            "clear_selected": any(name in chosen for name in document.selection),
            "clear_all": bool(chosen),
            "compress": document.can_compress,
            "cancel": job is not None and job.state == "running",
            "resume": document.can_resume,
            "measure_latency": document.idle,
            "estimate_sensitivity": document.can_estimate,
        }.items():
            self._actions[name].setEnabled(possible)
        self._actions["undo"].setText(f"&Undo {stack.undoText()}".rstrip())
        self._actions["redo"].setText(f"&Redo {stack.redoText()}".rstrip())
        compress = self._actions["compress"]
        blocked = document.idle and not chosen and document.recipe.recovery is None
        compress.setToolTip(
            NO_CHOICE if blocked else f"{compress.statusTip()} ({compress.shortcut().toString()})"
        )

    def open_path(self, path: Path) -> None:
        """Open whatever a file is: a project, a recipe or data for the open network, a network."""
        if path.suffix == SUFFIX:
            self._document.open_project(path)
        elif path.suffix in RECIPES and self._document.network is not None:
            self._document.load_recipe(path)
        elif self._document.idle and (path.suffix in DATA or path.is_dir()):
            self.choose_data(path)
        elif is_library_name(str(path)):
            self.choose_library(str(path))
        elif path.suffix == ".safetensors":
            self.describe(Source(path=str(path)), "It holds weights and not the network itself.")
        else:
            self._document.open(Source(path=str(path)))

    def describe(self, source: Source, reason: str) -> None:
        """Ask what a file of weights does not tell, then open it."""
        if is_library_name(source.path):
            self.choose_library(source.path, reason)
            return
        dialog = OpenNetworkDialog(source, reason, self._window)
        dialog.accepted.connect(lambda: self._document.open(dialog.source))
        dialog.open()

    def choose_library(self, first: str = "", reason: str = "") -> None:
        """Ask for a network of a library, `first` unless another is chosen, and open it."""
        known = self._settings.libraries
        named = [Source(path=first)] if first and first not in {one.path for one in known} else []
        ordered = sorted((*named, *known), key=lambda source: source.path != first)
        dialog = OpenLibraryDialog(tuple(ordered), reason, self._window)
        dialog.accepted.connect(lambda: self._open_library(dialog.source))
        dialog.open()

    def _open_library(self, source: Source) -> None:
        self._settings.add_library(source)
        self._document.open(source)

    def choose_file(self) -> None:
        """Ask for a file and open it."""
        self._choose("Open", OPENED, self.open_path)

    def find_network(self, project: Path) -> None:
        """Ask where the network of a project lies now, and open the project with it."""
        self._choose(
            "Find the network", OPENED, lambda path: self._document.open_project(project, path)
        )

    def choose_data(self, path: Path | None = None) -> None:
        """Ask for the task's data."""
        task = self._document.task
        known = task.source if task and task.source.data else None
        dialog = TaskDialog(known, self._window)
        if path is not None:
            dialog.offer(path)
        dialog.accepted.connect(lambda: self._document.set_task(dialog.task))
        dialog.open()

    def explain(self, method: str = "") -> None:
        """Show the page of a method, else of that whose controls have the keyboard."""
        editor: QWidget | None = self._window.focusWidget()
        while editor is not None and not isinstance(editor, SlotEditor):
            editor = editor.parentWidget()
        method = method or (editor.method if isinstance(editor, SlotEditor) else "")
        dialog = self._window.findChild(MethodHelpDialog)
        dialog = dialog or MethodHelpDialog(self._document, self._window)
        dialog.show_method(method)
        dialog.show()
        dialog.raise_()
        dialog.activateWindow()

    def export_latest(self) -> None:
        """Ask how to export the newest result, or the network itself where there is none."""
        from featherweight.gui.dialogs.export import ExportDialog

        results = self._document.results
        archive = results[-1].archive if results else ""
        ExportDialog(self._document, archive, self._window).open()

    def _ask_trust(self, needed: TrustNeeded) -> None:
        dialog = TrustDialog(needed, self._window)
        dialog.accepted.connect(lambda: self._document.allow(needed))
        dialog.rejected.connect(lambda: self._document.refuse(needed))
        dialog.open()

    def _load_recipe(self) -> None:
        self._choose("Load recipe", "Recipes (*.yaml *.yml *.json)", self._document.load_recipe)

    def _save_recipe(self) -> None:
        self._choose("Save recipe", "Recipes (*.yaml)", self._document.save_recipe, ".yaml")

    def _save_as(self) -> None:
        kinds = f"Projects (*{SUFFIX})"
        self._choose("Save project as", kinds, self._document.save_as, SUFFIX)

    def _choose(
        self, title: str, kinds: str, act: Callable[[Path], None], suffix: str = ""
    ) -> None:
        dialog = QFileDialog(self._window, title, "", kinds)
        if suffix:
            dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
            dialog.setDefaultSuffix(suffix.lstrip("."))
            dialog.selectFile(Path(self._document.name).stem)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda path: act(Path(path)))
        dialog.open()
