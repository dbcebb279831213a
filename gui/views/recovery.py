"""The trainings of a recipe: before compression, layer by layer after it, and of the whole."""

from collections.abc import Mapping, Sequence

import msgspec
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QFileDialog, QLineEdit, QPushButton, QVBoxLayout, QWidget

from featherweight.engine.events import LearningRateFound
from featherweight.engine.options import Option, Scalar, describe
from featherweight.engine.recipe import Recipe
from featherweight.engine.trainings import FineTuning, Preparation, Reconstruction
from featherweight.gui import wording
from featherweight.gui.commands import Training, TrainingPart
from featherweight.gui.document import Document
from featherweight.gui.item_models.idle_options import idle_options
from featherweight.gui.widgets.folding_form import FoldingForm
from featherweight.gui.widgets.option_form import OptionForm
from featherweight.gui.widgets.panel import Panel, Section
from featherweight.gui.widgets.rate_panel import RatePanel
from featherweight.gui.widgets.text import label

# Options of the whole recipe.
WHOLE = ("calibration", "side_bits")
GROUPS = {
    "": ("epochs", "learning_rate", "optimizer", "distillation", "gradual", "augmentation"),
    "Optimizer": ("momentum", "weight_decay", "schedule", "batch_size", "arithmetic"),
    "Teacher": ("teacher", "start", "temperature", "hidden", "hidden_weight"),
    "Best weights": ("held_out", "keep", "patience"),
}
REST = "Comparison and export"
ABOUT: dict[TrainingPart, str] = {
    "preparation": "Trains before anything is compressed, so that the network hardly misses what"
    " goes.",
    "reconstruction": "Trains changed layers one after the other to give the original's outputs;"
    " no labels are needed.",
    "recovery": "Trains the compressed network as a whole on the task's recovery data.",
}
FIND = "Try rising learning rates on the compressed network, and show how the loss goes"
CANNOT_FIND = "It takes data, a recovery, and no other job under way"


