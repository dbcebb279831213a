"""The budget: one slider moves the choices of all layers along the frontier of what is lost."""

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QStackedLayout, QWidget

from featherweight.engine.readings import RESOURCES, Frontier, Limits, Resource, Spread
from featherweight.engine.recipe import Choice
from featherweight.gui import wording
from featherweight.gui.budget_text import (
    EXAMPLES,
    TITLES,
    budget_words,
    ratio_words,
    read_budget,
)
from featherweight.gui.document import Document
from featherweight.gui.item_models import budget_words as said
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.item_models.reading_words import DAMAGES
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.budget_bar import BudgetBar
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.figure_row import FigureRow
from featherweight.gui.widgets.frontier_chart import FrontierDot
from featherweight.gui.widgets.guilt_list import GuiltList
from featherweight.gui.widgets.method_menu import MethodMenu
from featherweight.gui.widgets.panel import Panel, Section
from featherweight.gui.widgets.text import ElidedLabel, label

NO_DATA = ("No data yet", "Choose the data first: budgets go by what layers lose on it.")
NOTHING_READ = (
    "Nothing has been read yet",
    "A budget goes by what each layer loses with each method. The atlas reads that.",
)
NOT_TIMED = "Nothing was timed yet: change the plan in the atlas to time layers, too."
COSTS_NOTHING = "The network costs nothing of it."
NO_GUILT = "No layer loses clearly more than was predicted of it."
CHART_SHARE, LOWEST_CHART, HIGHEST_CHART = 0.25, 150, 320
FIGURES = {"size": 10, "macs": 8, "drop": 13}


