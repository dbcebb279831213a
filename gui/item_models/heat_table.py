"""The readings of a sweep as a table: layers down, strengths or sizes across, damage as heat."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from featherweight.engine.layer import Layer
from featherweight.engine.readings import Reading
from featherweight.engine.recipe import Recipe
from featherweight.gui import wording
from featherweight.gui.atlas_readings import ChoiceKey, key_of
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.item_models.reading_words import stored_share, told
from featherweight.gui.item_models.sweep_families import Family
from featherweight.gui.widgets.heat_map import ESTIMATED, FAILED, MEASURED, NOTHING, Heat

Index = QModelIndex | QPersistentModelIndex
NO_INDEX = QModelIndex()
# What a layer may take at most, as a share of what it takes in the source.
BUDGETS = (0.75, 0.5, 0.35, 0.25, 0.18, 0.12, 0.09, 0.06)
DECADES = 6
Cells = tuple[tuple[Reading | None, ...], ...]
Readings = Mapping[str, Mapping[ChoiceKey, Reading]]


@dataclass(frozen=True)
class HeatScale:
    """Powers of ten between which damage is coloured; what is outside has the colour of the end."""

    low: int = -3
    high: int = 0

    def level(self, damage: float) -> float:
        """Return where damage stands, 0 to 1."""
        if damage <= 0:
            return 0.0
        return min(max((math.log10(damage) - self.low) / (self.high - self.low), 0.0), 1.0)


def scale_of(damages: Iterable[float]) -> HeatScale:
    """Return the scale that holds these values, or the greatest of them."""
    positive = [value for value in damages if value > 0]
    if not positive:
        return HeatScale()
    high = math.ceil(math.log10(max(positive)) - 1e-9)
    low = max(math.floor(math.log10(min(positive)) + 1e-9), high - DECADES)
    return HeatScale(min(low, high - 1), high)


class HeatTable(QAbstractTableModel):
    """The cells of one family of choices, or for every size the choice that does least damage."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.names: tuple[str, ...] = ()
        self.titles: tuple[str, ...] = ()
        self.scale = HeatScale()
        self.words = LayerWords()
        self.damage, self.metric = "Damage", "Accuracy"
        self._cells: Cells = ()
        self._layers: Mapping[str, Layer] = {}
        self._best = False

    def show_family(self, layers: Mapping[str, Layer], readings: Readings, family: Family) -> None:
        """Show the readings of one family, a column for each strength."""
        names = tuple(name for name in layers if name in readings)
        cells = tuple(tuple(map(readings[name].get, family.keys)) for name in names)
        self._show(layers, names, family.labels, cells, best=False)

    def show_best(self, layers: Mapping[str, Layer], readings: Readings) -> None:
        """Show what does least damage to each layer within every size, a column for each."""
        names = tuple(name for name in layers if name in readings)
        cells = tuple(_best(readings[name].values(), layers) for name in names)
        titles = tuple(f"{share * 100:.0f} %" for share in BUDGETS)
        self._show(layers, names, titles, cells, best=True)

    def heat(self, recipe: Recipe) -> Heat:
        """Return what to paint; cells that the recipe holds are ringed."""
        shape = len(self.names), len(self.titles)
        levels, kinds = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        rows = [[self._level(reading) for reading in row] for row in self._cells]
        if rows and self.titles:
            levels[:] = [[level for level, _ in row] for row in rows]
            kinds[:] = [[kind for _, kind in row] for row in rows]
        held = {name: set(key_of(recipe.choice(name))) for name in recipe.layers}
        ringed = frozenset(
            (row, column)
            for row, name in enumerate(self.names)
            if name in held
            for column, reading in enumerate(self._cells[row])
            if reading is not None and set(key_of(reading.choice)) <= held[name]
        )
        return Heat(levels, kinds, ringed, self.word)

    def rows_of(self, names: Iterable[str]) -> list[int]:
        """Return the rows of those layers that have one."""
        wanted = set(names)
        return [row for row, name in enumerate(self.names) if name in wanted]

    def reading(self, row: int, column: int) -> Reading | None:
        """Return what a cell shows, None where nothing was read."""
        return self._cells[row][column]

    def word(self, row: int, column: int) -> str:
        """Return what is written into a cell."""
        reading = self._cells[row][column]
        if reading is None or reading.damage is None:
            return ""
        if self._best:
            return " ".join(self.words.chips(reading.choice))
        return wording.brief_rise(reading.damage.value)

    def rowCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.names)

    def columnCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.titles)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        reading = self._cells[index.row()][index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self.word(index.row(), index.column())
        if role not in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            return None
        return self._lack(index.row()) if reading is None else self._told(reading)

    def headerData(  # noqa: N802
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        titles = self.titles if orientation == Qt.Orientation.Horizontal else self.names
        shown = role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole)
        return titles[section] if shown and section < len(titles) else None

    def _show(
        self,
        layers: Mapping[str, Layer],
        names: tuple[str, ...],
        titles: tuple[str, ...],
        cells: Cells,
        best: bool,
    ) -> None:
        self._layers = layers
        if (names, titles, best) == (self.names, self.titles, self._best):
            self._cells = cells
            return
        self.beginResetModel()
        self.names, self.titles, self._cells, self._best = names, titles, cells, best
        self.endResetModel()

    def _level(self, reading: Reading | None) -> tuple[float, int]:
        if reading is None:
            return 0.0, NOTHING
        if reading.reason or reading.damage is None:
            return 0.0, FAILED
        kind = ESTIMATED if reading.basis == "estimated" else MEASURED
        return self.scale.level(reading.damage.value), kind

    def _told(self, reading: Reading) -> str:
        lines = told(reading, self.words, self.damage, self.metric)
        share = stored_share(reading, self._layers)
        return lines if share is None else f"{lines}\nTakes {wording.percent(share)} of its size"

    def _lack(self, row: int) -> str:
        if self._best:
            return f"Nothing that was read makes {self.names[row]} so small."
        return f"Not read: {self.names[row]} cannot take it, or it was not in the plan."


def _best(readings: Iterable[Reading], layers: Mapping[str, Layer]) -> tuple[Reading | None, ...]:
    shares = [(stored_share(reading, layers), reading) for reading in readings]
    known = [
        (reading.damage.value, share, reading)
        for share, reading in shares
        if share is not None and reading.damage is not None and not reading.reason
    ]
    known.sort(key=lambda one: one[:2])
    return tuple(_first(known, budget) for budget in BUDGETS)


def _first(known: Sequence[tuple[float, float, Reading]], budget: float) -> Reading | None:
    return next((reading for _, share, reading in known if share <= budget), None)
