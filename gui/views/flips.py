"""Flipped samples: how many a result put into another class, which classes, and their pictures."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QSplitter, QStackedWidget, QVBoxLayout, QWidget

from featherweight.engine.events import FlipsFound
from featherweight.gui.document import Document
from featherweight.gui.flips import has_classes
from featherweight.gui.item_models.flip_classes import FlipClasses
from featherweight.gui.item_models.flip_grid import FlipGrid
from featherweight.gui.item_models.flip_words import (
    DIRECTIONS,
    ClassNames,
    counted,
    direction_of,
    headline,
    titles,
    verdict,
)
from featherweight.gui.widgets.choice_row import ChoiceRow
from featherweight.gui.widgets.diverging_bars import BarsHead, DivergingBars
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.pair_bar import PairBar
from featherweight.gui.widgets.text import ElidedLabel, page
from featherweight.gui.widgets.thumbnail_grid import ThumbnailGrid

ORIGINAL = "Original"
NO_RESULT = (
    "No result to compare yet",
    "A run of the recipe gives one; the samples whose class it changed are shown here then.",
)
NO_DATA = ("No data yet", "Choose the data first: classes are compared on its samples.")
NO_CLASSES = (
    "No classes to compare",
    "The outputs of this network are no classes, so no sample can flip.",
)
NOTHING = (
    "Nothing compared yet",
    "Press Compare to see which samples the result puts into another class.",
)
UNDER_WAY = ("Comparing…", "Both networks tell the class of every sample to measure on.")
COMPARE = "Tell the class of every sample to measure on with both"
SHOWN = "This is what is shown"


class FlipsView(QWidget):
    """What is compared and what came of it above; classes as bars beside the gallery below."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._found: FlipsFound | None = None
        self.classes = FlipClasses(self)
        self.model = FlipGrid(lambda: document.flips.pictures, self)
        self._build()
        self._connect()
        self._refresh()

    def _build(self) -> None:
        self.bar = PairBar()
        self.headline = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.headline.setObjectName("flips_headline")
        self.headline.setProperty("role", "section")
        self.verdict = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.verdict.setObjectName("flips_verdict")
        self.verdict.setProperty("role", "muted")
        self.empty = EmptyState("flips", *NOTHING)
        self.filled = page()
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.filled)
        halves = QSplitter(Qt.Orientation.Horizontal)
        halves.setChildrenCollapsible(False)
        halves.setHandleWidth(1)
        halves.addWidget(self._build_classes())
        halves.addWidget(self._build_gallery())
        halves.setStretchFactor(0, 1)
        halves.setStretchFactor(1, 3)
        halves.setSizes([300, 700])
        lines = QVBoxLayout()
        lines.setContentsMargins(12, 0, 12, 8)
        lines.setSpacing(1)
        lines.addWidget(self.headline)
        lines.addWidget(self.verdict)
        below = QVBoxLayout(self.filled)
        below.setContentsMargins(0, 4, 0, 0)
        below.setSpacing(0)
        below.addLayout(lines)
        below.addWidget(halves, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.bar)
        layout.addWidget(self.stack, 1)

    def _build_classes(self) -> QWidget:
        self.bars = DivergingBars()
        self.bars.setObjectName("flips_classes")
        self.bars.setAccessibleName("Classes, the worst hit first")
        self.bars.setModel(self.classes)
        half = page()
        column = QVBoxLayout(half)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(BarsHead(self.bars, ("Classes", "lost", "won")))
        column.addWidget(self.bars, 1)
        return half

    def _build_gallery(self) -> QWidget:
        self.directions = ChoiceRow(("flips_all", *(f"flips_{one}" for one in DIRECTIONS)))
        self.directions.setObjectName("flips_directions")
        self.directions.setContentsMargins(12, 2, 12, 4)
        self.directions.name(("All", *titles(labelled=True).values()))
        self.grid = ThumbnailGrid()
        self.grid.setObjectName("flips_grid")
        self.grid.setAccessibleName("Samples whose class changed")
        self.grid.setModel(self.model)
        self.setFocusProxy(self.grid)
        half = page()
        column = QVBoxLayout(half)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.directions)
        column.addWidget(self.grid, 1)
        return half

    def _connect(self) -> None:
        document = self._document
        document.flips.changed.connect(self._on_compared)
        document.flips.pictured.connect(self._on_pictured)
        document.network_changed.connect(self._refresh)
        document.task_changed.connect(self._refresh)
        document.results_changed.connect(self._refresh)
        document.job_changed.connect(self._show_bar)
        self.bar.changed.connect(self._show_bar)
        self.bar.button.clicked.connect(self._on_compare)
        self.bars.selectionModel().currentChanged.connect(self._show_gallery)
        self.directions.chosen.connect(self._show_gallery)
        self.grid.seen.connect(self._on_seen)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._refresh()

    def _on_compared(self) -> None:
        pair = self._document.flips.pair
        if pair is not None:
            self.bar.choose(pair)
        self._refresh()

    def _refresh(self) -> None:
        """Show what is known now, once somebody looks."""
        if not self.isVisible():
            return
        document, flips = self._document, self._document.flips
        results = [(result.name, result.archive) for result in document.results]
        self.bar.offer([(ORIGINAL, ""), *results], results)
        self._show_bar()
        reason = self._reason()
        self.bar.setVisible(reason not in (NO_RESULT, NO_DATA, NO_CLASSES))
        self.stack.setCurrentWidget(self.empty if reason else self.filled)
        if reason:
            self.empty.explain(*reason)
            return
        if flips.found is not None and flips.found is not self._found:
            self._show_found(flips.found)
        self._on_seen(self.grid.visible_rows())

    def _reason(self) -> tuple[str, str] | None:
        """Return why there is nothing to show, None where there is something."""
        document, flips = self._document, self._document.flips
        if document.task is None:
            return NO_DATA
        if not has_classes(document.task):
            return NO_CLASSES
        if flips.failure:
            return "They cannot be compared", flips.failure
        if flips.awaited:
            return UNDER_WAY
        if flips.found is not None:
            return None
        return NOTHING if document.results else NO_RESULT

    def _show_bar(self) -> None:
        document, flips = self._document, self._document.flips
        shown = flips.pair == self.bar.pair and not flips.failure
        possible = document.can_find_flips and self.bar.after.count() > 0
        self.bar.button.setEnabled(possible and not shown)
        self.bar.button.setToolTip(SHOWN if shown else COMPARE)

    def _show_found(self, found: FlipsFound) -> None:
        self._found = found
        task = self._document.task
        labelled = bool(task and task.classes)
        counts = counted(found.flips, found.of)
        self.headline.setText(headline(counts, labelled))
        self.verdict.setText(verdict(counts, labelled))
        self.classes.show_flips(found.flips, ClassNames(task))
        self.bars.scale_to(self.classes.most)
        self.directions.choose(0)
        self.bars.setCurrentIndex(self.classes.index(0, 0))

    def _show_gallery(self) -> None:
        """Show the flips of the class and the direction that are chosen."""
        if self._found is None or not self.bars.currentIndex().isValid():
            return
        task, row = self._document.task, self.bars.currentIndex().row()
        wanted = self.classes.label(row)
        of_class = [one for one in self._found.flips if wanted in (None, one.label)]
        parts = [[one for one in of_class if direction_of(one) == kind] for kind in DIRECTIONS]
        named = titles(bool(task and task.classes))
        texts = [
            f"{named[kind]} {len(part):,}" for kind, part in zip(DIRECTIONS, parts, strict=True)
        ]
        self.directions.name((f"All {len(of_class):,}", *texts))
        place = self.directions.place
        self.model.show_flips(of_class if not place else parts[place - 1], ClassNames(task))

    def _on_compare(self) -> None:
        self._document.find_flips(*self.bar.pair)

    def _on_seen(self, rows: range) -> None:
        self._document.flips.look(self.model.samples(rows))

    def _on_pictured(self) -> None:
        self.grid.viewport().update()
