"""The results: figures before and after beside the prediction, and where every bit went."""

from collections import defaultdict
from collections.abc import Callable

import msgspec
from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.errors import UserError
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.ledger import Ledger
from featherweight.engine.results import Cost, Result
from featherweight.gui import icons, theme, wording
from featherweight.gui.dialogs.compare import CompareDialog
from featherweight.gui.dialogs.delete_result import delete_question
from featherweight.gui.dialogs.export import ExportDialog
from featherweight.gui.document import Document
from featherweight.gui.item_models.name_delegate import NAME, NameDelegate
from featherweight.gui.item_models.recovery_curves import FEWEST, MOST
from featherweight.gui.kept_results import deleted, renamed
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.figure_table import FigureTable
from featherweight.gui.widgets.panel import Panel
from featherweight.gui.widgets.plain_table import Cell, PlainTable
from featherweight.gui.widgets.stacked_bar import Part, StackedBar
from featherweight.gui.widgets.text import label, page

KINDS = ("values", "indices", "codebooks", "scales", "tables")
SIDE_BY_SIDE = 1120
COMPARE = "Draw how two to four results recovered over each other; select more with Ctrl"
FLIPS = "Show the samples that got another class than from the original, or from the other of two"


class ResultsView(QWidget):
    """A list of results; the one that is selected shows what it is made of."""

    flips_asked = Signal()

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._shown: tuple[Result, ...] = ()
        self.empty = EmptyState(
            "result",
            "No result yet",
            "A run of the recipe puts its result here, with its figures before and after.",
        )
        self.filled = page()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self.filled)
        row = QHBoxLayout(self.filled)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addLayout(self._build_list())
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addLayout(self._build_actions())
        column.addWidget(self._build_details(), 1)
        row.addLayout(column, 1)
        document.results_changed.connect(self._refresh)
        document.network_changed.connect(self._refresh)
        document.task_changed.connect(self._refresh_compare)
        document.job_changed.connect(self._refresh_compare)
        self._refresh()

    @property
    def result(self) -> Result | None:
        """The result that is selected."""
        row = self.list.currentRow()
        return self._shown[row] if 0 <= row < len(self._shown) else None

    def _build_list(self) -> QVBoxLayout:
        self.list = QListWidget()
        self.list.setObjectName("results_list")
        self.list.setAccessibleName("Results")
        self.list.setFixedWidth(208)
        self.list.setSelectionMode(QListWidget.SelectionMode.ExtendedSelection)
        self.list.itemSelectionChanged.connect(self._refresh_compare)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.currentItemChanged.connect(lambda: self._show_result())
        delegate = NameDelegate(self.list)
        # The list is filled again after a new name, when the editor has done its part.
        delegate.named.connect(self._on_named, Qt.ConnectionType.QueuedConnection)
        self.list.setItemDelegate(delegate)
        self.list.setEditTriggers(
            QListWidget.EditTrigger.DoubleClicked | QListWidget.EditTrigger.EditKeyPressed
        )
        self.rename_button = _button(
            "rename_result_button", "Rename", "Give the result another name (F2)",
            lambda: self.list.editItem(self.list.currentItem()),
        )  # fmt: skip
        self.delete_button = _button(
            "delete_result_button", "Delete…", "Throw the result and its archive away",
            self._on_delete,
        )  # fmt: skip
        pair = QHBoxLayout()
        pair.setSpacing(8)
        pair.addWidget(self.rename_button)
        pair.addWidget(self.delete_button)
        column = QVBoxLayout()
        column.setContentsMargins(8, 8, 0, 12)
        column.setSpacing(8)
        column.addWidget(self.list)
        column.addLayout(pair)
        return column

    def _build_actions(self) -> QHBoxLayout:
        self.export_button = _button(
            "result_export_button", "Export…", "Write the network to a file and check the file",
            self._on_export,
        )  # fmt: skip
        self.export_button.setProperty("role", "primary")
        self.flips_button = _button("flips_button", "Flipped…", FLIPS, self._on_flips)
        self.compare_button = _button("compare_button", "Compare", COMPARE, self._on_compare)
        self.restore_button = _button(
            "restore_recipe_button", "Restore recipe",
            "Take over this result's choices; it can be undone", self._on_restore,
        )  # fmt: skip
        row = QHBoxLayout()
        row.setContentsMargins(16, 8, 16, 0)
        row.setSpacing(8)
        for piece in (
            self.export_button, self.flips_button, self.compare_button, self.restore_button
        ):  # fmt: skip
            row.addWidget(piece)
        row.addStretch(1)
        return row

    def _build_details(self) -> QWidget:
        self.figures = FigureTable(("", "Before", "After", "Change", "Predicted"))
        self.figures.setObjectName("result_figures")
        self.figures.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.rates = label("", "muted", wrap=True)
        self.rates.setObjectName("result_rates")
        left = QVBoxLayout()
        left.setSpacing(10)
        left.addWidget(self.figures)
        left.addWidget(self.rates)
        left.addStretch(1)
        self.stored = label("", "section")
        self.ledger_bar = StackedBar()
        self.ledger_bar.setObjectName("ledger_bar")
        self.ledger_bar.setAccessibleName("Stored bytes by kind")
        self.ledger_table = PlainTable(("Layer", "Stored", "Of float32", "Values", "Beside them"))
        self.ledger_table.setObjectName("ledger_table")
        self.ledger_table.setAccessibleName("Stored bytes by layer")
        self.ledger_table.setMinimumSize(460, 140)
        right = QVBoxLayout()
        right.setSpacing(8)
        for piece in (self.stored, self.ledger_bar, self.ledger_table):
            right.addWidget(piece)
        self._halves = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._halves.setSpacing(32)
        self._halves.addLayout(left)
        self._halves.addLayout(right, 1)
        panel = Panel("Figures of the result")
        panel.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        panel.add(self._halves)
        return panel

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        wide = self.width() >= SIDE_BY_SIDE
        directions = QBoxLayout.Direction
        self._halves.setDirection(directions.LeftToRight if wide else directions.TopToBottom)
        super().resizeEvent(event)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._dress()
        super().changeEvent(event)

    def _dress(self) -> None:
        self.export_button.setIcon(icons.icon("export", theme.colours().on_accent))
        self.restore_button.setIcon(icons.icon("recipe"))

    def _refresh(self) -> None:
        self._dress()
        results = self._document.results
        self._stack.setCurrentWidget(self.filled if results else self.empty)
        if results == self._shown:
            return
        grown = len(results) > len(self._shown)
        kept = self.list.currentRow()
        self._shown = results
        with QSignalBlocker(self.list):
            self.list.clear()
            for result in results:
                item = QListWidgetItem(f"{result.name}\n{_headline(result)}")
                item.setToolTip(item.text())
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
                item.setData(NAME, result.name)
                self.list.addItem(item)
            self.list.setCurrentRow(len(results) - 1 if grown else min(kept, len(results) - 1))
        self._refresh_compare()
        self._show_result()

    def _show_result(self) -> None:
        result = self.result
        if result is None:
            return
        predicted = predicted_figures(result.predicted)
        self.figures.show_comparison(result.before.figures, result.after.figures, predicted)
        self.rates.setText(_rates(result))
        self._show_ledger(result.ledger)

    def _show_ledger(self, ledger: Ledger) -> None:
        self.stored.setText(f"{wording.size(ledger.bytes)} stored, to the byte: {ledger.bytes:,} B")
        totals = {kind: sum(getattr(e, kind) for e in ledger.entries) for kind in KINDS}
        totals["container"] = ledger.container
        self.ledger_bar.show_parts(
            [Part(wording.KIND_TITLES[kind], n, wording.bits(n)) for kind, n in totals.items()]
        )
        self.ledger_table.show_lines(_ledger_lines(ledger), by=1)

    @property
    def _compared(self) -> list[Result]:
        """The results that are selected, in the order in which they were made."""
        rows = sorted(self.list.row(item) for item in self.list.selectedItems())
        return [self._shown[row] for row in rows]

    def _refresh_compare(self) -> None:
        self.compare_button.setEnabled(FEWEST <= len(self.list.selectedItems()) <= MOST)
        self.flips_button.setEnabled(self._document.can_find_flips)

    def _on_compare(self) -> None:
        CompareDialog(self._compared, self._document.task, self.window()).show()

    def _on_flips(self) -> None:
        result, both = self.result, self._compared
        if result is not None:
            before = both[0].archive if len(both) == 2 else ""
            self._document.find_flips(before, both[1].archive if before else result.archive)
            self.flips_asked.emit()

    def _on_export(self) -> None:
        if self.result is not None:
            ExportDialog(self._document, self.result.archive, self.window()).open()

    def _on_named(self, place: int, name: str) -> None:
        if name and name != self._shown[place].name:
            self._document.set_results(renamed(self._shown, place, name))

    def _on_delete(self) -> None:
        result = self.result
        if result is None:
            return
        shared = sum(other.archive == result.archive for other in self._shown) > 1
        box = delete_question(result.name, shared, self.window())
        box.accepted.connect(lambda: self._delete(result))
        box.open()

    def _delete(self, result: Result) -> None:
        document = self._document
        place = next((at for at, one in enumerate(document.results) if one is result), None)
        if place is None:
            return
        try:
            document.set_results(deleted(document.results, place, document.results_folder))
        except UserError as error:
            document.noticed.emit(error.message, error.hint, "")

    def _on_restore(self) -> None:
        result = self.result
        if result is not None:
            self._document.use_recipe(result.recipe, f"Recipe of {result.name}")


