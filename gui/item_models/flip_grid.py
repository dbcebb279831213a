"""Flipped samples as cells of a grid: a picture, the sample's own class, and both others."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QImage

from featherweight.engine.results import Flip, Picture
from featherweight.gui.item_models.flip_words import ClassNames, Direction, direction_of
from featherweight.gui.widgets.thumbnail_grid import CAPTION, MARK, Mark

Index = QModelIndex | QPersistentModelIndex
NO_INDEX = QModelIndex()
MARKS: dict[Direction, Mark] = {"lost": "danger", "won": "good", "moved": "muted"}


class FlipGrid(QAbstractListModel):
    """`pictures` returns what is known by sample; a missing one is awaited, None is no image."""

    def __init__(
        self, pictures: Callable[[], dict[int, Picture | None]], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.flips: tuple[Flip, ...] = ()
        self._pictures = pictures
        self._names = ClassNames(None)

    def show_flips(self, flips: Sequence[Flip], names: ClassNames) -> None:
        """Show other flips."""
        self.beginResetModel()
        self.flips, self._names = tuple(flips), names
        self.endResetModel()

    def samples(self, rows: range) -> tuple[int, ...]:
        """Return the samples of these rows, of those that there are."""
        return tuple(flip.sample for flip in self.flips[rows.start : rows.stop])

    def rowCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return 0 if parent.isValid() else len(self.flips)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        flip = self.flips[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._names(flip.label)
            case Qt.ItemDataRole.DecorationRole:
                return self._image(flip.sample)
            case Qt.ItemDataRole.ToolTipRole | Qt.ItemDataRole.AccessibleTextRole:
                return self._told(flip)
        if role == CAPTION:
            return self._names(flip.before), self._names(flip.after)
        return MARKS[direction_of(flip)] if role == MARK else None

    def _told(self, flip: Flip) -> str:
        own, before, after = map(self._names, (flip.label, flip.before, flip.after))
        return f"Sample {flip.sample:,} is {own}: {before} before, {after} after"

    def _image(self, sample: int) -> QImage | None:
        """Return a picture, one of no size for what is no image, None while it is awaited."""
        if sample not in self._pictures():
            return None
        picture = self._pictures()[sample]
        if picture is None:
            return QImage()
        formats = QImage.Format
        kind = formats.Format_RGB888 if picture.channels == 3 else formats.Format_Grayscale8
        wide = picture.width * picture.channels
        return QImage(picture.pixels, picture.width, picture.height, wide, kind).copy()
