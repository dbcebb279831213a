"""The trainings of a recipe: switched, folded, edited, undone, and kept in the project."""

from pathlib import Path

import msgspec
import pytest
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QLineEdit,
    QPushButton,
    QToolTip,
    QWidget,
)
from pytestqt.qtbot import QtBot

from featherweight.engine.events import AnyEvent, Failed, JobStarted, LearningRateFound
from featherweight.engine.options import Scalar, describe
from featherweight.engine.recipe import Recipe, Setting
from featherweight.engine.trainings import FineTuning, Preparation, Reconstruction
from featherweight.gui.document import Document
from featherweight.gui.item_models.idle_options import idle_options
from featherweight.gui.project_file import read_project
from featherweight.gui.views.recovery import RecoveryView

RATES = ((0.001, 2.0), (0.01, 1.5), (0.1, 0.5), (1.0, 9.0))


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> RecoveryView:
    made = RecoveryView(opened)
    qtbot.addWidget(made)
    made.resize(400, 800)
    with qtbot.waitExposed(made):
        made.show()
    return made


def box(view: RecoveryView, name: str) -> QDoubleSpinBox:
    found = view.findChild(QDoubleSpinBox, name)
    assert isinstance(found, QDoubleSpinBox)
    return found


def button(view: RecoveryView, name: str) -> QPushButton:
    found = view.findChild(QPushButton, name)
    assert isinstance(found, QPushButton)
    return found


def choose(view: RecoveryView, name: str, title: str) -> None:
    found = view.findChild(QComboBox, name)
    assert isinstance(found, QComboBox)
    found.setCurrentIndex(found.findText(title))
    found.activated.emit(found.currentIndex())


def test_that_calibration_samples_are_changed_and_undone_without_recovery(
    view: RecoveryView, opened: Document
) -> None:
    samples = box(view, "option_recipe_calibration")
    assert samples.value() == opened.recipe.calibration
    assert "measure" in samples.toolTip()
    for value in (200, 256):
        samples.setValue(value)
    assert opened.recipe.calibration == 256
    assert opened.recipe.recovery is None
    opened.undo_stack.undo()
    assert samples.value() == opened.recipe.calibration == 1024


def test_that_bits_of_biases_are_chosen_beside_it_and_undone(
    view: RecoveryView, opened: Document
) -> None:
    bits = view.findChild(QComboBox, "option_recipe_side_bits")
    assert isinstance(bits, QComboBox)
    assert bits.currentText() == "32"
    choose(view, "option_recipe_side_bits", "16")
    assert opened.recipe.side_bits == 16
    assert opened.undo_stack.undoText() == "Biases and scales"
    opened.undo_stack.undo()
    assert opened.recipe.side_bits == 32
    assert bits.currentText() == "32"


def test_that_recovery_is_switched_on_changed_and_undone(
    view: RecoveryView, opened: Document
) -> None:
    view.recovery.switch.click()
    assert opened.recipe.recovery == FineTuning()
    box(view, "option_recovery_epochs").setValue(5)
    assert opened.recipe.recovery == FineTuning(epochs=5)
    view.recovery.switch.click()
    assert opened.recipe.recovery is None
    assert not box(view, "option_recovery_epochs").isEnabled()
    opened.undo_stack.undo()
    assert opened.recipe.recovery == FineTuning(epochs=5)


