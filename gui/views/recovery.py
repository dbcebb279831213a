"""Options of the whole recipe: training after compression, what methods measure, and biases."""

import msgspec
from PySide6.QtWidgets import QCheckBox, QLineEdit, QVBoxLayout, QWidget

from featherweight.engine.options import Scalar, describe
from featherweight.engine.recipe import Recipe
from featherweight.engine.trainings import FineTuning
from featherweight.gui.document import Document
from featherweight.gui.widgets.option_form import OptionForm
from featherweight.gui.widgets.panel import Panel
from featherweight.gui.widgets.text import label

# Options of the whole recipe.
WHOLE = ("calibration", "side_bits")


class RecoveryView(QWidget):
    """Edits the recovery of the recipe, and what else it says of the whole network."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._last = FineTuning()
        self.switch = QCheckBox("Recover accuracy by fine-tuning")
        self.switch.setObjectName("recovery_switch")
        self.switch.setAccessibleName("Recover accuracy by fine-tuning")
        self.switch.setToolTip("Train the compressed network on the task's recovery data")
        self.form = OptionForm("option_recovery")
        self.form.show_options(describe(FineTuning))
        for line in self.form.findChildren(QLineEdit, "option_recovery_teacher"):
            line.setPlaceholderText("the original network")
        self.whole = OptionForm("option_recipe")
        self.whole.show_options(describe(Recipe, *WHOLE))
        self.hint = label("", "muted", wrap=True)
        panel = Panel("Recovery")
        panel.setObjectName("recovery_panel")
        for piece in (self.switch, self.form, self.whole, self.hint):
            panel.add(piece)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(panel)
        self.switch.clicked.connect(self._on_switched)
        self.form.changed.connect(self._on_option_changed)
        self.whole.changed.connect(document.set_recipe_option)
        document.recipe_changed.connect(self._refresh)
        document.task_changed.connect(self._refresh)
        document.network_changed.connect(self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        recovery = self._document.recipe.recovery
        if recovery is not None:
            self._last = recovery
        self.switch.setChecked(recovery is not None)
        self.switch.setEnabled(self._document.network is not None)
        self.form.setEnabled(recovery is not None)
        self.form.show_values(
            {name: (value,) for name, value in msgspec.structs.asdict(self._last).items()}
        )
        self.whole.setEnabled(self._document.network is not None)
        recipe = self._document.recipe
        self.whole.show_values({name: (getattr(recipe, name),) for name in WHOLE})
        task = self._document.task
        self.hint.setVisible(task is not None)
        if task is not None:
            labels = "with labels" if task.classes else "towards the original's outputs"
            self.hint.setText(f"{task.recovery_samples} samples to recover on, {labels}.")

    def _on_switched(self, wanted: bool) -> None:
        self._document.set_recovery(self._last if wanted else None)

    def _on_option_changed(self, name: str, value: Scalar) -> None:
        self._document.set_recovery(msgspec.structs.replace(self._last, **{name: value}))
