"""Curves under the choice of what they show and over what, or why there are none."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from featherweight.gui.widgets.damage_chart import DamageChart, Dot
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.legend import Legend
from featherweight.gui.widgets.text import ElidedLabel

NO_CURVES = ("No layer selected", "Select layers in the map to compare their curves.")
NO_READINGS = ("Nothing to draw", "Of the selected layers nothing was read that this shows.")


class CurvesPanel(QWidget):
    """`changed` tells that another value, or another axis, is wanted."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setProperty("role", "page")
        self._axes = ("", "")
        self.value = QComboBox()
        self.value.setObjectName("atlas_value")
        self.value.setAccessibleName("What the curves show")
        self.over = QComboBox()
        self.over.setObjectName("atlas_over")
        self.over.setAccessibleName("Over what the curves go")
        self.over.addItem("over strength", False)
        self.over.addItem("over stored size", True)
        self.title = ElidedLabel()
        self.title.setProperty("role", "section")
        self.chart = DamageChart()
        self.chart.setObjectName("damage_chart")
        self.legend = Legend()
        self.empty = EmptyState("chart", *NO_CURVES)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.chart)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.value)
        top.addWidget(self.over)
        top.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 0, 12, 6)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.title)
        column.addWidget(self.stack, 1)
        column.addWidget(self.legend)
        self.value.activated.connect(lambda: self.changed.emit())
        self.over.activated.connect(lambda: self.changed.emit())

    def show_values(self, values: Mapping[str, str]) -> None:
        """Offer values by name, with their titles; the one that was chosen stays."""
        titles = list(values.values())
        if titles == [self.value.itemText(at) for at in range(self.value.count())]:
            return
        kept = self.value.currentData()
        self.value.clear()
        for name, title in values.items():
            self.value.addItem(title, name)
        self.value.setCurrentIndex(max(self.value.findData(kept), 0))

    def show_curves(self, title: str, curves: Mapping[str, Sequence[Dot]], bottom: str) -> None:
        """Show curves by their titles, `bottom` names the axis below; of none say why."""
        self.title.setText(title)
        self.title.setVisible(bool(title) and bool(curves))
        self.legend.setVisible(bool(curves))
        self.stack.setCurrentWidget(self.chart if curves else self.empty)
        self.empty.explain(*(NO_READINGS if title else NO_CURVES))
        self.legend.show_titles(*curves)
        name = self.value.currentText()
        self.chart.setAccessibleName(f"{name} {self.over.currentText()}: {', '.join(curves)}")
        if self._axes != (bottom, name):
            self._axes = bottom, name
            self.chart.label_axes(bottom, name)
        self.chart.show_curves(list(curves.values()), log=self.value.currentData() == "damage")
