"""The classes of a task with how many of their samples flipped, the worst hit first."""

from collections.abc import Iterable

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from featherweight.engine.results import Flip
from featherweight.gui.item_models.flip_words import ClassNames, direction_of
from featherweight.gui.widgets.diverging_bars import LEFT, RIGHT

Index = QModelIndex | QPersistentModelIndex
NO_INDEX = QModelIndex()
ALL = "All classes"


class FlipClasses(QAbstractListModel):
    """The first row is of all classes together; `labels` are those of the others.

    A sample counts for its own class. What went from one wrong class to another has a row, and
    counts for neither side.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.labels: tuple[int, ...] = ()
        self._counts: dict[int, tuple[int, int]] = {}
        self._total = (0, 0)
        self._names = ClassNames(None)

    @property
    def most(self) -> int:
        """The longest bar of a class."""
        return max((max(pair) for pair in self._counts.values()), default=0)

    def show_flips(self, flips: Iterable[Flip], names: ClassNames) -> None:
        """Show other flips."""
        self.beginResetModel()
        counts: dict[int, list[int]] = {}
        for flip in flips:
            pair, direction = counts.setdefault(flip.label, [0, 0]), direction_of(flip)
            if direction != "moved":
                pair[direction == "won"] += 1
        self._counts = {label: (lost, won) for label, (lost, won) in counts.items()}
        self._total = (sum(pair[0] for pair in counts.values()), sum(p[1] for p in counts.values()))
        self._names = names
        self.labels = tuple(sorted(counts, key=self._place))
        self.endResetModel()

    def label(self, row: int) -> int | None:
        """Return the class of a row, None for that of all."""
        return self.labels[row - 1] if 0 < row <= len(self.labels) else None

    def rowCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return 0 if parent.isValid() else 1 + len(self.labels)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        label = self.label(index.row())
        name = ALL if label is None else self._names(label)
        lost, won = self._total if label is None else self._counts[label]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return name
            case Qt.ItemDataRole.ToolTipRole | Qt.ItemDataRole.AccessibleTextRole:
                return f"{name}: {lost:,} lost, {won:,} won"
        return {LEFT: lost, RIGHT: won}.get(role)

    def _place(self, label: int) -> tuple[int, int, int]:
        lost, won = self._counts[label]
        return won - lost, -lost, label
