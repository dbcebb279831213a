"""A chart under its title, with the newest value beside the title."""

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from featherweight.gui.widgets.text import label


class ChartCard(QWidget):
    """Frames any widget with a title and a value."""

    def __init__(self, title: str, chart: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.chart = chart
        self.value = label("", "figure")
        self.value.setAccessibleName(title)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(label(title, "muted"))
        top.addStretch(1)
        top.addWidget(self.value)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(chart, 1)
