"""Every action of the window: its words, its shortcut, its tip and its icon."""

from msgspec import Struct
from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from featherweight.gui import icons


class Words(Struct, frozen=True):
    """What an action is called in menus, how the keyboard reaches it, and what it does."""

    text: str
    shortcut: str
    tip: str
    icon: str = ""
    checkable: bool = False


WORDS = {
    "open": Words("&Open…", "Ctrl+O", "Open a network, a project or a recipe", "open"),
    "open_library": Words(
        "Open from li&brary…", "Ctrl+B", "Open a network of an installed library by its name"
    ),
    "open_demo": Words("Open the &demo", "Ctrl+D", "Open the network that comes along", "demo"),
    "choose_data": Words("Choose da&ta…", "Ctrl+T", "Choose what accuracy is measured on", "data"),
    "load_recipe": Words("&Load recipe…", "Ctrl+Shift+O", "Take the choices of a recipe file"),
    "save_recipe": Words(
        "Save &recipe…", "Ctrl+Shift+R", "Write the choices for the command line", "recipe"
    ),
    "save_as": Words(
        "Save project &as…", "Ctrl+Shift+S", "Keep choices and results under another name", "save"
    ),
    "export": Words("&Export…", "Ctrl+E", "Write a result as ONNX, .pt2 or archive", "export"),
    "start_screen": Words("&Start screen", "Ctrl+Shift+H", "Show recent files and the demo"),
    "quit": Words("&Quit", "Ctrl+Q", "Close the window; everything is kept"),
    "undo": Words("&Undo", "Ctrl+Z", "Take the last choice back", "undo"),
    "redo": Words("&Redo", "Ctrl+Shift+Z", "Make the choice again", "redo"),
    "clear_selected": Words(
        "&Clear selected layers", "Ctrl+Backspace", "Take all choices from the selected layers"
    ),
    "clear_all": Words(
        "Clear &all layers", "Ctrl+Shift+Backspace", "Take all choices from every layer"
    ),
    "compress": Words("&Compress", "Ctrl+Return", "Run the recipe on the network", "run"),
    "cancel": Words(
        "&Pause or stop", "Ctrl+.", "Stop the job; a run or a sweep can be resumed", "cancel"
    ),
    "resume": Words(
        "&Resume", "Ctrl+Shift+Return", "Go on with the run that was stopped", "resume"
    ),
    "measure_latency": Words(
        "&Measure latency", "Ctrl+L", "Time every layer on this machine", "stopwatch"
    ),
    "estimate_sensitivity": Words(
        "Estimate sensiti&vity", "Ctrl+Shift+L", "Estimate what 4 bits in a layer do to the loss"
    ),
    "cuda": Words(
        "&Train on a graphics card",
        "Ctrl+Alt+G",
        "Let recoveries run with CUDA where there is one, else on the processor",
        "",
        True,
    ),
    "restart_engine": Words(
        "Restart the en&gine", "Ctrl+Shift+E", "End the engine process and start another"
    ),
    "scheme_system": Words("As the &system", "Ctrl+Alt+S", "Follow the system", "", True),
    "scheme_light": Words("&Light", "Ctrl+Alt+L", "Dark on light", "sun", True),
    "scheme_dark": Words("&Dark", "Ctrl+Alt+D", "Light on dark", "moon", True),
    "method_help": Words("Help on &methods", "F1", "Say what each method does and when to use it"),
    "shortcuts": Words("&Keyboard shortcuts", "Ctrl+F1", "List what the keyboard does"),
    "about": Words("&About Featherweight", "Shift+F1", "Say which version this is"),
}
MENUS = {
    "&File": (
        *(
            "open",
            "open_library",
            "open_demo",
            "choose_data",
            "",
            "load_recipe",
            "save_recipe",
            "save_as",
            "",
        ),
        *("export", "", "start_screen", "quit"),
    ),
    "&Edit": ("undo", "redo", "", "clear_selected", "clear_all"),
    "&View": ("scheme_system", "scheme_light", "scheme_dark", ""),
    "&Run": (
        *("compress", "resume", "cancel", ""),
        *("measure_latency", "estimate_sensitivity", "", "cuda", "restart_engine"),
    ),
    "&Help": ("method_help", "shortcuts", "about"),
}


class Actions(QObject):
    """All actions by name; they belong to the window and keep their shortcuts in every view."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._made = {name: self._make(name, words) for name, words in WORDS.items()}
        schemes = QActionGroup(self)
        for name in ("scheme_system", "scheme_light", "scheme_dark"):
            schemes.addAction(self._made[name])

    def __getitem__(self, name: str) -> QAction:
        return self._made[name]

    def all(self) -> tuple[QAction, ...]:
        """Return every action in the order of the menus."""
        return tuple(self._made.values())

    def repaint(self) -> None:
        """Draw the icons in the colours of the theme."""
        for name, words in WORDS.items():
            if words.icon:
                self._made[name].setIcon(icons.icon(words.icon))

    def _make(self, name: str, words: Words) -> QAction:
        action = QAction(words.text, self)
        action.setObjectName(f"action_{name}")
        action.setShortcut(QKeySequence(words.shortcut))
        action.setToolTip(f"{words.tip} ({action.shortcut().toString()})")
        action.setStatusTip(words.tip)
        action.setCheckable(words.checkable)
        return action
