"""A chart under its title, with the newest value beside the title."""

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from featherweight.gui.widgets.text import label


class ChartCard(QWidget):
    """Frames any widget with a title and a value."""

    def __init__(self, title: str, chart: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.chart = chart
        self.title = label("", "muted")
        self.value = label("", "figure")
        self.name(title)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.title)
        top.addStretch(1)
        top.addWidget(self.value)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(chart, 1)

    def name(self, title: str) -> None:
        """Give another title."""
        self.title.setText(title)
        self.value.setAccessibleName(title)
