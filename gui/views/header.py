"""The line above the workbench: which network, what the recipe would make of it, and the doing."""

from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.results import Cost
from featherweight.gui import wording
from featherweight.gui.actions import Actions
from featherweight.gui.document import Document
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.text import ElidedLabel, label

SHORTEST_TASK = 130
NARROWEST, ROOMY = 940, 1200
LINK_PADDING = 4
COSTS = ("parameters", "macs", "bits")


class FigureCell(QWidget):
    """A figure before and after: its title and basis above, the numbers below."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = wording.title_of(name)
        self._numbers = label("", "figure")
        self._numbers.setObjectName(f"header_{name}")
        self._moved = label("", "good")
        self._badge = BasisBadge()
        above, below = QHBoxLayout(), QHBoxLayout()
        above.setSpacing(6)
        above.addWidget(label(self._title, "muted"))
        above.addWidget(self._badge)
        above.addStretch()
        below.setSpacing(8)
        below.addWidget(self._numbers)
        below.addWidget(self._moved)
        below.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(above)
        layout.addLayout(below)

    def show_change(self, wanted: bool) -> None:
        """Show or leave out by how much the figure changes."""
        self._moved.setVisible(wanted)

    def show_figure(self, before: str, after: str, moved: str) -> None:
        """Show the numbers; one alone where they are the same."""
        same = before == after
        self._numbers.setText(before if same else f"{before} → {after}")
        self._moved.setText("" if same else moved)
        self.setAccessibleName(f"{self._title}: {self._numbers.text()} {self._moved.text()}")


class Header(QFrame):
    """The document's name and task, its predicted figures, and the buttons that matter."""

    def __init__(
        self,
        document: Document,
        actions: Actions,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("header")
        self._document = document
        self._cells = {name: FigureCell(name) for name in COSTS}
        self._name = ElidedLabel()
        self._name.setProperty("role", "heading")
        self._name.setObjectName("document_name")
        self._name.setContentsMargins(LINK_PADDING, 0, 0, 0)
        self._task = _button(actions["choose_data"], "header_task", "link")
        self._task.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._task.setMinimumWidth(SHORTEST_TASK)
        self._build(actions)
        document.network_changed.connect(self._on_changed)
        document.path_changed.connect(self._on_changed)
        document.task_changed.connect(self._on_changed)
        document.busy_changed.connect(self._on_changed)
        document.prediction_changed.connect(self._on_prediction)
        self._on_changed()
        self._on_prediction()

    def _build(self, actions: Actions) -> None:
        names = QVBoxLayout()
        names.setSpacing(0)
        names.addWidget(self._name)
        names.addWidget(self._task)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(16, 8, 16, 8)
        layout.setSpacing(24)
        layout.addLayout(names, 1)
        for cell in self._cells.values():
            layout.addWidget(cell)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        for name in ("undo", "redo"):
            step = QToolButton(autoRaise=True)
            step.setDefaultAction(actions[name])
            step.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
            step.setAccessibleName(actions[name].statusTip())
            step.setObjectName(f"{name}_button")
            buttons.addWidget(step)
        buttons.addSpacing(4)
        buttons.addWidget(_button(actions["export"], "export_button", ""))
        buttons.addWidget(_button(actions["compress"], "compress_button", "primary"))
        layout.addLayout(buttons)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(NARROWEST, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        for cell in self._cells.values():
            cell.show_change(self.width() >= ROOMY)
        super().resizeEvent(event)

    def _on_changed(self) -> None:
        document = self._document
        self._name.setText(document.name)
        self._task.setText(document.busy or _task_words(document))
        self._task.setToolTip(_task_tip(document))

    def _on_prediction(self) -> None:
        prediction = self._document.prediction
        for name, cell in self._cells.items():
            if prediction is None:
                cell.show_figure(wording.NONE, wording.NONE, "")
                continue
            before, after = _cost(prediction.before, name), _cost(prediction.after, name)
            show = wording.bits if name == "bits" else wording.count
            cell.show_figure(show(before), show(after), wording.change(before, after))


def _cost(cost: Cost, name: str) -> int:
    return {"parameters": cost.parameters, "macs": cost.macs, "bits": cost.bits}[name]


def _task_words(document: Document) -> str:
    task = document.task
    if task is None:
        return "Choose data…"
    if not task.source.data:
        return "No data: random inputs…"
    samples = task.recovery_samples + task.measure_samples
    return f"{Path(task.source.data).name}: {samples:,} samples"


def _task_tip(document: Document) -> str:
    task = document.task
    if task is None:
        return "Choose what accuracy is measured on."
    if not task.source.data:
        return "Without data, agreement with the original is measured on random inputs."
    return (
        f"{task.source.data}: {task.recovery_samples:,} samples to recover on,"
        f" {task.measure_samples:,} to measure on, {task.classes} classes."
    )


def _button(action: QAction, name: str, role: str) -> QPushButton:
    button = QPushButton(action.text().replace("&", ""))
    button.setObjectName(name)
    button.setAccessibleName(action.statusTip())
    button.setProperty("role", role)
    # A click that disables the button would hand the keyboard on to whatever comes next.
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.setEnabled(action.isEnabled())
    button.clicked.connect(action.trigger)
    action.enabledChanged.connect(button.setEnabled)
    action.changed.connect(lambda: button.setToolTip(action.toolTip()))
    button.setToolTip(action.toolTip())
    return button
