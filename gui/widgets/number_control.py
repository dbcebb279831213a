"""A slider and a box for one number."""

from PySide6.QtCore import QLocale, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

from featherweight.gui.widgets.quiet_wheel import QuietWheel
from featherweight.gui.widgets.slider_scale import SliderScale

STEPS = 1000


class NumberBox(QDoubleSpinBox):
    """A box that writes numbers as short as they are, and can show that there are several."""

    def __init__(self, whole: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setLocale(QLocale.c())
        self.setDecimals(0 if whole else 8)
        self.setKeyboardTracking(False)
        self.setStepType(
            QDoubleSpinBox.StepType.DefaultStepType
            if whole
            else QDoubleSpinBox.StepType.AdaptiveDecimalStepType
        )
        self.lineEdit().setPlaceholderText("several")
        self.lineEdit().setTextMargins(5, 0, 0, 0)

    def textFromValue(self, value: float) -> str:  # noqa: N802
        return f"{value:.6g}" if self.decimals() else f"{value:.0f}"


class NumberControl(QWidget):
    """Chooses a number in an inclusive range; the slider bends where the range spans decades."""

    changed = Signal(float)

    def __init__(
        self, minimum: float, maximum: float, whole: bool, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._scale = SliderScale(minimum, maximum, whole)
        self.box = NumberBox(whole)
        self.box.setRange(minimum, maximum)
        self.box.setFixedWidth(92)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        exact = whole and maximum - minimum <= STEPS and not self._scale.bent
        self.slider.setRange(0, round(maximum - minimum) if exact else STEPS)
        self.slider.setPageStep(max(1, self.slider.maximum() // 10))
        self.slider.setMinimumWidth(48)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.box)
        for control in (self.slider, self.box):
            QuietWheel(control)
        self.setFocusProxy(self.slider)
        self.slider.valueChanged.connect(self._on_slid)
        self.box.valueChanged.connect(self._on_typed)

    def name(self, name: str, title: str, tip: str) -> None:
        """Give box and slider their object names, accessible names and tip."""
        self.box.setObjectName(name)
        self.slider.setObjectName(f"{name}_slider")
        for control in (self.box, self.slider):
            control.setAccessibleName(title)
            control.setToolTip(tip)

    def value(self) -> float:
        """Return the number."""
        return self.box.value()

    def show_value(self, value: float, several: bool = False) -> None:
        """Show a number without telling anybody; `several` leaves the box empty."""
        with QSignalBlocker(self.box), QSignalBlocker(self.slider):
            if self.box.value() != value:
                self.box.setValue(value)
            place = self._place(value)
            if self._number(self.slider.value()) != value:
                self.slider.setValue(place)
            if several:
                self.box.lineEdit().clear()
            elif not self.box.hasFocus() or not self.box.text():
                self.box.lineEdit().setText(self.box.textFromValue(value))

    def _on_slid(self, place: int) -> None:
        value = self._number(place)
        with QSignalBlocker(self.box):
            self.box.setValue(value)
        self.changed.emit(self.box.value())

    def _on_typed(self, value: float) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(self._place(value))
        self.changed.emit(value)

    def _number(self, place: int) -> float:
        return self._scale.number(place / max(1, self.slider.maximum()))

    def _place(self, value: float) -> int:
        return round(self._scale.share(value) * self.slider.maximum())
