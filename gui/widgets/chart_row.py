"""Charts over the same steps side by side, as many as there is room for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PySide6.QtCore import QPoint, QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLayout, QToolTip, QWidget

from featherweight.engine.figures import Basis
from featherweight.gui.widgets.chart_card import ChartCard
from featherweight.gui.widgets.line_chart import LineChart
from featherweight.gui.widgets.line_style import Line

NARROW, WIDE = 440, 330


@dataclass(frozen=True)
class Quantity:
    """What one chart shows: its title, its lines by series, and how its values are written.

    `words` writes a value for a reader, `tick` beside the axis; `basis` is how values are known,
    None where they were set and not found out.
    """

    title: str
    lines: Mapping[str, Line]
    words: Callable[[float], str]
    tick: Callable[[float], str]
    basis: Basis | None = None
    scale: float = field(default=1.0)


class ChartRow(QWidget):
    """One card for each quantity by name; the title of a card puts another into its place.

    The pointer over one chart marks the step in all of them, and `tip` says what is known of it.
    """

    def __init__(self, quantities: Mapping[str, Quantity], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.quantities = dict(quantities)
        self.cards: dict[str, ChartCard] = {}
        self._names = {series: name for name, one in quantities.items() for series in one.lines}
        self._titles = [quantity.title for quantity in quantities.values()]
        self.order = list(quantities)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(24)
        self._row.setSizeConstraint(QLayout.SizeConstraint.SetNoConstraint)
        for place, (name, quantity) in enumerate(quantities.items()):
            chart = LineChart(quantity.lines, quantity.tick, quantity.scale)
            chart.setObjectName(f"{name}_chart")
            chart.label_axes("Step", "")
            chart.pointed.connect(self._on_pointed)
            card = self.cards[name] = ChartCard(quantity.title, chart, quantity.basis)
            card.title.setObjectName(f"{name}_chart_title")
            card.offer(self._titles, place)
            card.asked.connect(lambda wanted, name=name: self._on_asked(name, wanted))
            self._row.addWidget(card, 1)
        for place, title in enumerate(self._titles):
            self.rename(list(quantities)[place], title)
        self._arrange()

    def rename(self, name: str, title: str) -> None:
        """Give the card of a quantity another title."""
        place = list(self.quantities).index(name)
        self._titles[place] = title
        self.cards[name].chart.setAccessibleName(f"{title} over training steps")
        for card in self.cards.values():
            card.rename(place, title)

    def title(self, name: str) -> str:
        """Return the title of the card of a quantity."""
        return self._titles[list(self.quantities).index(name)]

    def add_point(self, series: str, step: int, value: float) -> None:
        """Take a point; of a series that no quantity has, nothing is drawn."""
        name = self._names.get(series)
        if name is None:
            return
        card, quantity = self.cards[name], self.quantities[name]
        card.chart.add_point(series, step, value)
        first = next(iter(quantity.lines))
        card.show_newest(quantity.words(value * quantity.scale) if series == first else "")
        for other in self.cards.values():
            other.chart.reach(step)

    def count(self, series: str) -> int:
        """Return how many points of a series are drawn."""
        return self.cards[self._names[series]].chart.count(series)

    def clear(self) -> None:
        """Forget all points."""
        for card in self.cards.values():
            card.clear()

    def tip(self, step: float) -> str:
        """Say what all charts know of the step nearest to one, a line for each series."""
        at, known = self._nearest(step)
        lines = [] if at is None else [f"Step {at:g}"]
        for name, values in known.items():
            quantity = self.quantities[name]
            first = next(iter(quantity.lines))
            for series, value in values.items():
                line = quantity.lines[series].title
                title = self.title(name) if series == first else line
                lines.append(f"{title} {quantity.words(value)}")
        return "\n".join(lines)

    def _nearest(self, step: float) -> tuple[float | None, dict[str, dict[str, float]]]:
        """Return the step with a point that is nearest, and what charts know by their names."""
        near = {name: card.chart.nearest(step) for name, card in self.cards.items()}
        known = {name: found for name, found in near.items() if found is not None}
        steps = [at for at, _ in known.values()]
        at = min(steps, key=lambda at: abs(at - step), default=None)
        return at, {name: values for name, (_, values) in known.items()}

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        # Charts that are shown now must not keep the window from getting narrower.
        return QSize(NARROW // 2, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        """Show as many cards as there is room for, in order."""
        room = self.width()
        shown = 1 if room < NARROW else max(2, room // WIDE)
        for place, name in enumerate(self.order):
            card = self.cards[name]
            if self._row.indexOf(card) != place:
                self._row.removeWidget(card)
                self._row.insertWidget(place, card, 1)
            card.setVisible(place < shown)

    def _on_asked(self, name: str, wanted: int) -> None:
        names = list(self.quantities)
        self.cards[name].title.setCurrentIndex(names.index(name))
        here, there = self.order.index(name), self.order.index(names[wanted])
        self.order[here], self.order[there] = self.order[there], self.order[here]
        self._arrange()
        self.cards[self.order[here]].title.setFocus()

    def _on_pointed(self, step: float | None, place: QPoint) -> None:
        at = self._nearest(step)[0] if step is not None else None
        for card in self.cards.values():
            card.chart.show_mark(at)
        if step is not None and at is not None:
            QToolTip.showText(place, self.tip(step), self)
        else:
            QToolTip.hideText()