class RecoveryView(QWidget):
    """Edits the trainings of the recipe, and what else it says of the whole network."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._kept: dict[TrainingPart, Training] = {
            "preparation": Preparation(),
            "reconstruction": Reconstruction(),
            "recovery": FineTuning(),
        }
        self._were_on: set[TrainingPart] = set()
        self._build()
        self._build_rate_finder()
        self._build_teacher()
        self._connect()
        self.recovery.unfold()
        self._refresh()

    def _build(self) -> None:
        options: dict[TrainingPart, Mapping[str, Sequence[Option]]] = {
            "preparation": {"": describe(Preparation)},
            "reconstruction": {"": describe(Reconstruction)},
            "recovery": _recovery_groups(),
        }
        self.forms = {
            part: FoldingForm(part, part.capitalize(), ABOUT[part], groups)
            for part, groups in options.items()
        }
        self.recovery = self.forms["recovery"]
        self.hint = label("", "muted", wrap=True)
        self.recovery.add(self.hint)
        self.whole = OptionForm("option_recipe")
        self.whole.show_options(describe(Recipe, *WHOLE))
        section = Section("Whole recipe", line=False)
        section.body.addWidget(self.whole)
        panel = Panel("Trainings of the recipe")
        panel.setObjectName("recovery_panel")
        for piece in (*self.forms.values(), section):
            panel.add(piece)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(panel)

    def _build_rate_finder(self) -> None:
        self.find_button = QPushButton("Find")
        self.find_button.setObjectName("find_rate_button")
        self.find_button.setAccessibleName("Find a learning rate")
        self.rates = RatePanel()
        self.recovery.control("learning_rate").add(self.find_button)
        self.recovery.add_below("learning_rate", self.rates)

    def _build_teacher(self) -> None:
        self.teacher_button = QPushButton("File…")
        self.teacher_button.setObjectName("teacher_file_button")
        self.teacher_button.setAccessibleName("Choose the teacher's file")
        self.teacher_button.setToolTip("Choose the network file or archive of a teacher")
        control = self.recovery.control("teacher")
        control.add(self.teacher_button)
        for line in control.findChildren(QLineEdit):
            line.setPlaceholderText("the original network")

    def _connect(self) -> None:
        document = self._document
        for part, form in self.forms.items():
            form.switched.connect(
                lambda on, part=part: document.set_training(part, self._kept[part] if on else None)
            )
            form.changed.connect(lambda name, value, part=part: self._on_changed(part, name, value))
        self.whole.changed.connect(document.set_recipe_option)
        self.find_button.clicked.connect(document.find_learning_rate)
        self.teacher_button.clicked.connect(self._on_teacher_asked)
        self.rates.taken.connect(document.use_learning_rate)
        document.rate_found.connect(self._on_rate_found)
        document.recipe_changed.connect(self._refresh)
        document.task_changed.connect(self._refresh)
        document.job_changed.connect(self._refresh_finder)
        document.network_changed.connect(self.rates.hide)
        document.network_changed.connect(self._refresh)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            for form in self.forms.values():
                form.repaint_icons()
        super().changeEvent(event)

    def _refresh(self) -> None:
        recipe, opened = self._document.recipe, self._document.network is not None
        on: set[TrainingPart] = set()
        for part, form in self.forms.items():
            training: Training | None = getattr(recipe, part)
            if training is not None:
                on.add(part)
                self._kept[part] = training
            kept = self._kept[part]
            form.show_values(part in on, msgspec.structs.asdict(kept), _summary(training))
            form.switch.setEnabled(opened)
            if part in on - self._were_on:
                form.unfold()
        self._were_on = on
        self.recovery.lock(idle_options(recipe.recovery or FineTuning(), recipe))
        self.whole.setEnabled(opened)
        self.whole.show_values({name: (getattr(recipe, name),) for name in WHOLE})
        self._show_hint()
        self._refresh_finder()

    def _show_hint(self) -> None:
        task = self._document.task
        self.hint.setVisible(task is not None)
        if task is not None:
            labels = "with labels" if task.classes else "towards the original's outputs"
            self.hint.setText(f"{task.recovery_samples} samples to recover on, {labels}.")

    def _refresh_finder(self) -> None:
        job, able = self._document.job, self._document.can_find_rate
        finding = job is not None and job.kind == "rate" and job.active
        self.find_button.setText("Finding…" if finding else "Find")
        self.find_button.setEnabled(able)
        self.find_button.setToolTip(FIND if able else CANNOT_FIND)

    def _on_changed(self, part: TrainingPart, name: str, value: Scalar) -> None:
        changed = msgspec.structs.replace(self._kept[part], **{name: value})
        self._document.set_training(part, changed)

    def _on_rate_found(self, found: LearningRateFound) -> None:
        self.rates.show_rates(found.points, found.suggestion)
        self.recovery.unfold()

    def _on_teacher_asked(self) -> None:
        chooser = QFileDialog(self.window(), "Choose a teacher")
        chooser.setFileMode(QFileDialog.FileMode.ExistingFile)
        chooser.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        chooser.fileSelected.connect(lambda path: self._on_changed("recovery", "teacher", path))
        chooser.open()


def _recovery_groups() -> dict[str, list[Option]]:
    """Return the options of a recovery by the captions that they stand under."""
    left = {option.name: option for option in describe(FineTuning)}
    groups = {caption: [left.pop(name) for name in names] for caption, names in GROUPS.items()}
    return {**groups, REST: list(left.values())}


def _summary(training: Training | None) -> str:
    """Return a training in a few words."""
    if training is None:
        return "off"
    if isinstance(training, Reconstruction):
        return f"{training.steps} steps each"
    epochs = f"{training.epochs} epoch{'s' if training.epochs != 1 else ''}"
    if isinstance(training, Preparation):
        return f"{wording.scalar(training.way)}, {epochs}"
    taught = ", distilled" if training.learns else ""
    return f"{epochs}{taught}"
