"""The controls of one slot: which method, and its options."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from featherweight.engine.options import SLOTS, MethodDescription, Retraining, Scalar, Slot
from featherweight.gui import icons, wording
from featherweight.gui.widgets.option_form import OptionForm
from featherweight.gui.widgets.quiet_wheel import QuietWheel
from featherweight.gui.widgets.strength_panel import Strength, StrengthPanel
from featherweight.gui.widgets.text import label, rule

KEEP = "Keep as it is"
GAINS = {
    "file": "Gains: file size only",
    "file and speed": "Gains: file size and speed",
}

RETRAINING: dict[Retraining, str] = {
    "needed": "Needs retraining to be worth anything",
    "helps": "Retraining helps",
    "none": "No retraining needed",
}
RETRAINED = "needs retraining"


class Offer(NamedTuple):
    """A method that may be chosen, or the reason why not; a note where only some can take it."""

    method: MethodDescription
    possible: bool = True
    reason: str = ""


class SlotEditor(QWidget):
    """Chooses a method for a slot and moves its options; it tells, and is told what to show."""

    method_chosen = Signal(str)
    option_changed = Signal(str, object)
    help_asked = Signal(str)
    strength_suggested = Signal(float)

    def __init__(self, slot: Slot, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slot: Slot = slot
        self._offers: tuple[Offer, ...] = ()
        title = label(wording.SLOT_TITLES[slot], "section")
        question = label(wording.SLOT_HELP[slot], "muted")
        self.methods = QComboBox()
        self.methods.setObjectName(f"slot_{slot}_method")
        self.methods.setAccessibleName(f"{wording.SLOT_TITLES[slot]}: method")
        self.methods.setPlaceholderText("several methods")
        self.methods.activated.connect(self._on_activated)
        QuietWheel(self.methods)
        self.help_button = QToolButton()
        self.help_button.setObjectName(f"slot_{slot}_help")
        self.help_button.setAccessibleName(f"{wording.SLOT_TITLES[slot]}: help")
        self.help_button.setToolTip("What the method does, and when to use it (F1)")
        self.help_button.setIcon(icons.icon("help"))
        self.help_button.setAutoRaise(True)
        self.help_button.clicked.connect(lambda: self.help_asked.emit(self.method))
        choice = QHBoxLayout()
        choice.setSpacing(4)
        choice.addWidget(self.methods, 1)
        choice.addWidget(self.help_button)
        self.advice = label("", "muted", wrap=True)
        self.gain = label("")
        self.gain.setObjectName(f"slot_{slot}_gain")
        self.retrain = label("")
        self.retrain.setObjectName(f"slot_{slot}_retrain")
        self.note = label("", "warning", wrap=True)
        self.note.setObjectName(f"slot_{slot}_note")
        self.form = OptionForm(f"option_{slot}")
        self.form.changed.connect(self.option_changed)
        self.strength = StrengthPanel(f"slot_{slot}_strength")
        self.strength.suggested.connect(self.strength_suggested)
        self.strength.hide()
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(title)
        top.addWidget(question)
        top.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        if slot != SLOTS[0]:
            layout.addWidget(rule())
            layout.addSpacing(4)
        layout.addLayout(top)
        layout.addLayout(choice)
        for piece in (
            *(self.form, self.strength, self.advice),
            *(self.gain, self.retrain, self.note),
        ):
            layout.addWidget(piece)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self.help_button.setIcon(icons.icon("help"))
        super().changeEvent(event)

    @property
    def method(self) -> str:
        """The method that is chosen, else the first of the slot; empty before there are any."""
        return self.methods.currentData() or next((o.method.name for o in self._offers), "")

    def show_offers(self, offers: tuple[Offer, ...], reason: str = "") -> None:
        """Offer other methods; `reason` says why there is nothing to choose at all."""
        possible = any(offer.possible for offer in offers)
        self.methods.setEnabled(possible)
        self.methods.setToolTip("" if possible else reason)
        if offers == self._offers:
            return
        self._offers = offers
        model = QStandardItemModel(self.methods)
        keep = QStandardItem(KEEP)
        keep.setData("", Qt.ItemDataRole.UserRole)
        model.appendRow(keep)
        for offer in offers:
            needed = offer.method.retrain == "needed"
            title = offer.method.title
            item = QStandardItem(f"{title} · {RETRAINED}" if needed else title)
            item.setData(offer.method.name, Qt.ItemDataRole.UserRole)
            item.setEnabled(offer.possible)
            advice = f"{RETRAINING[offer.method.retrain]}. {offer.method.advice}"
            item.setToolTip(offer.reason or advice)
            model.appendRow(item)
        self.methods.setModel(model)

    def show_choice(
        self, chosen: Sequence[str], values: Mapping[str, Sequence[Scalar]], note: str = ""
    ) -> None:
        """Show the methods that the layers have, and the values of their options."""
        kinds = set(chosen)
        only = kinds.pop() if len(kinds) == 1 else ""
        self.methods.setCurrentIndex(self.methods.findData(only) if len(set(chosen)) == 1 else -1)
        method = next((o.method for o in self._offers if o.method.name == only), None)
        self.form.show_options(method.options if method else ())
        self.form.show_values(values)
        self.form.setVisible(method is not None and bool(method.options))
        self.advice.setText(method.advice if method else "")
        self.advice.setVisible(method is not None)
        self.gain.setText(GAINS[method.gain] if method else "")
        self.gain.setProperty("role", "good" if method and "speed" in method.gain else "plain")
        self.gain.setVisible(method is not None)
        self.gain.style().polish(self.gain)
        retrain = method.retrain if method else "none"
        self.retrain.setText(RETRAINING[retrain])
        self.retrain.setProperty("role", "warning" if retrain == "needed" else "muted")
        self.retrain.setVisible(method is not None)
        self.retrain.style().polish(self.retrain)
        self.note.setText(note)
        self.note.setVisible(bool(note))

    def follow(self, before: QWidget | None) -> QWidget:
        """Let the keyboard come here after another widget; return where it leaves."""
        if before is not None:
            self.setTabOrder(before, self.methods)
        self.setTabOrder(self.methods, self.help_button)
        last = self.form.follow(self.help_button)
        for stop in self.strength.stops():
            self.setTabOrder(last, stop)
            last = stop
        return last

    def show_strength(self, shown: Strength | None) -> None:
        """Show what the strength of the method does, None for nothing."""
        self.strength.setVisible(shown is not None)
        if shown is not None:
            self.strength.show_strength(shown)

    def _on_activated(self, place: int) -> None:
        self.method_chosen.emit(self.methods.itemData(place))