def test_that_every_training_is_switched_edited_undone_and_kept(
    view: RecoveryView, opened: Document
) -> None:
    for part in ("preparation", "reconstruction"):
        form = view.forms[part]
        assert not form.unfolded
        assert form.summary.text() == "off"
        form.switch.click()
        assert form.unfolded
    assert opened.recipe.preparation == Preparation()
    assert opened.recipe.reconstruction == Reconstruction()
    choose(view, "option_preparation_way", "splice")
    box(view, "option_preparation_epochs").setValue(3)
    box(view, "option_reconstruction_steps").setValue(50)
    box(view, "option_reconstruction_steps").setValue(60)
    assert view.forms["preparation"].summary.text() == "splice, 3 epochs"
    assert view.forms["reconstruction"].summary.text() == "60 steps each"
    wanted = Recipe(
        preparation=Preparation(way="splice", epochs=3), reconstruction=Reconstruction(steps=60)
    )
    assert opened.recipe == wanted
    opened.save()
    assert opened.path is not None
    assert read_project(opened.path).recipe == wanted
    opened.undo_stack.undo()
    assert opened.recipe.reconstruction == Reconstruction()
    assert opened.undo_stack.undoText() == "Preparation"
    opened.undo_stack.setIndex(0)
    assert opened.recipe == Recipe()
    assert not view.forms["preparation"].switch.isChecked()


def test_that_a_section_folds_and_a_training_that_comes_unfolds_it(
    view: RecoveryView, opened: Document
) -> None:
    epochs = box(view, "option_recovery_epochs")
    assert epochs.isVisible()
    view.recovery.fold_button.click()
    assert not epochs.isVisible()
    opened.set_recovery(FineTuning(epochs=2))
    assert epochs.isVisible()
    view.recovery.fold_button.click()
    opened.set_recovery(FineTuning(epochs=3))
    assert not epochs.isVisible()
    assert view.recovery.summary.text() == "3 epochs"


def test_that_every_option_of_a_training_has_one_control(view: RecoveryView) -> None:
    for part, kind in (
        ("preparation", Preparation),
        ("reconstruction", Reconstruction),
        ("recovery", FineTuning),
    ):
        for option in describe(kind):
            found = view.findChildren(QWidget, f"option_{part}_{option.name}")
            assert len(found) == 1, option.name


def test_that_rarer_options_come_with_more_which_counts_those_that_were_changed(
    view: RecoveryView, opened: Document
) -> None:
    momentum = box(view, "option_recovery_momentum")
    more = button(view, "recovery_more")
    opened.set_recovery(FineTuning(epochs=9))
    assert not momentum.isVisible()
    assert more.text() == "More options"
    opened.set_recovery(FineTuning(momentum=0.5, batch_size=8))
    assert more.text() == "More options · 2 changed"
    more.click()
    assert momentum.isVisible()
    assert more.text() == "Fewer options"


@pytest.mark.parametrize(
    ("name", "idle", "used"),
    [
        ("momentum", {"optimizer": "adamw"}, {"optimizer": "sgd"}),
        ("temperature", {"hidden": "outputs"}, {"distillation": 0.5}),
        ("hidden_weight", {"distillation": 0.5}, {"hidden": "attention"}),
        ("teacher", {}, {"hidden": "outputs"}),
        ("teacher", {}, {"start": "teacher"}),
        ("start", {"hidden": "outputs"}, {"teacher": "large.fwz"}),
        ("keep", {}, {"held_out": 0.1}),
        ("patience", {}, {"held_out": 0.1}),
        ("norms", {"epochs": 2}, {"epochs": 0}),
        ("learning_rate", {"epochs": 0}, {"epochs": 1}),
    ],
)
def test_that_an_option_without_effect_is_greyed_with_the_reason(
    view: RecoveryView,
    opened: Document,
    name: str,
    idle: dict[str, Scalar],
    used: dict[str, Scalar],
) -> None:
    control = view.findChild(QWidget, f"option_recovery_{name}")
    assert control is not None
    for values, free in ((idle, False), (used, True)):
        recovery = msgspec.convert(values, FineTuning)
        opened.set_recovery(recovery)
        assert control.isEnabled() is free
        reason = idle_options(recovery, opened.recipe).get(name, "")
        assert bool(reason) is not free
        assert control.toolTip().startswith(reason)


