"""The atlas: how much every layer loses with every method and strength, as heat and as curves."""

from PySide6.QtCore import QItemSelection, QPoint, QSignalBlocker, Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QMenu,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.readings import Reading
from featherweight.gui import wording
from featherweight.gui.dialogs.sweep_plan import SweepDialog
from featherweight.gui.document import Document
from featherweight.gui.item_models.damage_curves import Curves
from featherweight.gui.item_models.heat_table import HeatTable
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.item_models.reading_words import DAMAGES
from featherweight.gui.item_models.sweep_families import Family, SweepFamilies
from featherweight.gui.item_models.sweep_words import sweep_state
from featherweight.gui.widgets.curves_panel import CurvesPanel
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.heat_key import HeatKey
from featherweight.gui.widgets.heat_map import HeatMap
from featherweight.gui.widgets.sweep_bar import SweepBar
from featherweight.gui.widgets.text import ElidedLabel, page

BEST = "Best method for each size"
SIZES = "Columns: stored at most, of the layer's own size"
SIZE_AXIS = "Stored size, % of the layer's own"
NO_DATA = ("No data yet", "Choose the data first: a sweep measures on it what each layer loses.")
NOTHING_READ = (
    "Nothing has been read yet",
    "Press Start to try methods and strengths on one layer at a time.",
)


