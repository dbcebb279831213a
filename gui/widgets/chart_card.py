"""A chart under its title, with the newest value, how that is known, and a legend."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from featherweight.engine.figures import Basis
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.legend import Legend
from featherweight.gui.widgets.line_chart import LineChart
from featherweight.gui.widgets.text import label

NOTHING = "No figures of this"
FEWEST_TITLES = 2
ARROW = 34


class ChartCard(QWidget):
    """Frames a chart; its title is a list, by which another card can be put in its place."""

    asked = Signal(int)  # the place in the list of what was chosen instead

    def __init__(
        self, title: str, chart: LineChart, basis: Basis | None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.chart = chart
        self.title = QComboBox()
        self.title.setProperty("role", "title")
        self.title.setAccessibleName(f"Chart in the place of {title}")
        self.title.setToolTip("Choose what this chart shows")
        self.title.activated.connect(self.asked)
        self.value = label("", "figure")
        self.value.setAccessibleName(title)
        self.badge = BasisBadge(basis or "estimated")
        self.legend = Legend()
        self.note = label(NOTHING, "muted")
        self.note.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.title)
        top.addStretch(1)
        top.addWidget(self.value)
        top.addWidget(self.badge)
        ground = QGridLayout()
        ground.addWidget(chart, 0, 0)
        ground.addWidget(self.note, 0, 0, Qt.AlignmentFlag.AlignCenter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        # What is shown before it has a place would be a window for a moment, and take the keyboard.
        self.badge.setVisible(basis is not None)
        layout.addLayout(ground, 1)
        layout.addWidget(self.legend)
        self.clear()

    def offer(self, titles: Sequence[str], place: int) -> None:
        """List what cards there are; this one is at `place`."""
        self.title.clear()
        self.title.addItems(list(titles))
        self.title.setCurrentIndex(place)
        self._fit()

    def rename(self, place: int, title: str) -> None:
        """Give the card at a place of the list another title."""
        self.title.setItemText(place, title)
        if place == self.title.currentIndex():
            self.value.setAccessibleName(title)
            self._fit()

    def _fit(self) -> None:
        """Let the arrow of the list follow the title at once."""
        text = self.title.fontMetrics().horizontalAdvance(self.title.currentText())
        self.title.setFixedWidth(text + ARROW)

    def show_newest(self, value: str) -> None:
        """Say what the newest point is, and which lines there are where there are several."""
        if value:
            self.value.setText(value)
        self.note.hide()
        lines = self.chart.lines
        self.legend.show_lines(lines)
        self.legend.setVisible(len(lines) >= FEWEST_TITLES)

    def clear(self) -> None:
        """Forget all points."""
        self.chart.clear()
        self.value.setText("")
        self.note.show()
        self.legend.hide()
