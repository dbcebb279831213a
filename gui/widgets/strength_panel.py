"""What a strength does: the curve of its error, a warning where nothing is gained, suggestions."""

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from featherweight.engine.options import Option
from featherweight.gui import wording
from featherweight.gui.widgets.strength_chart import Limit, StrengthChart
from featherweight.gui.widgets.text import label

# The columns of an option's title and box, between which its slider lies.
TITLES, BOXES = 116, 100


class Strength(NamedTuple):
    """All that is shown of one strength. `present` is its value and error, None for unknown."""

    option: Option
    title: str
    points: Sequence[tuple[float, float]] = ()
    present: tuple[float | None, float | None] = (None, None)
    limits: Sequence[Limit] = ()
    warning: str = ""
    suggestions: Sequence[tuple[str, float]] = ()


class StrengthPanel(QWidget):
    """Stands below the options of a slot; a suggestion that is clicked is told with its value."""

    suggested = Signal(float)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self._suggestions: tuple[tuple[str, float], ...] = ()
        self._buttons: list[QPushButton] = []
        self.title = label("", "muted")
        self.error = label("", "section")
        self.error.setObjectName(f"{name}_error")
        self.chart = StrengthChart()
        self.chart.setObjectName(f"{name}_curve")
        self.chart.setAccessibleName("Error against strength")
        self.warning = label("", "warning", wrap=True)
        self.warning.setObjectName(f"{name}_warning")
        said = QVBoxLayout()
        said.setSpacing(0)
        said.addWidget(self.title)
        said.addWidget(self.error)
        said.addStretch(1)
        grid = QGridLayout()
        grid.setHorizontalSpacing(0)
        grid.setColumnMinimumWidth(0, TITLES)
        grid.setColumnStretch(1, 1)
        grid.setColumnMinimumWidth(2, BOXES)
        grid.addLayout(said, 0, 0)
        grid.addWidget(self.chart, 0, 1)
        self.links = QVBoxLayout()
        self.links.setSpacing(0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(grid)
        layout.addWidget(self.warning)
        layout.addLayout(self.links)

    def show_strength(self, shown: Strength) -> None:
        """Show another strength, or more of the same."""
        self.chart.show_curve(shown.option, shown.points, shown.present, shown.limits)
        error = shown.present[1]
        self.title.setText(shown.title)
        self.error.setText(wording.NONE if error is None else wording.error(error))
        self.warning.setText(shown.warning)
        self.warning.setVisible(bool(shown.warning))
        self._suggest(tuple(shown.suggestions))

    def stops(self) -> list[QWidget]:
        """Return what the keyboard stops at, in order."""
        return list(self._buttons)

    def _suggest(self, suggestions: tuple[tuple[str, float], ...]) -> None:
        if suggestions == self._suggestions:
            return
        self._suggestions = suggestions
        while (item := self.links.takeAt(0)) is not None:
            piece = item.widget()
            if piece is not None:
                piece.hide()
                piece.deleteLater()
        self._buttons.clear()
        for place, (text, value) in enumerate(suggestions):
            link = QPushButton(text)
            link.setObjectName(f"{self._name}_suggestion_{place}")
            link.setProperty("role", "link")
            link.setToolTip(f"Set it to {value:g}, which the weights of the layer suggest")
            link.clicked.connect(lambda _=False, chosen=value: self.suggested.emit(chosen))
            self.links.addWidget(link, 0, Qt.AlignmentFlag.AlignLeft)
            self._buttons.append(link)