class AtlasView(QWidget):
    """The plan above, the map of all layers, and beside it curves of the selected ones."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._following = False
        self._families: tuple[Family, ...] = ()
        self._words = LayerWords()
        self.model = HeatTable(self)
        self._build()
        self._connect()
        self._refresh()

    @property
    def family(self) -> Family | None:
        """The family whose strengths the map shows, None where it shows the best of all."""
        place = self.shown.currentIndex() - 1
        return self._families[place] if 0 <= place < len(self._families) else None

    def _build(self) -> None:
        self.bar = SweepBar()
        self.map = HeatMap()
        self.map.setObjectName("heat_map")
        self.map.setAccessibleName("Damage by layer and strength")
        self.map.setModel(self.model)
        self.map.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setFocusProxy(self.map)
        self.curves = CurvesPanel()
        self.empty = EmptyState("chart", *NOTHING_READ)
        self.halves = QSplitter(Qt.Orientation.Horizontal)
        self.halves.setChildrenCollapsible(False)
        self.halves.setHandleWidth(1)
        self.halves.addWidget(self._build_map())
        self.halves.addWidget(self.curves)
        self.halves.setStretchFactor(0, 3)
        self.halves.setStretchFactor(1, 2)
        self.halves.setSizes([600, 400])
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.key = HeatKey()
        filled = page()
        below = QVBoxLayout(filled)
        below.setContentsMargins(0, 0, 0, 0)
        below.addWidget(self.halves, 1)
        bottom = QHBoxLayout()
        bottom.setContentsMargins(12, 2, 12, 6)
        bottom.addWidget(self.key, 1)
        below.addLayout(bottom)
        self.filled = filled
        self.stack.addWidget(filled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.bar)
        layout.addWidget(self.stack, 1)

    def _build_map(self) -> QWidget:
        self.shown = QComboBox()
        self.shown.setObjectName("atlas_shown")
        self.shown.setAccessibleName("What the map shows")
        self.shown.setToolTip("The strengths of one method, or what harms each layer least")
        self.shown.addItem(BEST)
        self.across = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.across.setProperty("role", "muted")
        top = QHBoxLayout()
        top.setContentsMargins(12, 0, 12, 4)
        top.setSpacing(12)
        top.addWidget(self.shown)
        top.addWidget(self.across, 1)
        half = page()
        column = QVBoxLayout(half)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(top)
        column.addWidget(self.map, 1)
        return half

    def _connect(self) -> None:
        document = self._document
        document.network_changed.connect(self._refresh)
        document.methods_changed.connect(self._refresh)
        document.task_changed.connect(self._refresh)
        document.job_changed.connect(self._show_bar)
        document.recipe_changed.connect(self._show_heat)
        document.selection_changed.connect(self._on_selection_changed)
        document.atlas.changed.connect(self._refresh)
        document.atlas.planned.connect(self._show_bar)
        self.bar.start_button.clicked.connect(self._on_start)
        self.bar.change_button.clicked.connect(self._on_change)
        self.shown.activated.connect(self._refresh)
        self.curves.changed.connect(self._show_curves)
        self.map.chosen.connect(self._on_chosen)
        self.map.customContextMenuRequested.connect(self._on_menu)
        self.map.selectionModel().selectionChanged.connect(self._on_rows_selected)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._refresh()

    def _refresh(self) -> None:
        """Show what is known now, once somebody looks."""
        if not self.isVisible():
            return
        document, atlas = self._document, self._document.atlas
        self._words = self.model.words = LayerWords(document.methods)
        self._show_families()
        self._show_names()
        self.model.show_readings(document.layers, atlas, self.family)
        scale = self.model.scale
        self.key.show_scale(self.model.damage, scale.low, scale.high)
        self.stack.setCurrentWidget(self.filled if atlas.readings else self.empty)
        self.empty.explain(*(NOTHING_READ if document.task else NO_DATA))
        self._show_heat()
        self._on_selection_changed()
        self._show_bar()

    def _show_families(self) -> None:
        kept = self.shown.currentText()
        self._families = SweepFamilies(self._document.methods).of(self._document.atlas.choices)
        titles = [BEST, *(family.title for family in self._families)]
        if titles != [self.shown.itemText(at) for at in range(self.shown.count())]:
            with QSignalBlocker(self.shown):
                self.shown.clear()
                self.shown.addItems(titles)
                self.shown.setCurrentIndex(max(self.shown.findText(kept), 0))

    def _show_names(self) -> None:
        """Call damage and metric by what the sweep said that they are."""
        atlas, task = self._document.atlas, self._document.task
        metric = atlas.metric or next(iter(task.metrics if task else ()), "")
        named = wording.title_of(metric) if metric else "Accuracy"
        self.model.damage = DAMAGES[atlas.damage]
        self.model.metric = named
        self.curves.show_values(
            {
                "damage": self.model.damage,
                "loss": "Rise of the loss",
                "metric": f"Fall of {named[0].lower()}{named[1:]}, points",
            }
        )
        family = self.family
        self.across.setText(f"Columns: {family.strength.lower()}" if family else SIZES)
        self.curves.over.setVisible(family is not None)

    def _show_heat(self) -> None:
        if self.isVisible():
            self.map.show_heat(self.model.heat(self._document.recipe))

    def _show_bar(self) -> None:
        document, atlas = self._document, self._document.atlas
        unplanned = atlas.plan is None and not atlas.asking and not atlas.failure
        if unplanned and self.isVisible() and document.can_sweep:
            atlas.ask(None)
            return
        state = sweep_state(document)
        self.bar.show_state(state)

    def _show_curves(self) -> None:
        document, family = self._document, self.family
        names, readings = document.selection, document.atlas.readings
        by_size = family is None or bool(self.curves.over.currentData())
        made = Curves(
            self.curves.value.currentData(), by_size, self._words,
            self.model.damage, self.model.metric,
        )  # fmt: skip
        if not names:
            self.curves.show_curves("", {}, "")
        elif family is None:
            curves = made.of_families(document.layers, readings, names[0], self._families)
            self.curves.show_curves(names[0], curves, SIZE_AXIS)
        else:
            curves = made.of_layers(document.layers, readings, names, family)
            bottom = SIZE_AXIS if by_size else family.strength
            self.curves.show_curves(family.title, curves, bottom)

    def _on_start(self) -> None:
        document, plan = self._document, self._document.atlas.plan
        if self.bar.start_button.text() == "Pause":
            document.cancel()
        elif plan is not None:
            document.sweep(plan)

    def _on_change(self) -> None:
        SweepDialog(self._document, self.window()).open()

    def _on_rows_selected(self, *_: QItemSelection) -> None:
        if self._following:
            return
        rows = self.map.selectionModel().selectedRows()
        self._following = True
        self._document.select(tuple(self.model.names[row.row()] for row in rows))
        self._following = False
        self._show_curves()

    def _on_selection_changed(self) -> None:
        if self._following or not self.isVisible():
            return
        self._following = True
        self.map.select_rows(self.model.rows_of(self._document.selection))
        self._following = False
        self._show_curves()

    def _on_chosen(self, row: int, column: int) -> None:
        reading = self.model.reading(row, column)
        if reading is not None and not reading.reason:
            self._use(reading)

    def _use(self, reading: Reading) -> None:
        words = " → ".join(self._words.chosen(reading.choice))
        names = reading.layers
        to = names[0] if len(names) == 1 else f"{len(names)} layers"
        self._document.use_choice(names, reading.choice, f"{words} for {to}")

    def _on_menu(self, where: QPoint) -> None:
        at = self.map.indexAt(where)
        if not at.isValid():
            return
        reading, name = self.model.reading(at.row(), at.column()), self.model.names[at.row()]
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        use = menu.addAction("Use this choice")
        use.setEnabled(reading is not None and not reading.reason)
        use.triggered.connect(lambda: self._on_chosen(at.row(), at.column()))
        clear = menu.addAction(f"Clear the choices of {name}")
        clear.setEnabled(name in self._document.recipe.layers)
        clear.triggered.connect(lambda: self._document.clear_choices((name,)))
        menu.popup(self.map.viewport().mapToGlobal(where))