class BudgetView(QWidget):
    """Shows the frontier, moves the budget, and says what the recipe costs and loses."""

    atlas_asked = Signal()

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._shown_frontier: object = None
        self._stack = QStackedLayout(self)
        self._build_empty()
        self._build_filled()
        self._connect()
        self._refresh()

    def _build_empty(self) -> None:
        self.empty = EmptyState("budget", *NOTHING_READ)
        self.atlas_button = QPushButton("Open the atlas")
        self.atlas_button.setObjectName("open_atlas_button")
        self.atlas_button.setToolTip("Show the page on which a sweep is planned and started")
        self.empty.offer(self.atlas_button)
        self._stack.addWidget(self.empty)

    def _build_filled(self) -> None:
        self.panel = Panel("Budget")
        self.panel.setObjectName("budget_panel")
        self.bar = BudgetBar()
        self.trouble = label("", "warning", wrap=True)
        self.trouble.setObjectName("budget_trouble")
        self.held = label("", "muted", wrap=True)
        self.held.setObjectName("budget_held")
        self.again_button = QPushButton("Allocate again")
        self.again_button.setObjectName("allocate_again_button")
        self.again_button.setToolTip("Choose anew for this budget, with what is held and read now")
        held = QHBoxLayout()
        held.addWidget(self.held, 1)
        held.addWidget(self.again_button)
        for piece in (*self._build_head(), self.bar, self.trouble, held):
            self.panel.add(piece)
        self._build_figures()
        self._build_actual()
        self._stack.addWidget(self.panel)

    def _build_head(self) -> tuple[QHBoxLayout, QHBoxLayout]:
        self.resource = QComboBox()
        self.resource.setObjectName("budget_resource")
        self.resource.setAccessibleName("What the budget limits")
        self.resource.setToolTip("What the budget limits")
        for resource in RESOURCES:
            self.resource.addItem(TITLES[resource], resource)
        self.methods = MethodMenu()
        self.methods.setObjectName("budget_methods")
        self.methods.setAccessibleName("Methods that budgets use")
        self.methods.setToolTip("Methods that budgets use")
        self.caption = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.caption.setProperty("role", "muted")
        self.caption.setObjectName("budget_caption")
        self.basis = BasisBadge("estimated")
        top, below = QHBoxLayout(), QHBoxLayout()
        top.addWidget(self.resource)
        top.addStretch(1)
        top.addWidget(self.methods)
        below.addWidget(self.caption, 1)
        below.addWidget(self.basis)
        return top, below

    def _build_figures(self) -> None:
        self.known = BasisBadge("estimated")
        self.known.setObjectName("budget_known")
        section = Section("Predicted for the recipe", self.known)
        self.figures = FigureRow("predicted", FIGURES)
        self.refine_button = QPushButton("Refine with the real network")
        self.refine_button.setObjectName("refine_button")
        self.refine_button.setToolTip(
            "Run the network with these choices and correct them by what it really loses"
        )
        section.body.addWidget(self.figures)
        section.body.addWidget(self.refine_button, 0, Qt.AlignmentFlag.AlignLeft)
        self.panel.add(section)

    def _build_actual(self) -> None:
        self.actual = Section("After the run", BasisBadge("measured"))
        self.actual.setObjectName("actual_section")
        self.outcome = FigureRow("actual", FIGURES)
        self.gap = label("", "muted", wrap=True)
        self.gap.setObjectName("budget_gap")
        self.blame_button = QPushButton("Find the layers to blame")
        self.blame_button.setObjectName("blame_button")
        self.blame_button.setToolTip("Put layers back one after the other and see which helps")
        self.guilty = GuiltList()
        self.guilty.setObjectName("guilty_layers")
        for piece in (self.outcome, self.gap):
            self.actual.body.addWidget(piece)
        self.actual.body.addWidget(self.blame_button, 0, Qt.AlignmentFlag.AlignLeft)
        self.actual.body.addWidget(self.guilty)
        self.panel.add(self.actual)

    def _connect(self) -> None:
        document = self._document
        for changed in (
            *(document.network_changed, document.task_changed, document.methods_changed),
            *(document.recipe_changed, document.prediction_changed, document.results_changed),
            *(document.job_changed, document.holds_changed, document.allocations.changed),
        ):
            changed.connect(self._refresh)
        self.atlas_button.clicked.connect(self.atlas_asked)
        self.resource.activated.connect(self._on_resource)
        self.methods.chosen.connect(document.allow_methods)
        self.bar.grabbed.connect(document.allocations.begin_step)
        self.bar.moved.connect(self._on_moved)
        self.bar.written.connect(self._on_written)
        self.bar.drop_written.connect(self._on_drop)
        self.bar.chart.tip = self._tip
        self.again_button.clicked.connect(self._on_again)
        self.refine_button.clicked.connect(document.refine)
        self.blame_button.clicked.connect(document.find_guilty)
        self.guilty.relaxed.connect(self._on_relaxed)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._refresh()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        height = round(self.height() * CHART_SHARE)
        self.bar.chart.setFixedHeight(min(max(height, LOWEST_CHART), HIGHEST_CHART))

    @property
    def _resource(self) -> Resource:
        return self._document.allocations.resource

    @property
    def _frontier(self) -> Frontier | None:
        """The frontier, where the source costs anything of the resource that is known."""
        frontier = self._document.allocations.frontier
        return frontier if frontier is not None and frontier.source > 0 else None

    @property
    def _damage(self) -> str:
        return DAMAGES[self._document.atlas.damage]

    def _refresh(self) -> None:
        """Show what is known now, once somebody looks."""
        document = self._document
        if not self.isVisible():
            return
        read = bool(document.atlas.readings)
        self.empty.explain(*(NOTHING_READ if document.task else NO_DATA))
        self.atlas_button.setVisible(document.task is not None)
        self._stack.setCurrentWidget(self.panel if read else self.empty)
        if not read:
            return
        document.allocations.look()
        self._show_frontier()
        self._show_budget()
        self._show_methods()
        self._show_figures()
        self._show_actual()

    def _show_frontier(self) -> None:
        allocations, frontier = self._document.allocations, self._frontier
        with QSignalBlocker(self.resource):
            self.resource.setCurrentIndex(RESOURCES.index(allocations.resource))
        self.bar.setVisible(frontier is not None)
        costless = allocations.frontier is not None and frontier is None
        waits = frontier is None and not allocations.trouble and not costless
        self.caption.setText("Working out the frontier…" if waits else "")
        self.basis.setVisible(frontier is not None)
        costs_nothing = NOT_TIMED if allocations.resource == "latency" else COSTS_NOTHING
        said_now = costs_nothing if costless else allocations.trouble
        self.trouble.setText(allocations.refusal or said_now)
        self.trouble.setVisible(bool(self.trouble.text()))
        if frontier is None:
            self._shown_frontier = None
            return
        metric = said.metric_title(frontier.metric)
        self.caption.setText(
            f"{metric}: points lost" if said.tells_drop(frontier) else self._damage
        )
        self.basis.show_basis(frontier.basis)
        if frontier is not self._shown_frontier:
            self._shown_frontier = frontier
            self.bar.show_frontier(said.dots_of(frontier), frontier.source)

    def _show_budget(self) -> None:
        document, frontier = self._document, self._frontier
        if frontier is None:
            return
        wish, present = document.allocations.wish, self._present_cost()
        standing = document.allocations.awaited or document.allocated
        chosen = wish is not None and (standing or bool(document.allocations.refusal))
        budget = self._wished() if chosen else present
        share = ratio_words(budget / frontier.source)
        self.bar.show_budget(budget, budget_words(self._resource, budget), share, chosen)
        drop = wish.limits.drop if wish is not None and chosen else None
        self.bar.show_drop(drop, said.tells_drop(frontier))
        loss = self._present_drop() if said.tells_drop(frontier) else self._present_damage()
        value, error = (loss.value, loss.error) if isinstance(loss, Spread) else (loss, 0.0)
        mark = None if value is None else FrontierDot(present, value, error)
        self.bar.chart.show_present(mark)

    def _wished(self) -> float:
        """Return the budget that was asked for, of a drop what the allocation costs."""
        allocations = self._document.allocations
        limit = getattr(allocations.wish.limits, self._resource) if allocations.wish else None
        if limit is None and allocations.allocation is not None:
            limit = said.cost_of(allocations.allocation, self._resource)
        return self._present_cost() if limit is None else float(limit)

    def _present_cost(self) -> float:
        document, frontier = self._document, self._frontier
        source = frontier.source if frontier else 1.0
        allocation = document.allocations.allocation if document.allocated else None
        cost = said.cost_of(allocation, self._resource) if allocation else None
        if cost is not None or self._resource == "latency":
            return source if cost is None else cost
        after = document.prediction.after if document.prediction else None
        return float(getattr(after, self._resource)) if after else source

    def _present_damage(self) -> float | None:
        document = self._document
        if document.allocated and document.allocations.allocation is not None:
            return document.allocations.allocation.damage
        loss = document.allocations.loss
        return loss.damage if loss is not None and not loss.unread else None

    def _present_drop(self) -> Spread | None:
        document = self._document
        if document.allocated and document.allocations.allocation is not None:
            return document.allocations.allocation.drop
        loss = document.allocations.loss
        return loss.drop if loss is not None and not loss.unread else None

    def _show_methods(self) -> None:
        document = self._document
        words = LayerWords(document.methods)
        names = {name for key in document.atlas.choices for _, name, _ in key}
        known = {m.name: words.title(m.name) for m in document.methods if m.name in names}
        self.methods.show_methods(known, document.holds.methods)
        unread = self._unread()
        self.held.setText(said.held_words(document.holds, unread))

    def _unread(self) -> tuple[str, ...]:
        """Return the layers of whose choices nothing was read, so that no loss is known."""
        allocations = self._document.allocations
        if self._document.allocated and allocations.allocation is not None:
            return allocations.allocation.unread
        return allocations.loss.unread if allocations.loss is not None else ()

    def _show_figures(self) -> None:
        document, allocations = self._document, self._document.allocations
        allocation = allocations.allocation
        measured = document.allocated and allocation is not None and allocation.measured
        self.known.show_basis("measured" if measured else "estimated")
        prediction, drop = document.prediction, self._present_drop()
        if prediction is not None:
            before, after = prediction.before, prediction.after
            note = said.size_note(before, after)
            self.figures.show_figure("size", "Stored size", wording.bits(after.bits), note)
            moved = wording.change(before.macs, after.macs) if before.macs != after.macs else ""
            self.figures.show_figure("macs", "MACs", wording.count(after.macs), moved)
        damage = self._present_damage()
        if drop is not None:
            metric = said.metric_title(allocations.frontier.metric if allocations.frontier else "")
            self.figures.show_figure("drop", "Points lost", said.points(drop), metric)
        else:
            rise = wording.NONE if damage is None else wording.rise(damage)
            self.figures.show_figure("drop", self._damage, rise)
        wished = allocations.wish is not None
        self.again_button.setEnabled(wished and document.network is not None)
        self.refine_button.setEnabled(wished and document.can_sweep)

    def _show_actual(self) -> None:
        document, result = self._document, self._document.outcome
        frontier, guilty = document.allocations.frontier, document.allocations.guilty
        self.actual.setVisible(result is not None or bool(guilty))
        self.actual.title.setText(f"After {result.name}" if result else "Layers to blame")
        worse = False
        if result is not None:
            actual = said.outcome_of(result, frontier.metric if frontier else "")
            self.outcome.show_figure("size", "File size", wording.size(actual.bytes))
            self.outcome.show_figure("macs", "MACs", wording.count(actual.macs))
            known, predicted = actual.drop, self._present_drop()
            lost = wording.NONE if known is None else said.points(Spread(known, 0.0))
            self.outcome.show_figure("drop", "Points lost", lost)
            words = ""
            if known is not None and predicted is not None:
                recovered = result.recipe.recovery is not None
                words, worse = said.gap_words(predicted, known, recovered)
            self.gap.setText(NO_GUILT if guilty == () else words)
        self.outcome.setVisible(result is not None)
        self.gap.setVisible(result is not None and bool(self.gap.text()))
        self.blame_button.setVisible(worse and guilty is None)
        self.blame_button.setEnabled(document.can_sweep)
        self._show_guilty()

    def _show_guilty(self) -> None:
        document, guilty = self._document, self._document.allocations.guilty or ()
        words = LayerWords(document.methods)
        lines = []
        for guilt in guilty:
            relaxed = document.recipe.choice(guilt.layer) == (guilt.milder or Choice())
            lines.append(said.blamed_of(guilt, words, relaxed))
        self.guilty.show_layers(lines)
        self.guilty.setVisible(bool(lines))

    def _on_resource(self) -> None:
        self._document.allocations.measure_by(self.resource.currentData())

    def _on_moved(self, budget: float) -> None:
        self._document.allocate(Limits(**{self._resource: budget}), self._resource)

    def _on_written(self, text: str) -> None:
        frontier = self._frontier
        budget = read_budget(text, self._resource, frontier.source if frontier else 1.0)
        if budget is not None:
            self._on_moved(budget)
            self._document.allocations.begin_step()
        else:
            example = EXAMPLES[self._resource]
            self.trouble.setText(f"“{text}” is no budget: write {example}, 1/8, 25 % or 4×.")
            self.trouble.setVisible(True)

    def _on_drop(self, drop: float) -> None:
        self._document.allocate(Limits(drop=drop), self._resource)
        self._document.allocations.begin_step()

    def _on_again(self) -> None:
        wish = self._document.allocations.wish
        if wish is not None:
            self._document.allocations.begin_step()
            self._document.allocate(wish.limits, wish.least)

    def _on_relaxed(self, place: int) -> None:
        guilty = self._document.allocations.guilty or ()
        if place < len(guilty):
            self._document.relax(guilty[place])

    def _tip(self, budget: float) -> str:
        frontier = self._frontier
        return said.frontier_tip(frontier, budget, self._damage) if frontier else ""
