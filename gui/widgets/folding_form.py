"""A section that folds: a switch, what is chosen in short, and options, the commonest first."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QToolButton, QVBoxLayout, QWidget

from featherweight.engine.options import Option, Scalar
from featherweight.gui import icons
from featherweight.gui.widgets.option_form import OptionControl, OptionForm
from featherweight.gui.widgets.text import ElidedLabel, label, rule

INDENT = 22
# So wide that the controls of all groups line up.
TITLES = 112


class FoldingForm(QWidget):
    """One training of a recipe. `name` starts the object names of what is inside.

    The first of `groups`, by their captions, is always there; the others come with More.
    """

    switched = Signal(bool)
    changed = Signal(str, object)

    def __init__(
        self,
        name: str,
        title: str,
        about: str,
        groups: Mapping[str, Sequence[Option]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.options = {option.name: option for group in groups.values() for option in group}
        self._forms: dict[str, OptionForm] = {}
        self._home: dict[str, OptionForm] = {}
        self._values: Mapping[str, Scalar] = {}
        self.fold_button = QToolButton()
        self.fold_button.setObjectName(f"{name}_fold")
        self.fold_button.setProperty("role", "fold")
        self.fold_button.setCheckable(True)
        self.fold_button.setIconSize(QSize(14, 14))
        self.fold_button.setAccessibleName(f"Options of {title}")
        self.fold_button.toggled.connect(self._on_folded)
        self.switch = QCheckBox(title)
        self.switch.setObjectName(f"{name}_switch")
        self.switch.setProperty("role", "section")
        self.switch.setAccessibleName(title)
        self.switch.setToolTip(about)
        self.switch.clicked.connect(self.switched)
        self.summary = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.summary.setProperty("role", "muted")
        self.summary.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.body = self._build_body(name, about, groups)
        top = QHBoxLayout()
        top.setSpacing(4)
        top.addWidget(self.fold_button)
        top.addWidget(self.switch)
        top.addSpacing(8)
        top.addWidget(self.summary, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(top)
        column.addWidget(self.body)
        column.addWidget(rule())
        self._on_folded(False)
        self._on_more(False)

    def _build_body(self, name: str, about: str, groups: Mapping[str, Sequence[Option]]) -> QWidget:
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(INDENT, 0, 0, 4)
        column.setSpacing(10)
        column.addWidget(label(about, "muted", wrap=True))
        self.more_button = QPushButton()
        self.more_button.setObjectName(f"{name}_more")
        self.more_button.setProperty("role", "link")
        self.more_button.setCheckable(True)
        self.more_button.toggled.connect(self._on_more)
        self._more = QWidget()
        rest = QVBoxLayout(self._more)
        rest.setContentsMargins(0, 0, 0, 0)
        rest.setSpacing(8)
        for caption, options in groups.items():
            form = self._forms[caption] = OptionForm(f"option_{name}", TITLES)
            form.show_options(tuple(options))
            form.changed.connect(self.changed)
            self._home.update(dict.fromkeys((option.name for option in options), form))
            first = len(self._forms) == 1
            if not first:
                rest.addWidget(label(caption, "section"))
            (column if first else rest).addWidget(form)
            if first:
                column.addWidget(self.more_button, 0, Qt.AlignmentFlag.AlignLeft)
                column.addWidget(self._more)
        self.more_button.setVisible(len(groups) > 1)
        return body

    @property
    def unfolded(self) -> bool:
        """Whether the options are shown."""
        return self.fold_button.isChecked()

    def unfold(self) -> None:
        """Show the options."""
        self.fold_button.setChecked(True)

    def control(self, name: str) -> OptionControl:
        """Return the control of an option."""
        return self._home[name].control(name)

    def add(self, piece: QWidget) -> None:
        """Append something to what folds."""
        layout = self.body.layout()
        if layout is not None:
            layout.addWidget(piece)

    def add_below(self, name: str, piece: QWidget) -> None:
        """Put something below an option."""
        self._home[name].add_below(name, piece)

    def show_values(self, on: bool, values: Mapping[str, Scalar], summary: str) -> None:
        """Show whether it is on, the value of every option, and all of it in short."""
        self._values = values
        self.switch.setChecked(on)
        self.summary.setText(summary)
        for form in self._forms.values():
            form.setEnabled(on)
            form.show_values({name: (value,) for name, value in values.items()})
        self._on_more(self.more_button.isChecked())

    def lock(self, reasons: Mapping[str, str]) -> None:
        """Grey out the options that have no effect, for reasons by name, and free the others."""
        for form in self._forms.values():
            form.lock(reasons)

    def repaint_icons(self) -> None:
        """Draw the icons anew."""
        name = "chevron-down" if self.unfolded else "chevron-right"
        self.fold_button.setIcon(icons.icon(name))

    def _on_folded(self, unfolded: bool) -> None:
        self.body.setVisible(unfolded)
        self.fold_button.setToolTip("Hide the options" if unfolded else "Show the options")
        self.repaint_icons()

    def _on_more(self, more: bool) -> None:
        self._more.setVisible(more)
        moved = sum(
            self._values.get(option.name, option.default) != option.default
            for form in list(self._forms.values())[1:]
            for option in form.options
        )
        changed = f" · {moved} changed" if moved and not more else ""
        self.more_button.setText("Fewer options" if more else f"More options{changed}")