def _button(name: str, text: str, tip: str, act: Callable[[], None]) -> QPushButton:
    made = QPushButton(text)
    made.setObjectName(name)
    made.setToolTip(tip)
    made.clicked.connect(lambda: act())
    return made


def predicted_figures(cost: Cost) -> dict[str, Figure]:
    """Return a predicted cost as figures under the names of the measured ones."""
    figures = {
        name: Figure(value, "", "estimated") for name, value in msgspec.structs.asdict(cost).items()
    }
    return figures | {"bytes": Figure(cost.bits / 8, "B", "estimated")}


def _headline(result: Result) -> str:
    parts = []
    for name, what in (("bytes", "size"), ("top1", "top-1"), ("agreement", "agreement")):
        before, after = (m.figures.get(name) for m in (result.before, result.after))
        if before is not None and after is not None:
            parts.append(f"{wording.moved(name, before, after)} {what}")
    return ", ".join(parts)


def _rates(result: Result) -> str:
    parts = []
    for sign, name, what in (
        ("α", "parameters", "parameters"),
        ("α", "bytes", "file size"),
        ("δ", "latency", "latency"),
    ):
        before, after = (m.figures.get(name) for m in (result.before, result.after))
        if before is not None and after is not None and after.value:
            rate = ratio(before, after)
            basis = wording.BASIS_TITLES[rate.basis]
            parts.append(f"{sign} {wording.factor(rate.value)} of {what} ({basis})")
    return "  ·  ".join(parts)


def _ledger_lines(ledger: Ledger) -> list[list[Cell]]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for entry in ledger.entries:
        line = sums[entry.layer]
        line[0] += entry.bits
        line[1] += entry.original
        line[2] += entry.values
    return [
        [
            (name, name),
            (stored, wording.bits(stored)),
            (stored / original if original else 0.0, _share(stored, original)),
            (values, wording.bits(values)),
            (stored - values, wording.bits(stored - values)),
        ]
        for name, (stored, original, values) in sums.items()
    ]


def _share(stored: int, original: int) -> str:
    return wording.percent(stored / original) if original else wording.NONE
