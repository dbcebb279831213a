"""The readings of a sweep as a table: layers down, strengths or sizes across, damage as heat."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from featherweight.engine.layer import Layer
from featherweight.engine.readings import Reading
from featherweight.engine.recipe import Recipe
from featherweight.gui import wording
from featherweight.gui.atlas_readings import AtlasReadings, ChoiceKey, key_of
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.item_models.reading_words import stored_share, told
from featherweight.gui.item_models.sweep_families import Family
from featherweight.gui.widgets.heat_map import ESTIMATED, FAILED, MEASURED, NOTHING, Heat

Index = QModelIndex | QPersistentModelIndex
NO_INDEX = QModelIndex()
# What a layer may take at most, as a share of what it takes in the source.
BUDGETS = (0.75, 0.5, 0.35, 0.25, 0.18, 0.12, 0.09, 0.06)
DECADES = 6
Cells = tuple[Reading | None, ...]
Readings = Mapping[str, Mapping[ChoiceKey, Reading]]


@dataclass(frozen=True)
class HeatScale:
    """Powers of ten between which damage is coloured; what is outside has the colour of the end."""

    low: int = -3
    high: int = 0

    def levels(self, damages: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return where damages stand, 0 to 1."""
        powers = np.log10(np.maximum(damages, 10.0 ** (self.low - 1)))
        shares = (powers - self.low) / (self.high - self.low)
        return np.clip(shares, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Row:
    """The cells of one layer at one revision of its readings, damages 0 where there are none.

    `ends` are the least and the greatest damage of all its readings.
    """

    revision: int
    cells: Cells
    damages: tuple[float, ...]
    kinds: tuple[int, ...]
    ends: tuple[float, ...]


def scale_of(damages: Iterable[float]) -> HeatScale:
    """Return the scale that holds these values, or the greatest of them."""
    positive = [value for value in damages if value > 0]
    if not positive:
        return HeatScale()
    high = math.ceil(math.log10(max(positive)) - 1e-9)
    low = max(math.floor(math.log10(min(positive)) + 1e-9), high - DECADES)
    return HeatScale(min(low, high - 1), high)


class HeatTable(QAbstractTableModel):
    """The cells of one family of choices, or for every size the choice that does least damage.

    Of the layers only those are looked at again that have other readings.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.names: tuple[str, ...] = ()
        self.titles: tuple[str, ...] = ()
        self.scale = HeatScale()
        self.words = LayerWords()
        self.damage, self.metric = "Damage", "Accuracy"
        self._rows: dict[str, Row] = {}
        self._layers: Mapping[str, Layer] = {}
        self._family: Family | None = None

    def show_readings(
        self, layers: Mapping[str, Layer], atlas: AtlasReadings, family: Family | None
    ) -> None:
        """Show the strengths of a family, or without one what harms least within every size."""
        names = tuple(name for name in layers if name in atlas.readings)
        budgets = tuple(f"{share * 100:.0f} %" for share in BUDGETS)
        titles = family.labels if family else budgets
        other = family != self._family or layers is not self._layers
        known = {} if other else self._rows
        self._layers, self._family = layers, family
        rows: dict[str, Row] = {}
        for name in names:
            row = known.get(name)
            fresh = row is not None and row.revision == atlas.revisions[name]
            rows[name] = row if row and fresh else self._row(name, atlas)
        if other or (names, titles) != (self.names, self.titles):
            self.beginResetModel()
            self.names, self.titles, self._rows = names, titles, rows
            self.endResetModel()
        else:
            self._rows = rows
        self.scale = scale_of(value for row in rows.values() for value in row.ends)

    def heat(self, recipe: Recipe) -> Heat:
        """Return what to paint; cells that the recipe holds are ringed."""
        shape = len(self.names), len(self.titles)
        rows = self._rows.values()
        damages = np.array([row.damages for row in rows], np.float64).reshape(shape)
        kinds = np.array([row.kinds for row in rows], np.uint8).reshape(shape)
        held = {name: set(key_of(choice)) for name, choice in recipe.layers.items()}
        ringed = frozenset(
            (row, column)
            for row, name in enumerate(self.names)
            if name in held
            for column, reading in enumerate(self._rows[name].cells)
            if reading is not None and set(key_of(reading.choice)) <= held[name]
        )
        return Heat(self.scale.levels(damages), kinds, ringed, self.word)

    def rows_of(self, names: Iterable[str]) -> list[int]:
        """Return the rows of those layers that have one."""
        wanted = set(names)
        return [row for row, name in enumerate(self.names) if name in wanted]

    def reading(self, row: int, column: int) -> Reading | None:
        """Return what a cell shows, None where nothing was read."""
        return self._rows[self.names[row]].cells[column]

    def word(self, row: int, column: int) -> str:
        """Return what is written into a cell."""
        reading = self._rows[self.names[row]].cells[column]
        if reading is None or reading.damage is None:
            return ""
        if self._family is None:
            return " ".join(self.words.chips(reading.choice))
        return wording.brief_rise(reading.damage.value)

    def rowCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.names)

    def columnCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.titles)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        reading = self.reading(index.row(), index.column())
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

    def _row(self, name: str, atlas: AtlasReadings) -> Row:
        own, family = atlas.readings[name], self._family
        cells = tuple(map(own.get, family.keys)) if family else _best(own.values(), self._layers)
        told = [damage for damage in map(_damage, own.values()) if damage > 0]
        return Row(
            revision=atlas.revisions[name],
            cells=cells,
            damages=tuple(map(_damage, cells)),
            kinds=tuple(map(_kind, cells)),
            ends=(min(told), max(told)) if told else (),
        )

    def _told(self, reading: Reading) -> str:
        lines = told(reading, self.words, self.damage, self.metric)
        share = stored_share(reading, self._layers)
        return lines if share is None else f"{lines}\nTakes {wording.percent(share)} of its size"

    def _lack(self, row: int) -> str:
        if self._family is None:
            return f"Nothing that was read makes {self.names[row]} so small."
        return f"Not read: {self.names[row]} cannot take it, or it was not in the plan."


def _damage(reading: Reading | None) -> float:
    return reading.damage.value if reading is not None and reading.damage is not None else 0.0


def _kind(reading: Reading | None) -> int:
    if reading is None:
        return NOTHING
    if reading.reason or reading.damage is None:
        return FAILED
    return ESTIMATED if reading.basis == "estimated" else MEASURED


def _best(readings: Iterable[Reading], layers: Mapping[str, Layer]) -> Cells:
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
