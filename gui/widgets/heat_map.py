"""A table of cells that are nothing but colour, of which only what is visible is painted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import (
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QItemSelectionRange,
    QLineF,
    QModelIndex,
    QRect,
    QRectF,
    Qt,
    Signal,
)
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    qGray,
)
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.sparse_header import SparseHeader

LIGHT_RAMP = (
    "#fff4dd",
    "#fdd9a0",
    "#fdb671",
    "#f98a54",
    "#e8603c",
    "#c93325",
    "#961018",
    "#5c0713",
)
DARK_RAMP = ("#2d2350", "#55246b", "#7d2a72", "#a93368", "#d24b50", "#ee7a32", "#f9b32e", "#fbf3a0")
LEVELS = 64
HATCHED, DARK = 0.45, 135
NOTHING, ESTIMATED, MEASURED, FAILED = range(4)
ROW_HEIGHT, NAMES_WIDTH = 22, 170
NARROWEST, WIDEST, ROOM_FOR_WORDS = 14, 120, 32
WORD_EDGE = 2


@dataclass(frozen=True)
class Heat:
    """What the cells show, rows by columns: `levels` from 0 to 1 and `kinds` of the above.

    `chosen` are cells to ring, `word` is written into a cell that has room for it.
    """

    levels: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.uint8]
    chosen: frozenset[tuple[int, int]] = frozenset()
    word: Callable[[int, int], str] = lambda row, column: ""  # noqa: ARG005


EMPTY = Heat(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.uint8))


class HeatMap(QTableView):
    """Rows are selected whole; `chosen` tells of a double click or Enter on a cell."""

    chosen = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.heat = EMPTY
        self._image = QImage()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setCornerButtonEnabled(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows, columns = self.verticalHeader(), SparseHeader(self)
        self.setHorizontalHeader(columns)
        for header in (rows, columns):
            header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
            header.setMinimumSectionSize(NARROWEST)
            header.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        rows.setDefaultSectionSize(ROW_HEIGHT)
        rows.setFixedWidth(NAMES_WIDTH)
        rows.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        rows.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        columns.setSectionsClickable(False)
        self.doubleClicked.connect(lambda at: self.chosen.emit(at.row(), at.column()))

    def show_heat(self, heat: Heat) -> None:
        """Show other cells; as many as the model has."""
        self.heat = heat
        self._image = _painted(heat)
        self._fit()
        self.viewport().update()

    def select_rows(self, rows: Sequence[int]) -> None:
        """Select these rows and no others, and show the first of them."""
        flags = QItemSelectionModel.SelectionFlag
        chosen = QItemSelection()
        for row in rows:
            at = self.model().index(row, 0)
            chosen.append(QItemSelectionRange(at))
        self.selectionModel().select(chosen, flags.ClearAndSelect | flags.Rows)
        if len(rows) == 1:
            self.scrollTo(self.model().index(rows[0], max(self.currentIndex().column(), 0)))
        self.viewport().update()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._image = _painted(self.heat)
        super().changeEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        super().focusInEvent(event)
        model = self.model()
        if not self.currentIndex().isValid() and model.rowCount() and model.columnCount():
            self.selectionModel().setCurrentIndex(
                model.index(0, 0), self.selectionModel().SelectionFlag.NoUpdate
            )

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        at = self.currentIndex()
        if at.isValid() and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.chosen.emit(at.row(), at.column())
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if self._image.isNull():
            return
        painter = QPainter(self.viewport())
        rows, columns = self._visible(event.rect())
        if rows and columns:
            self._paint_colours(painter, rows, columns)
            self._paint_estimated(painter, rows, columns)
            self._paint_gaps(painter, rows, columns)
            self._paint_words(painter, rows, columns)
            self._paint_marks(painter, rows, columns)

    def _visible(self, place: QRect) -> tuple[range, range]:
        height, width = self.heat.kinds.shape
        first, last = self.rowAt(place.top()), self.rowAt(place.bottom())
        left, right = self.columnAt(place.left()), self.columnAt(place.right())
        rows = range(max(first, 0), min(last + 1 if last >= 0 else height, height))
        return rows, range(max(left, 0), min(right + 1 if right >= 0 else width, width))

    def _box(self, rows: range, columns: range) -> QRect:
        left, top = self.columnViewportPosition(columns[0]), self.rowViewportPosition(rows[0])
        return QRect(left, top, len(columns) * self.columnWidth(columns[0]), len(rows) * ROW_HEIGHT)

    def _paint_colours(self, painter: QPainter, rows: range, columns: range) -> None:
        source = QRect(columns[0], rows[0], len(columns), len(rows))
        painter.drawImage(self._box(rows, columns), self._image, source)

    def _paint_estimated(self, painter: QPainter, rows: range, columns: range) -> None:
        """Hatch what is estimated, neighbours in a row together."""
        shades = theme.colours()
        part = self.heat.kinds[rows.start : rows.stop, columns.start : columns.stop]
        width, left = self.columnWidth(columns[0]), self.columnViewportPosition(columns[0])
        hatches = (
            (ESTIMATED, hatch()),
            (FAILED, QBrush(QColor(shades.muted), Qt.BrushStyle.DiagCrossPattern)),
        )
        for kind, brush in hatches:
            edges = np.diff((part == kind).astype(np.int8), axis=1, prepend=0, append=0)
            starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
            for (row, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True):
                top = self.rowViewportPosition(rows[row])
                painter.fillRect(
                    QRect(left + start * width, top, (end - start) * width, ROW_HEIGHT), brush
                )

    def _paint_gaps(self, painter: QPainter, rows: range, columns: range) -> None:
        box, width = self._box(rows, columns), self.columnWidth(columns[0])
        painter.setPen(QPen(QColor(theme.colours().surface), 1))
        lines = [
            QLineF(
                box.left(), box.top() + at * ROW_HEIGHT, box.right(), box.top() + at * ROW_HEIGHT
            )
            for at in range(len(rows) + 1)
        ]
        lines += [
            QLineF(box.left() + at * width, box.top(), box.left() + at * width, box.bottom())
            for at in range(len(columns) + 1)
        ]
        painter.drawLines(lines)

    def _paint_words(self, painter: QPainter, rows: range, columns: range) -> None:
        width = self.columnWidth(columns[0])
        if width < ROOM_FOR_WORDS:
            return
        metrics = self.fontMetrics()
        inks = [QColor("#16181d"), QColor("#ffffff")]
        for row in rows:
            top = self.rowViewportPosition(row)
            for column in columns:
                if self.heat.kinds[row, column] in (NOTHING, FAILED):
                    continue
                word = metrics.elidedText(
                    self.heat.word(row, column), Qt.TextElideMode.ElideRight, width - 2 * WORD_EDGE
                )
                dark = qGray(self._image.pixel(column, row)) < DARK
                painter.setPen(inks[dark])
                box = QRect(self.columnViewportPosition(column), top, width, ROW_HEIGHT)
                painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), word)

    def _paint_marks(self, painter: QPainter, rows: range, columns: range) -> None:
        shades = theme.colours()
        width = self.columnWidth(columns[0])
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for row, column in self.heat.chosen:
            if row in rows and column in columns:
                box = QRectF(self._box(range(row, row + 1), range(column, column + 1)))
                self._ring(painter, box, shades.accent)
        strip = QRectF(self._box(rows, columns))
        painter.setPen(QPen(QColor(shades.accent), 2))
        for run in self._selected_runs(rows):
            top, high = self.rowViewportPosition(run[0]), len(run) * ROW_HEIGHT
            painter.drawRect(QRectF(strip.left() + 1, top + 0.5, strip.width() - 1, high))
        at = self.currentIndex()
        if self.hasFocus() and at.isValid():
            box = QRectF(self.columnViewportPosition(at.column()), 0, width, ROW_HEIGHT)
            box.moveTop(self.rowViewportPosition(at.row()))
            self._ring(painter, box, shades.text)

    def _selected_runs(self, rows: range) -> list[range]:
        """Return the selected rows of some, neighbours together."""
        runs: list[range] = []
        for row in rows:
            if not self.selectionModel().isRowSelected(row, QModelIndex()):
                continue
            if runs and runs[-1].stop == row:
                runs[-1] = range(runs[-1].start, row + 1)
            else:
                runs.append(range(row, row + 1))
        return runs

    def _ring(self, painter: QPainter, box: QRectF, shade: str) -> None:
        painter.setPen(QPen(QColor(theme.colours().surface), 4))
        painter.drawRect(box.adjusted(3, 3, -2, -2))
        painter.setPen(QPen(QColor(shade), 2))
        painter.drawRect(box.adjusted(3, 3, -2, -2))

    def _fit(self) -> None:
        columns = self.heat.kinds.shape[1]
        if columns:
            width = min(max(self.viewport().width() // columns, NARROWEST), WIDEST)
            self.horizontalHeader().setDefaultSectionSize(width)


def ramp() -> tuple[str, ...]:
    """Return the colours from the least to the most; they differ in lightness, not in hue alone."""
    return DARK_RAMP if theme.colours() is theme.DARK else LIGHT_RAMP


def hatch() -> QBrush:
    """Return what is drawn over a colour that was estimated."""
    shade = QColor(theme.colours().surface)
    shade.setAlphaF(HATCHED)
    return QBrush(shade, Qt.BrushStyle.BDiagPattern)


def _painted(heat: Heat) -> QImage:
    """Return an image with one pixel for every cell."""
    height, width = heat.kinds.shape
    if not height or not width:
        return QImage()
    stops = np.array([_rgb(shade) for shade in ramp()], np.float64)
    at = np.linspace(0, len(stops) - 1, LEVELS)
    scale = np.stack([np.interp(at, np.arange(len(stops)), stops[:, one]) for one in range(3)], 1)
    shades = theme.colours()
    levels = np.clip(np.nan_to_num(heat.levels) * (LEVELS - 1), 0, LEVELS - 1).astype(np.intp)
    pixels = np.empty((height, width, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[..., :3] = scale[levels].round()
    for kind, shade in ((NOTHING, shades.window), (FAILED, shades.track)):
        pixels[heat.kinds == kind, :3] = _rgb(shade)
    data = np.ascontiguousarray(pixels).tobytes()
    return QImage(data, width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()


def _rgb(shade: str) -> tuple[int, int, int]:
    colour = QColor(shade)
    return colour.red(), colour.green(), colour.blue()
