"""The layer table: where size, compute and latency sit, and what the recipe does to each layer."""

from collections.abc import Callable, Collection

from PySide6.QtCore import QEvent, QItemSelectionModel, QModelIndex, QPoint, QSignalBlocker, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QMenu, QPushButton, QVBoxLayout, QWidget

from featherweight.gui import icons, theme, wording
from featherweight.gui.document import Document
from featherweight.gui.holds import Hold
from featherweight.gui.item_models.layer_table import Column, LayerTableModel
from featherweight.gui.item_models.layer_tree import LayerTree
from featherweight.gui.widgets.text import ElidedLabel

HOLD_ACTIONS: tuple[tuple[Hold, str, str, str], ...] = (
    ("kept", "Keep choices in budgets", "Ctrl+K", "Budgets keep the choices of these layers"),
    ("left", "Leave out of budgets", "Ctrl+Shift+K", "Budgets leave these layers as they are"),
)


class LayerTableView(QWidget):
    """Filter, table, and one line about what is selected."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._following = False
        self.model = LayerTableModel(self)
        self.tree = LayerTree(self.model)
        self.tree.setObjectName("layer_table")
        self.tree.setAccessibleName("Layers of the network")
        self._build()
        self._connect()
        self._on_network_changed()

    def _build(self) -> None:
        self.filter_box = QLineEdit()
        self.filter_box.setObjectName("layer_filter")
        self.filter_box.setAccessibleName("Filter layers")
        self.filter_box.setPlaceholderText("Filter by name, kind, method or “locked”")
        self.filter_box.setToolTip("Show only layers that hold every word, for example: conv svd")
        self.filter_box.setClearButtonEnabled(True)
        self._glass = QAction(self)
        self.filter_box.addAction(self._glass, QLineEdit.ActionPosition.LeadingPosition)
        self.measure_button = QPushButton("Measure latency")
        self.measure_button.setObjectName("measure_latency_button")
        self.measure_button.setToolTip("Time every layer on this machine")
        self.about = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.about.setObjectName("layer_about")
        self.about.setProperty("role", "muted")
        top = QHBoxLayout()
        top.setContentsMargins(12, 8, 12, 8)
        top.setSpacing(8)
        top.addWidget(self.filter_box, 1)
        top.addWidget(self.measure_button)
        bottom = QHBoxLayout()
        bottom.setContentsMargins(12, 6, 12, 6)
        bottom.addWidget(self.about)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self.tree, 1)
        layout.addLayout(bottom)
        self._dress()

    def _connect(self) -> None:
        document = self._document
        document.network_changed.connect(self._on_network_changed)
        document.methods_changed.connect(self._on_methods_changed)
        document.recipe_changed.connect(self._on_recipe_changed)
        document.prediction_changed.connect(self._on_prediction_changed)
        document.latency_changed.connect(self._on_figures_changed)
        document.sensitivity_changed.connect(self._on_figures_changed)
        document.selection_changed.connect(self._on_selection_changed)
        self.filter_box.textChanged.connect(self._on_filter_changed)
        self.measure_button.clicked.connect(self._on_measure)
        document.noticed.connect(self._show_whether_measured)
        self.tree.header().sortIndicatorChanged.connect(self._on_sort_changed)
        self.tree.selectionModel().selectionChanged.connect(self._on_rows_selected)
        find = QAction("Filter layers", self)
        find.setShortcut(QKeySequence.StandardKey.Find)
        find.triggered.connect(self.filter_box.setFocus)
        self.addAction(find)
        self.tree.hold_clicked.connect(self._on_hold_clicked)
        document.holds_changed.connect(self._show_holds)
        document.atlas.changed.connect(self._show_holds)
        document.choices_allocated.connect(self._on_allocated)
        self.tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.tree.customContextMenuRequested.connect(self._on_menu)
        self._hold_actions: dict[Hold, QAction] = {}
        for hold, text, shortcut, tip in HOLD_ACTIONS:
            action = self._hold_actions[hold] = QAction(text, self)
            action.setObjectName(f"action_hold_{hold}")
            action.setCheckable(True)
            action.setShortcut(QKeySequence(shortcut))
            action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            action.setToolTip(tip)
            action.triggered.connect(
                lambda _=False, h=hold: self._hold(self._document.selection, h)
            )
            self.addAction(action)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._dress()
        super().changeEvent(event)

    def _dress(self) -> None:
        self.measure_button.setIcon(icons.icon("stopwatch"))
        self._glass.setIcon(icons.icon("filter", theme.colours().muted))

    def _on_network_changed(self) -> None:
        with QSignalBlocker(self.filter_box):
            self.filter_box.clear()
        self.model.filter("")
        self.model.show_layers(self._document.layers)
        self._show_figures()
        self._on_methods_changed()
        self._on_prediction_changed()
        self._show_holds()
        self.tree.expandAll()
        self._on_selection_changed()
        self._show_whether_measured()

    def _on_methods_changed(self) -> None:
        self.model.show_methods(self._document.methods)
        self._on_recipe_changed()

    def _on_recipe_changed(self) -> None:
        self.model.show_recipe(self._document.recipe)

    def _on_prediction_changed(self) -> None:
        self.model.show_prediction(self._document.prediction)

    def _on_figures_changed(self) -> None:
        self._show_figures()
        self._show_whether_measured()

    def _show_figures(self) -> None:
        self.model.show_figures(self._document.layers)
        self.tree.show_column(Column.SENSITIVITY, self._document.sensitivity is not None)

    def _show_holds(self) -> None:
        """Show the marks once there is something that budgets can go by."""
        document = self._document
        self.model.show_holds(document.holds)
        used = bool(document.atlas.readings) or not document.holds.empty
        self.tree.show_column(Column.HOLD, used)

    def _on_hold_clicked(self, index: QModelIndex, hold: Hold) -> None:
        names = self.model.layers_of(index)
        self._hold(
            self._document.selection if set(names) <= set(self._document.selection) else names, hold
        )

    def _hold(self, names: Collection[str], hold: Hold) -> None:
        """Hold layers so, or let go of them where all of them are held so already."""
        document = self._document
        free = [name for name in names if not self.model.is_locked(document.layers[name])]
        held = all(document.holds.of(name) == hold for name in free)
        document.hold(free, None if held else hold)

    def _on_menu(self, where: QPoint) -> None:
        document, names = self._document, self._document.selection
        if not names:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        free = [name for name in names if not self.model.is_locked(document.layers[name])]
        for hold, action in self._hold_actions.items():
            action.setChecked(bool(free) and all(document.holds.of(name) == hold for name in free))
            menu.addAction(action)
        menu.addSeparator()
        clear = menu.addAction("Clear choices")
        clear.setEnabled(any(name in document.recipe.layers for name in names))
        clear.triggered.connect(lambda: document.clear_choices(names))
        menu.popup(self.tree.viewport().mapToGlobal(where))

    def _on_allocated(self, changed: Collection[str]) -> None:
        self.tree.flash(changed)

    def _on_measure(self) -> None:
        self.measure_button.setEnabled(False)
        self.measure_button.setText("Measuring…")
        self._document.measure_latency()

    def _show_whether_measured(self) -> None:
        again = self._document.latency is not None
        self.measure_button.setText("Measure again" if again else "Measure latency")
        self.measure_button.setEnabled(self._document.network is not None)

    def _on_filter_changed(self, text: str) -> None:
        self._rearranged(lambda: self.model.filter(text))

    def _on_sort_changed(self, column: int, order: Qt.SortOrder) -> None:
        self._rearranged(lambda: self.model.sort(column, order))

    def _on_rows_selected(self) -> None:
        if self._following:
            return
        names = self.model.layers_in(self.tree.selectionModel().selection())
        self._following = True
        self._document.select(names)
        self._following = False
        self._mark()

    def _on_selection_changed(self) -> None:
        if not self._following:
            self._following = True
            self._select_rows()
            self._following = False
        self._mark()

    def _select_rows(self) -> None:
        names = self._document.selection
        flags = QItemSelectionModel.SelectionFlag
        rows = self.model.selection_of(names)
        self.tree.selectionModel().select(rows, flags.ClearAndSelect | flags.Rows)
        index = self.model.index_of(names[0]) if len(names) == 1 else QModelIndex()
        if index.isValid():
            self.tree.selectionModel().setCurrentIndex(index, flags.NoUpdate)
            self.tree.scrollTo(index)

    def _mark(self) -> None:
        selection = self._document.selection
        layers = self._document.layers
        partners = {partner for name in selection for partner in layers[name].coupled}
        self.tree.inside = frozenset(selection)
        self.tree.coupled = frozenset(partners - set(selection))
        self.tree.viewport().update()
        self.about.setText(self._summary())

    def _summary(self) -> str:
        document = self._document
        if document.network is None:
            return ""
        names = document.selection or tuple(document.layers)
        layers = [document.layers[name] for name in names]
        parts = [
            f"{wording.count(sum(layer.parameters for layer in layers))} parameters",
            f"{wording.count(sum(layer.macs or 0 for layer in layers))} MACs",
        ]
        if len(layers) == 1:
            parts.insert(0, f"{layers[0].name}: {layers[0].kind} {layers[0].summary}")
            parts += self.model.lock_reasons(layers[0])
        else:
            parts.insert(0, f"{len(layers)} layers{' selected' if document.selection else ''}")
            network = document.network
            if not document.selection and network.uncounted:
                parts.append(f"not counted: {', '.join(network.uncounted)}")
            if not document.selection:
                parts += [*network.notes, *filter(None, (network.graph_lock,))]
        if self.tree.coupled:
            parts.append(f"{len(self.tree.coupled)} more lose channels together with the selection")
        return "  ·  ".join(parts)

    def _rearranged(self, arrange: Callable[[], None]) -> None:
        arrange()
        self.tree.expandAll()
        self._on_selection_changed()
