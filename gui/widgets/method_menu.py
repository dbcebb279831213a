"""A button whose menu ticks methods."""

from collections.abc import Mapping

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QMenu, QPushButton, QWidget


class MethodMenu(QPushButton):
    """Ticks any of some methods, given as titles by name; none ticked stands for every one."""

    chosen = Signal(object)  # names, empty for all

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMenu(QMenu(self))

    def show_methods(self, titles: Mapping[str, str], allowed: tuple[str, ...]) -> None:
        """Show other methods, and which of them are allowed."""
        ticked = [name for name in titles if not allowed or name in allowed]
        every = len(ticked) == len(titles)
        self.setText("All methods" if every else f"{len(ticked)} of {len(titles)} methods")
        menu = self.menu()
        menu.clear()
        for name, title in titles.items():
            action = menu.addAction(title)
            action.setCheckable(True)
            action.setChecked(name in ticked)
            left = tuple(other for other in titles if (other in ticked) != (other == name))
            whole = () if len(left) == len(titles) else left
            action.triggered.connect(lambda _=False, names=whole: self.chosen.emit(names))
