"""The graph of the network: what feeds what, and which layers lose channels together."""

from PySide6.QtCore import QEvent, QPointF, QRectF, QSignalBlocker, Qt
from PySide6.QtGui import QAccessible, QAccessibleEvent, QAction, QKeySequence, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from featherweight.gui import graph_steps, wording
from featherweight.gui.document import Document
from featherweight.gui.graph_blocks import Block, Picture
from featherweight.gui.graph_drafter import Draft, Drafter
from featherweight.gui.item_models.graph_boxes import COLOURINGS, GraphBoxes, shades
from featherweight.gui.item_models.graph_marks import GraphMarks
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.widgets.box_canvas import NOBODY, BoxCanvas
from featherweight.gui.widgets.colour_key import ColourKey
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.picture_bar import PictureBar
from featherweight.gui.widgets.text import ElidedLabel

ADDING = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
# What has to be asked for, and what then has come out.
ASKED = {
    "latency": ("Measure latency", "Time every layer on this machine"),
    "sensitivity": ("Estimate sensitivity", "Estimate what 4 bits in a layer do to the loss"),
}
NO_GRAPH = "There is no graph to draw"
HELP = "Wheel zooms, dragging moves, Shift and dragging selects, a double click folds and unfolds."


class GraphView(QWidget):
    """Search and colours above, the graph, and one line about what is selected."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._drafter = Drafter(self)
        self._draft: Draft | None = None
        self._model = GraphBoxes()
        self._words = LayerWords()
        self._marks = GraphMarks(self._model, self._words)
        self._found: list[Block] = []
        self._hit = NOBODY
        self._hovered = NOBODY
        self._following = False
        self._stale = True
        self._held: tuple[str, QPointF] | None = None
        self._wanted = ""
        self._build()
        self._connect()
        self._on_methods_changed()

    def _build(self) -> None:
        self.bar = PictureBar(COLOURINGS)
        self.canvas = BoxCanvas()
        self.canvas.setObjectName("graph")
        self.canvas.setAccessibleName("Graph of the network")
        self.canvas.tip = self._tip
        self.empty = EmptyState("layers", NO_GRAPH, "")
        self._stack = QStackedWidget()
        self.setFocusProxy(self.canvas)
        self._stack.addWidget(self.canvas)
        self._stack.addWidget(self.empty)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.bar)
        layout.addWidget(self._stack, 1)
        layout.addLayout(self._bottom())

    def _bottom(self) -> QHBoxLayout:
        self.about = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.about.setObjectName("graph_about")
        self.about.setProperty("role", "muted")
        self.key = ColourKey()
        self.measure_button = QPushButton(ASKED["latency"][0])
        self.measure_button.setObjectName("graph_measure")
        self.measure_button.hide()
        bottom = QHBoxLayout()
        bottom.setContentsMargins(12, 6, 12, 6)
        bottom.setSpacing(12)
        bottom.addWidget(self.about, 1)
        bottom.addWidget(self.measure_button)
        bottom.addWidget(self.key)
        return bottom

    def _connect(self) -> None:
        document, canvas = self._document, self.canvas
        document.network_changed.connect(self._on_network_changed)
        document.methods_changed.connect(self._on_methods_changed)
        document.recipe_changed.connect(self._on_recipe_changed)
        document.latency_changed.connect(self._on_figures_changed)
        document.sensitivity_changed.connect(self._on_figures_changed)
        document.task_changed.connect(self._on_standing_changed)
        document.job_changed.connect(self._on_standing_changed)
        document.selection_changed.connect(self._on_selection_changed)
        self._drafter.drawn.connect(self._on_drawn)
        canvas.clicked.connect(self._on_clicked)
        canvas.frame_clicked.connect(self._on_frame_clicked)
        canvas.hovered.connect(self._on_hovered)
        canvas.opened.connect(self._on_opened)
        canvas.closed.connect(self._on_closed)
        canvas.moved.connect(self._on_moved)
        canvas.swept.connect(self._on_swept)
        canvas.dismissed.connect(lambda: self._select((), Qt.KeyboardModifier.NoModifier))
        bar = self.bar
        bar.searched.connect(self._on_searched)
        bar.stepped.connect(self._on_stepped)
        bar.coloured.connect(self._on_coloured)
        bar.fold.clicked.connect(self._on_fold_all)
        bar.unfold.clicked.connect(lambda: self._refold(frozenset()))
        bar.fit.clicked.connect(canvas.fit)
        self.measure_button.clicked.connect(self._on_measure)
        find = QAction("Find in the graph", self)
        find.setShortcut(QKeySequence.StandardKey.Find)
        find.triggered.connect(self.bar.search_box.setFocus)
        self.addAction(find)

    @property
    def picture(self) -> Picture:
        """What is shown."""
        return self._model.picture

    @property
    def folded(self) -> frozenset[str]:
        """The blocks that are shown as one box."""
        return self._draft.folded if self._draft else frozenset()

    @property
    def busy(self) -> bool:
        """Whether another picture is on its way."""
        return self._drafter.busy

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if self._stale:
            self._begin()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._colour()
        super().changeEvent(event)

    def _on_network_changed(self) -> None:
        with QSignalBlocker(self.bar.search_box):
            self.bar.search_box.clear()
        self._drafter.drop()
        self._draft, self._found = None, []
        self._held, self._wanted = None, ""
        self._stale = True
        self._show_picture(Picture())
        if self.isVisible():
            self._begin()

    def _begin(self) -> None:
        self._stale = False
        network = self._document.network
        if network is None or not network.nodes:
            reason = network.graph_lock if network else "Open a network first."
            self.empty.explain(NO_GRAPH, reason or "The engine told of no graph.")
            self._stack.setCurrentWidget(self.empty)
            return
        self._stack.setCurrentWidget(self.canvas)
        self._drafter.begin(network.nodes, network.edges)

    def _on_drawn(self, draft: Draft) -> None:
        self._draft = draft
        self._show_picture(draft.picture)
        if not (self._held or self._wanted):
            self.canvas.fit_readably()
        self._hold()

    def _show_picture(self, picture: Picture) -> None:
        self._model = model = GraphBoxes(picture, self._document.layers)
        self._marks = GraphMarks(model, self._words)
        self._hovered = NOBODY
        size = (picture.width, picture.height)
        self.canvas.show_boxes(model.boxes(), model.frames(), picture.strokes, size)
        self.canvas.current = self._marks.first(self._document.selection)
        self._colour()

    def _hold(self) -> None:
        """Keep what was folded where it was, and go to what was searched for."""
        held, self._held = self._held, None
        boxes = (*self.picture.boxes, *self.picture.frames)
        found = next((box for box in boxes if held and box.block.key == held[0]), None)
        if held is not None and found is not None:
            now = self.canvas.to_view(QPointF(found.x + found.width / 2, found.y))
            self.canvas.pan(now.x() - held[1].x(), now.y() - held[1].y())
        wanted, self._wanted = self._wanted, ""
        if wanted:
            self._go_to(wanted)

    def _go_to(self, key: str) -> None:
        for place, shown in enumerate(self.picture.boxes):
            if shown.block.key == key:
                self.canvas.current = place
                self._select(self._model.names(shown.block), Qt.KeyboardModifier.NoModifier)
                self.canvas.centre_on(self.canvas.rect_of(place).center())
                self._show_current()

    def _on_methods_changed(self) -> None:
        self._words = LayerWords(self._document.methods)
        self._marks = GraphMarks(self._model, self._words)
        self._colour()

    def _on_recipe_changed(self) -> None:
        if self.bar.colouring == "choices":
            self._colour()

    def _on_figures_changed(self) -> None:
        self._model = GraphBoxes(self.picture, self._document.layers)
        self._marks = GraphMarks(self._model, self._words)
        self._colour()

    def _on_standing_changed(self) -> None:
        if self.bar.colouring == "sensitivity" and self._document.sensitivity is None:
            self._show_missing("sensitivity")

    def _on_coloured(self, what: str) -> None:
        if what == "sensitivity" and self._document.sensitivity is None:
            self._document.estimate_sensitivity()
        self._colour()

    def _on_measure(self) -> None:
        self.measure_button.setEnabled(False)
        if self.bar.colouring == "sensitivity":
            self._document.estimate_sensitivity()
        else:
            self._document.measure_latency()

    def _colour(self) -> None:
        what = self.bar.colouring
        colouring = self._model.colour_by(what, self._document.recipe, self._words)
        self._marks.fills = colouring.fills
        self.measure_button.hide()
        if what == "choices":
            self.key.show_entries(colouring.entries or (("", "Nothing is chosen yet"),))
        elif what in ASKED and not colouring.most:
            self._show_missing(what)
        else:
            most = colouring.most or "0"
            most = f"+{most} {wording.SENSITIVITY}" if what == "sensitivity" else most
            self.key.show_scale(shades(), "0", most)
        self._mark()

    def _show_missing(self, what: str) -> None:
        """Say why a figure has no colours, and offer to ask for it."""
        document, (text, tip) = self._document, ASKED[what]
        said, possible = "Not measured yet", document.network is not None
        if what == "sensitivity":
            said, possible = self._sensitivity_missing(), document.can_estimate
        self.measure_button.setText(text)
        self.measure_button.setToolTip(tip)
        self.measure_button.setVisible(possible)
        self.measure_button.setEnabled(possible)
        self.key.show_entries((("", said),))

    def _sensitivity_missing(self) -> str:
        document, job = self._document, self._document.job
        if document.sensitivity is not None:
            return "No layer can be told"
        if job is not None and job.active:
            return "Estimating…" if job.kind == "sensitivity" else "Waits for the job"
        return "Not estimated yet" if document.task else "Needs data to estimate it on"

    def _on_selection_changed(self) -> None:
        if not self._following:
            place = self._marks.first(self._document.selection)
            self.canvas.current = place
            if place != NOBODY and self.isVisible():
                self.canvas.bring_into_view(self.canvas.rect_of(place))
        self._mark()

    def _mark(self) -> None:
        """Let the selection stand out, and what loses channels together with it."""
        selection = self._document.selection
        self.canvas.show_looks(self._marks.looks(selection, self._hovered, self._found))
        self._show_current()

    def _block(self, place: int) -> Block:
        return self.picture.boxes[place].block

    def _on_hovered(self, place: int) -> None:
        self._hovered = place
        self._mark()

    def _on_clicked(self, place: int, modifiers: Qt.KeyboardModifier) -> None:
        self.canvas.current = place
        if place != NOBODY or not modifiers & ADDING:
            names = self._model.names(self._block(place)) if place != NOBODY else ()
            self._select(names, modifiers)

    def _on_frame_clicked(self, place: int, modifiers: Qt.KeyboardModifier) -> None:
        self._select(self._model.names(self.picture.frames[place].block), modifiers)

    def _on_swept(self, area: QRectF, modifiers: Qt.KeyboardModifier) -> None:
        names = [n for p in self.canvas.boxes_in(area) for n in self._model.names(self._block(p))]
        kept = self._document.selection if modifiers & Qt.KeyboardModifier.ControlModifier else ()
        self._select((*kept, *names), Qt.KeyboardModifier.NoModifier)

    def _select(self, names: tuple[str, ...], modifiers: Qt.KeyboardModifier) -> None:
        before = self._document.selection
        if modifiers & ADDING:
            if modifiers & Qt.KeyboardModifier.ControlModifier and set(names) <= set(before):
                names = tuple(name for name in before if name not in names)
            else:
                names = (*before, *names)
        self._following = True
        self._document.select(tuple(dict.fromkeys(names)))
        self._following = False
        self._mark()

    def _on_moved(self, arrow: str, modifiers: Qt.KeyboardModifier) -> None:
        if not self.picture.boxes:
            return
        current = self.canvas.current
        place = 0 if current == NOBODY else graph_steps.step(self.picture, current, arrow)
        self._on_clicked(place, modifiers & Qt.KeyboardModifier.ShiftModifier)
        self.canvas.bring_into_view(self.canvas.rect_of(place))

    def _on_opened(self, place: int) -> None:
        block = self._block(place)
        if block.node is None:
            self._refold(self.folded - {block.key}, self.picture.boxes[place].block)

    def _on_closed(self, place: int) -> None:
        block = self.picture.frames[place].block
        inner = {found.key for found in block.blocks()}
        self._refold(self.folded | inner, block)

    def _on_fold_all(self) -> None:
        if self._draft is not None:
            root = self._draft.root
            self._refold(frozenset(b.key for b in root.blocks() if b is not root))

    def _refold(self, folded: frozenset[str], held: Block | None = None) -> None:
        network = self._document.network
        if self._draft is None or network is None:
            return
        if held is not None:
            boxes = (*self.picture.boxes, *self.picture.frames)
            shown = next(box for box in boxes if box.block is held)
            top = QPointF(shown.x + shown.width / 2, shown.y)
            self._held = (held.key, self.canvas.to_view(top))
        self._drafter.redraw(self._draft.root, network.edges, folded)

    def _on_searched(self, text: str) -> None:
        self._found = graph_steps.find(self._draft.root, text) if self._draft else []
        self._hit = NOBODY
        self._mark()

    def _on_stepped(self, by: int) -> None:
        if not self._found:
            return
        self._hit = (self._hit + by) % len(self._found) if self._hit != NOBODY else 0
        block = self._found[self._hit]
        hidden = graph_steps.around(block) & self.folded
        if hidden:
            self._wanted = block.key
            self._refold(self.folded - hidden)
        else:
            self._go_to(block.key)

    def _tip(self, place: int) -> str:
        return "\n".join(self._sentences(place))

    def _sentences(self, place: int) -> tuple[str, ...]:
        return self._model.describe(self._block(place), self._words, self._document.recipe)

    def _show_current(self) -> None:
        """Say in words what the selection is, below the graph and to screen readers."""
        document, place = self._document, self.canvas.current
        partners = self._marks.partners(document.selection)
        if place != NOBODY:
            said = self._sentences(place)
        elif document.selection:
            said = (f"{len(document.selection)} layers selected",)
            if partners:
                said = (*said, f"{len(partners)} more lose channels together with them")
        elif self.bar.search_box.text():
            said = (f"{len(self._found)} found",)
        else:
            said = (HELP,)
        self.about.setText("  ·  ".join(said))
        spoken = list(said)
        if place != NOBODY:
            for word, names in (
                ("From", graph_steps.sources(self.picture, place)),
                ("To", graph_steps.targets(self.picture, place)),
            ):
                if names:
                    spoken.append(f"{word} {', '.join(names)}")
        text = ". ".join(spoken)
        if text != self.canvas.accessibleDescription():
            self.canvas.setAccessibleDescription(text)
            change = QAccessibleEvent(self.canvas, QAccessible.Event.DescriptionChanged)
            QAccessible.updateAccessibility(change)
