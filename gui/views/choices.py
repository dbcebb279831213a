"""The choices of the selected layers: four slots, drawn from what the methods say of themselves."""

from collections import defaultdict
from typing import NamedTuple

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from featherweight.engine.layer import Layer
from featherweight.engine.options import SLOTS, MethodDescription, Scalar, Slot
from featherweight.engine.recipe import Setting
from featherweight.engine.results import Cost, StrengthTrace
from featherweight.gui import strength_facts, wording
from featherweight.gui.document import Document
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.before_after_strip import BeforeAfterStrip
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.panel import Panel
from featherweight.gui.widgets.slot_editor import Offer, SlotEditor
from featherweight.gui.widgets.text import ElidedLabel, label, page, rule

PRUNING = "channel_pruning"
FIGURES = (("parameters", "Parameters"), ("macs", "MACs"), ("bits", "Stored size"))
ERROR = ("error", strength_facts.OUTPUTS)
TRACED: tuple[Slot, ...] = ("structure", "sparsity", "precision")

ROUGH = "What a coder or a clustering saves is known only once it has run."


class Takers(NamedTuple):
    """The selected layers that can take some method of a slot, and what they have there."""

    layers: tuple[Layer, ...]
    settings: tuple[Setting | None, ...]


class ChoicesView(QWidget):
    """Edits one slot after the other, for all selected layers at once, and says what it gives."""

    help_asked = Signal(str)

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._moved: Slot = TRACED[0]
        self.panel = Panel("Choices of the selected layers")
        self.panel.setObjectName("choices_panel")
        self.editors: dict[Slot, SlotEditor] = {slot: SlotEditor(slot) for slot in SLOTS}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._build_head())
        layout.addWidget(self.panel, 1)
        layout.addWidget(self._build_foot())
        self._build_slots()
        self._connect()
        self._refresh()

    def _build_head(self) -> QWidget:
        head = page()
        self.title = ElidedLabel()
        self.title.setObjectName("choices_title")
        self.title.setProperty("role", "heading")
        self.clear_button = QPushButton("Clear")
        self.clear_button.setObjectName("clear_choices_button")
        self.clear_button.setProperty("role", "link")
        self.clear_button.setToolTip("Keep the selected layers as they are, in every slot")
        row = QHBoxLayout(head)
        row.setContentsMargins(16, 12, 16, 4)
        row.addWidget(self.title, 1)
        row.addWidget(self.clear_button)
        return head

    def _build_slots(self) -> None:
        self.empty = EmptyState(
            "layers",
            "No layer selected",
            "Select one or several layers in the table, then choose what happens to them here.",
        )
        self.panel.add(self.empty)
        for editor in self.editors.values():
            self.panel.add(editor)

    def _build_foot(self) -> QWidget:
        self.foot = page()
        self.foot.setObjectName("prediction_strip")
        self.figures = BeforeAfterStrip("selected", (*FIGURES, ERROR))
        self.error_note = label("", "muted", wrap=True)
        self.error_note.setObjectName("error_note")
        top = QHBoxLayout()
        top.addWidget(label("Prediction for the selection", "section"))
        top.addStretch(1)
        top.addWidget(BasisBadge("estimated"))
        column = QVBoxLayout(self.foot)
        column.setContentsMargins(16, 0, 16, 12)
        column.setSpacing(8)
        column.addWidget(rule())
        column.addLayout(top)
        column.addWidget(self.figures)
        column.addWidget(self.error_note)
        return self.foot

    def _connect(self) -> None:
        document = self._document
        for changed in (
            document.network_changed,
            document.methods_changed,
            document.selection_changed,
            document.recipe_changed,
            document.task_changed,
        ):
            changed.connect(self._refresh)
        document.prediction_changed.connect(self._show_prediction)
        document.strength_changed.connect(self._show_strengths)
        for slot, editor in self.editors.items():
            editor.help_asked.connect(self.help_asked)
            editor.method_chosen.connect(lambda name, s=slot: self._on_method_chosen(s, name))
            editor.option_changed.connect(
                lambda name, value, s=slot: self._on_option_changed(s, name, value)
            )
            editor.strength_suggested.connect(
                lambda value, s=slot: self._on_strength_suggested(s, value)
            )
        self.clear_button.clicked.connect(
            lambda: self._document.clear_choices(self._document.selection)
        )

    def _refresh(self) -> None:
        document = self._document
        selection = document.selection
        self.title.setText(selection[0] if len(selection) == 1 else f"{len(selection)} layers")
        self.title.setVisible(bool(selection))
        self.clear_button.setVisible(bool(selection))
        self.clear_button.setEnabled(any(name in document.recipe.layers for name in selection))
        self.empty.setVisible(not selection)
        for slot, editor in self.editors.items():
            editor.setVisible(bool(selection))
            if selection:
                self._show_slot(slot, editor)
        self._show_prediction()
        self._trace()
        self._show_strengths()
        self._order()

    def _order(self) -> None:
        """Put the options of a method, which are made late, behind its list for the keyboard."""
        last: QWidget | None = None
        for editor in self.editors.values():
            last = editor.follow(last)

    def _show_slot(self, slot: Slot, editor: SlotEditor) -> None:
        document = self._document
        layers = [document.layers[name] for name in document.selection]
        methods = [method for method in document.methods if method.slot == slot]
        editor.show_offers(*self._offers(methods, layers))
        takers = self._takers(slot)
        chosen = [setting.method if setting else "" for setting in takers.settings] or [""]
        values: dict[str, list[Scalar]] = defaultdict(list)
        for setting in takers.settings:
            method = document.method(setting.method) if setting else None
            if setting is not None and method is not None:
                for option in method.options:
                    values[option.name].append(setting.options.get(option.name, option.default))
        editor.show_choice(chosen, values, self._note(chosen, takers.layers))

    def _offers(
        self, methods: list[MethodDescription], layers: list[Layer]
    ) -> tuple[tuple[Offer, ...], str]:
        offers = []
        for method in methods:
            reasons = [layer.locks[method.name] for layer in layers if method.name in layer.locks]
            possible = len(reasons) < len(layers)
            offers.append(Offer(method, possible, _why(reasons, len(layers))))
        if not methods:
            return (), "The engine is still starting."
        return tuple(offers), offers[0].reason

    def _takers(self, slot: Slot) -> Takers:
        document = self._document
        methods = [method.name for method in document.methods if method.slot == slot]
        layers = tuple(
            document.layers[name]
            for name in document.selection
            if any(method not in document.layers[name].locks for method in methods)
        )
        settings = tuple(document.recipe.choice(layer.name).setting(slot) for layer in layers)
        return Takers(layers, settings)

    def _note(self, chosen: list[str], layers: tuple[Layer, ...]) -> str:
        if PRUNING not in chosen:
            return ""
        partners = {name for layer in layers for name in layer.coupled}
        partners -= {layer.name for layer in layers}
        if not partners:
            return ""
        return f"{len(partners)} coupled layers are pruned along with the selection."

    def _on_strength_suggested(self, slot: Slot, value: float) -> None:
        setting = next((each for each in self._takers(slot).settings if each is not None), None)
        method = self._document.method(setting.method) if setting else None
        if method is not None:
            self._on_option_changed(slot, method.strength, value)

    def _on_method_chosen(self, slot: Slot, name: str) -> None:
        self._moved = slot
        layers = self._takers(slot).layers
        names = tuple(layer.name for layer in layers if name not in layer.locks)
        self._document.set_choice(names, slot, Setting(name) if name else None)

    def _on_option_changed(self, slot: Slot, name: str, value: Scalar) -> None:
        self._moved = slot
        groups: dict[tuple[str, str], list[tuple[str, Setting]]] = defaultdict(list)
        takers = self._takers(slot)
        for layer, setting in zip(takers.layers, takers.settings, strict=True):
            if setting is not None:
                moved = Setting(setting.method, setting.options | {name: value})
                groups[moved.method, repr(sorted(moved.options.items()))].append(
                    (layer.name, moved)
                )
        stack = self._document.undo_stack
        if len(groups) > 1:
            stack.beginMacro(f"{name.replace('_', ' ').capitalize()} of several layers")
        for members in groups.values():
            names = tuple(layer for layer, _ in members)
            self._document.set_choice(names, slot, members[0][1])
        if len(groups) > 1:
            stack.endMacro()

    @property
    def _traced(self) -> Slot | None:
        """The slot whose strength is traced: the one that was moved last, else the first in use."""
        document = self._document
        used = [
            slot
            for slot in dict.fromkeys((self._moved, *TRACED))
            if slot in TRACED and any(document.setting(name, slot) for name in document.selection)
        ]
        return used[0] if used else None

    def _trace(self) -> None:
        # Without a slot in use it still ends the question under way.
        self._document.trace_strength(self._traced or TRACED[0])

    def _show_strengths(self) -> None:
        document, traced = self._document, self._traced
        shown = None
        told: list[tuple[StrengthTrace, float | None]] = []
        for name in document.selection if traced else ():
            trace = document.strengths.traces.get(name)
            setting = document.setting(name, traced) if traced else None
            method = document.method(setting.method) if setting else None
            if trace is None and traced and method and method.name != PRUNING:
                # An empty curve, so that nothing jumps once the first point is there.
                trace = StrengthTrace(layer=name, slot=traced, method=method.name, of="outputs")
            if trace is None:
                continue
            option = strength_facts.strength_option(method)
            value = strength_facts.strength_value(setting, option) if setting else None
            told.append((trace, value))
            if len(document.selection) == 1 and option is not None and value is not None:
                shown = strength_facts.strength_shown(trace, option, value)
        for slot, editor in self.editors.items():
            editor.show_strength(shown if slot == traced else None)
        fact = strength_facts.error_fact(told, document.strengths.failure)
        self.figures.name("error", fact.title, fact.help)
        self.figures.show_figure("error", fact.value, "")
        self.error_note.setText(fact.note)
        self.error_note.setVisible(bool(fact.note))

    def _show_prediction(self) -> None:
        prediction = self._document.prediction
        layers = [self._document.layers[name] for name in self._document.selection]
        self.foot.setVisible(bool(layers))
        if prediction is None:
            for figure, _ in FIGURES:
                self.figures.show_figure(figure, wording.NONE, "")
            return
        rough = not prediction.exact
        self.figures.name("bits", "Stored size ≈" if rough else "Stored size", ROUGH * rough)
        costs = [(_held(layer), prediction.layers.get(layer.name)) for layer in layers]
        before = _sum([held for held, _ in costs])
        after = _sum([predicted or held for held, predicted in costs])
        for figure, _ in FIGURES:
            write = wording.bits if figure == "bits" else wording.count
            old, new = getattr(before, figure), getattr(after, figure)
            if old == new:
                self.figures.show_figure(figure, write(new), "")
            else:
                text = f"{write(old)} → {write(new)}"
                self.figures.show_figure(figure, text, wording.change(old, new))


def _why(reasons: list[str], asked: int) -> str:
    if not reasons or asked == 1:
        return "".join(reasons)
    return f"{len(reasons)} of {asked} layers cannot take it: {reasons[0]}"


def _held(layer: Layer) -> Cost:
    return Cost(parameters=layer.parameters, macs=layer.macs or 0, bits=layer.bits)


def _sum(costs: list[Cost]) -> Cost:
    return Cost(
        parameters=sum(cost.parameters for cost in costs),
        macs=sum(cost.macs for cost in costs),
        bits=sum(cost.bits for cost in costs),
    )