def test_that_options_wait_for_layers_that_they_are_for(
    view: RecoveryView, opened: Document
) -> None:
    gradual, activations = (
        view.findChild(QWidget, f"option_recovery_{name}") for name in ("gradual", "activations")
    )
    assert gradual is not None
    assert activations is not None
    opened.set_recovery(FineTuning())
    assert not gradual.isEnabled()
    assert "sparsity" in gradual.toolTip()
    opened.set_choice(("stem",), "sparsity", Setting("magnitude"))
    assert gradual.isEnabled()
    opened.set_choice(("stem",), "precision", Setting("integer", {"bits": 4}))
    assert not activations.isEnabled()
    opened.set_choice(("stem",), "precision", Setting("integer"))
    assert activations.isEnabled()


def test_that_a_teacher_is_written_once_it_is_typed(
    qtbot: QtBot, view: RecoveryView, opened: Document
) -> None:
    opened.set_recovery(FineTuning(distillation=0.5))
    button(view, "recovery_more").click()
    line = view.findChild(QLineEdit, "option_recovery_teacher")
    assert isinstance(line, QLineEdit)
    assert (line.text(), line.placeholderText()) == ("", "the original network")
    line.setFocus()
    qtbot.keyClicks(line, "large.onnx")
    assert opened.recipe.recovery == FineTuning(distillation=0.5)
    line.editingFinished.emit()
    assert opened.recipe.recovery == FineTuning(distillation=0.5, teacher="large.onnx")
    opened.undo_stack.undo()
    assert line.text() == ""


def test_that_a_teacher_is_chosen_from_the_disk(
    view: RecoveryView, opened: Document, tmp_path: Path
) -> None:
    opened.set_recovery(FineTuning())
    assert not button(view, "teacher_file_button").isEnabled()
    opened.set_recovery(FineTuning(hidden="outputs"))
    button(view, "teacher_file_button").click()
    chooser = view.window().findChild(QFileDialog)
    assert isinstance(chooser, QFileDialog)
    chooser.fileSelected.emit(str(tmp_path / "large.pt"))
    chooser.close()
    assert opened.recipe.recovery == FineTuning(
        hidden="outputs", teacher=str(tmp_path / "large.pt")
    )


def test_that_a_learning_rate_is_found_shown_and_taken_as_one_step(
    view: RecoveryView, supplied: Document
) -> None:
    find = button(view, "find_rate_button")
    assert not find.isEnabled()
    supplied.set_recovery(FineTuning(epochs=2))
    box(view, "option_recovery_learning_rate").setValue(0.5)
    assert find.isEnabled()
    find.click()
    job = supplied.job
    assert job is not None
    assert (job.kind, find.text(), find.isEnabled()) == ("rate", "Finding…", False)
    supplied.receive(JobStarted(id=job.request, steps=40))
    assert not view.rates.isVisible()
    supplied.receive(LearningRateFound(id=job.request, points=RATES, suggestion=0.0312))
    assert job.state == "done"
    assert view.rates.isVisible()
    assert find.isEnabled()
    assert view.rates.chart.points == RATES
    assert view.rates.chart.tip(0.02) == "Learning rate 0.01\nLoss 1.5"
    use = button(view, "use_rate_button")
    assert use.text() == "Use 0.031"
    use.click()
    assert supplied.recipe.recovery == FineTuning(epochs=2, learning_rate=0.031)
    assert not view.rates.isVisible()
    supplied.undo_stack.undo()
    assert supplied.recipe.recovery == FineTuning(epochs=2, learning_rate=0.5)
    QToolTip.hideText()


def test_that_a_search_that_fails_or_is_not_wanted_changes_nothing(
    view: RecoveryView, supplied: Document
) -> None:
    supplied.set_recovery(FineTuning())
    ends: tuple[AnyEvent, ...] = (
        Failed(message="It has nothing to train."),
        LearningRateFound(points=RATES, suggestion=0.1),
    )
    for end in ends:
        button(view, "find_rate_button").click()
        assert supplied.job is not None
        supplied.receive(msgspec.structs.replace(end, id=supplied.job.request))
    button(view, "close_rate_button").click()
    assert not view.rates.isVisible()
    assert supplied.recipe.recovery == FineTuning()
