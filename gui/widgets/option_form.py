"""Controls drawn from the description of options."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QWidget,
)

from featherweight.engine.options import Option, Scalar
from featherweight.gui import wording
from featherweight.gui.widgets.number_control import NumberControl
from featherweight.gui.widgets.quiet_wheel import QuietWheel
from featherweight.gui.widgets.text import label

TITLES = 104


class OptionControl(QWidget):
    """One option: slider and box for a number, a list for words, a check box for a switch, a line
    for a text, which is told when the person is done with it.
    """

    changed = Signal(object)

    def __init__(self, option: Option, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.option = option
        self._values: tuple[Scalar, ...] = ()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        tip = tip_of(option)
        self._number: NumberControl | None = None
        self._words: QComboBox | None = None
        self._switch: QCheckBox | None = None
        self._line: QLineEdit | None = None
        if option.kind == "switch":
            self._switch = QCheckBox()
            self._switch.clicked.connect(self._on_switched)
            self._install(self._switch, name, tip)
        elif option.kind == "choice":
            self._words = QComboBox()
            self._words.setPlaceholderText(wording.MIXED)
            for word in option.choices:
                self._words.addItem(wording.scalar(word), word)
            self._words.activated.connect(self._on_word_chosen)
            QuietWheel(self._words)
            self._install(self._words, name, tip)
        elif option.kind == "text":
            self._line = QLineEdit()
            self._line.editingFinished.connect(self._on_written)
            self._install(self._line, name, tip)
        else:
            self._number = NumberControl(
                option.minimum or 0.0,
                1.0 if option.maximum is None else option.maximum,
                whole=option.kind == "integer",
            )
            self._number.name(name, option.title, tip)
            self._number.changed.connect(self._on_number_changed)
            layout.addWidget(self._number, 1)
        self.show_values((option.default,))

    def show_values(self, values: Sequence[Scalar]) -> None:
        """Show the values of one layer, or of several, without telling anybody."""
        self._values = tuple(dict.fromkeys(values))
        several = len(self._values) != 1
        first = self._values[0] if self._values else self.option.default
        if self._number is not None:
            self._number.show_value(float(first), several)
        elif self._words is not None:
            self._words.setCurrentIndex(-1 if several else self._words.findData(first))
        elif self._line is not None:
            self._line.setText("" if several else str(first))
        elif self._switch is not None:
            mixed = Qt.CheckState.PartiallyChecked
            checked = Qt.CheckState.Checked if first else Qt.CheckState.Unchecked
            with QSignalBlocker(self._switch):
                self._switch.setCheckState(mixed if several else checked)

    def _install(self, control: QWidget, name: str, tip: str) -> None:
        control.setObjectName(name)
        control.setAccessibleName(self.option.title)
        control.setToolTip(tip)
        layout = self.layout()
        if layout is not None:
            layout.addWidget(control)
        self.setFocusProxy(control)

    def add(self, piece: QWidget) -> None:
        """Put something beside the control, like a button that finds a value for it."""
        layout = self.layout()
        if layout is not None:
            layout.addWidget(piece)

    def lock(self, reason: str) -> None:
        """Grey the option out for a reason, which its tip tells first; empty frees it."""
        self.setEnabled(not reason)
        for stop in self.stops:
            stop.setToolTip(f"{reason}\n{tip_of(self.option)}".strip())

    @property
    def stops(self) -> list[QWidget]:
        """What the keyboard stops at, in order."""
        if self._number is not None:
            return [self._number.slider, self._number.box]
        return [piece for piece in (self._words, self._switch, self._line) if piece is not None]

    def _on_number_changed(self, value: float) -> None:
        self.changed.emit(round(value) if self.option.kind == "integer" else value)

    def _on_word_chosen(self, place: int) -> None:
        self.changed.emit(self.option.choices[place])

    def _on_written(self) -> None:
        if self._line is not None and (self._line.text(),) != self._values:
            self.changed.emit(self._line.text())

    def _on_switched(self, checked: bool) -> None:
        if self._switch is not None:
            self._switch.setTristate(False)
        self.changed.emit(checked)


class OptionForm(QWidget):
    """The controls of several options below each other, `titles` at least so many pixels wide.

    `prefix` starts their object names.
    """

    changed = Signal(str, object)

    def __init__(self, prefix: str, titles: int = TITLES, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._prefix = prefix
        self._options: tuple[Option, ...] = ()
        self._controls: dict[str, OptionControl] = {}
        self._titles: dict[str, QLabel] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnMinimumWidth(0, titles)
        self._grid.setColumnStretch(1, 1)

    def show_options(self, options: tuple[Option, ...]) -> None:
        """Draw the controls of these options; the same options keep the controls they have."""
        if options == self._options:
            return
        self._options = options
        self._clear()
        for row, option in enumerate(options):
            control = OptionControl(option, f"{self._prefix}_{option.name}")
            control.changed.connect(lambda value, key=option.name: self.changed.emit(key, value))
            title = label(option.title, "muted")
            title.setToolTip(tip_of(option))
            title.setBuddy(control)
            self._grid.addWidget(title, 2 * row, 0)
            self._grid.addWidget(control, 2 * row, 1)
            self._controls[option.name] = control
            self._titles[option.name] = title

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that are shown."""
        return self._options

    def control(self, name: str) -> OptionControl:
        """Return the control of an option that is shown."""
        return self._controls[name]

    def add_below(self, name: str, piece: QWidget) -> None:
        """Put something below an option, over the whole width."""
        self._grid.addWidget(piece, 2 * list(self._controls).index(name) + 1, 0, 1, 2)

    def lock(self, reasons: Mapping[str, str]) -> None:
        """Grey out the options that have no effect, for reasons by name, and free the others."""
        for name, control in self._controls.items():
            control.lock(reasons.get(name, ""))
            self._titles[name].setEnabled(name not in reasons)

    def follow(self, before: QWidget) -> QWidget:
        """Let the keyboard come to the controls after another widget; return the last of them."""
        for control in self._controls.values():
            for stop in control.stops:
                self.setTabOrder(before, stop)
                before = stop
        return before

    def show_values(self, values: Mapping[str, Sequence[Scalar]]) -> None:
        """Show the values of each option by name, over all layers that are edited."""
        for name, control in self._controls.items():
            control.show_values(values.get(name) or (control.option.default,))

    def _clear(self) -> None:
        self._controls.clear()
        self._titles.clear()
        while (item := self._grid.takeAt(0)) is not None:
            piece = item.widget()
            if piece is not None:
                piece.hide()
                piece.deleteLater()


def tip_of(option: Option) -> str:
    """Return the help of an option with its range and unit."""
    if option.minimum is None or option.maximum is None:
        return option.help
    low, high = (wording.scalar(bound) for bound in (option.minimum, option.maximum))
    return f"{option.help}\n{low} to {high} {option.unit}".strip()
