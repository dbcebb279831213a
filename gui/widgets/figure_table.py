"""Figures before and after, beside what was predicted, each with its basis."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from featherweight.engine.figures import Figure
from featherweight.gui import wording
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.text import Role, label

SMALLER_IS_BETTER = frozenset({"parameters", "macs", "bytes", "bits", "latency", "loss"})
NOISE = 0.005
BEFORE = "_before"


class FigureTable(QWidget):
    """One row for each figure by name; columns line up."""

    def __init__(self, heads: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._heads = tuple(heads)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(len(heads) + 1, 1)

    def show_comparison(
        self,
        before: Mapping[str, Figure],
        after: Mapping[str, Figure],
        predicted: Mapping[str, Figure],
    ) -> None:
        """Show figures that both have, in the order of `after`."""
        self._begin()
        names = [name for name in after if name in before]
        for row, name in enumerate(names, 1):
            old, new = before[name], after[name]
            forecast = predicted.get(name)
            cells: tuple[tuple[str, Role], ...] = (
                (wording.title_of(name), "muted"),
                (wording.figure(name, old), "plain"),
                (wording.figure(name, new), "section"),
                (wording.moved(name, old, new), _role(name, old, new)),
                (wording.figure(name, forecast) if forecast else "", "muted"),
            )
            self._add_row(row, name, cells, new)

    def show_figures(self, figures: Mapping[str, Figure]) -> None:
        """Show figures in the columns title, before, after, change; `x_before` goes with `x`."""
        self._begin()
        names = [name for name in figures if not name.endswith(BEFORE)]
        for row, name in enumerate(names, 1):
            old, new = figures.get(name + BEFORE), figures[name]
            cells: tuple[tuple[str, Role], ...] = (
                (wording.title_of(name), "muted"),
                (wording.figure(name, old) if old else "", "plain"),
                (wording.figure(name, new), "section"),
                (wording.moved(name, old, new), _role(name, old, new)) if old else ("", "plain"),
            )
            self._add_row(row, name, cells, new)

    def _begin(self) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            piece = item.widget()
            if piece is not None:
                piece.hide()
                piece.deleteLater()
        for column, head in enumerate(self._heads):
            self._grid.addWidget(label(head, "muted"), 0, column, self._side(column))

    def _add_row(
        self, row: int, name: str, cells: Sequence[tuple[str, Role]], known: Figure
    ) -> None:
        for column, (text, role) in enumerate(cells):
            piece = label(text, role)
            piece.setObjectName(f"figure_{name}_{column}")
            self._grid.addWidget(piece, row, column, self._side(column))
        self._grid.addWidget(BasisBadge(known.basis), row, len(cells))

    def _side(self, column: int) -> Qt.AlignmentFlag:
        side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
        return side | Qt.AlignmentFlag.AlignVCenter


def _role(name: str, before: Figure, after: Figure) -> Role:
    gained = before.value - after.value
    if name not in SMALLER_IS_BETTER:
        gained = -gained
    if not before.value or abs(gained / before.value) < NOISE:
        return "plain"
    return "good" if gained > 0 else "warning"
