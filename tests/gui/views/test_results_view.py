"""The results: figures beside predictions, the ledger, restoring a recipe, exporting."""

from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import QLabel, QLineEdit, QMessageBox
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Exported, Failed
from featherweight.engine.figures import Figure
from featherweight.engine.ledger import Entry, Ledger
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Cost, Export, LayerShare, Measures, Result
from featherweight.gui.dialogs.export import ExportDialog
from featherweight.gui.document import Document
from featherweight.gui.kept_results import free_name
from featherweight.gui.project_file import read_project
from featherweight.gui.views.results import ResultsView
from featherweight.gui.widgets.basis_badge import BasisBadge

RECIPE = Recipe(layers={"stem": Choice(precision=Setting("integer", {"bits": 4}))})


def figures(octets: float, top1: float, latency: float) -> Measures:
    return Measures(
        figures={
            "bytes": Figure(octets, "B", "measured"),
            "top1": Figure(top1, "%", "measured"),
            "latency": Figure(latency, "ms", "simulated"),
        }
    )


@pytest.fixture
def result() -> Result:
    entries = (
        Entry(layer="stem", tensor="weight", original=4608, values=576, scales=64, tables=24),
        Entry(layer="classifier", tensor="weight", original=5120, values=5120),
    )
    return Result(
        identity="first", name="Four bits", parent="", recipe=RECIPE, archive="first.fwz",
        before=figures(4000, 91.5, 2.0), after=figures(1000, 90.25, 1.0),
        predicted=Cost(parameters=9, macs=9, bits=8800), created="2026-11-24T10:00:00",
        ledger=Ledger(entries=entries, container=2216),
    )  # fmt: skip


@pytest.fixture
def view(qtbot: QtBot, opened: Document, result: Result) -> ResultsView:
    made = ResultsView(opened)
    qtbot.addWidget(made)
    made.resize(1200, 400)
    with qtbot.waitExposed(made):
        made.show()
    assert made.empty.isVisible()
    opened.results = (result,)
    opened.results_changed.emit()
    return made


@pytest.fixture
def dialog(qtbot: QtBot, opened: Document, result: Result, tmp_path: Path) -> ExportDialog:
    opened.results = (result,)
    opened.results_folder.mkdir(parents=True, exist_ok=True)
    (opened.results_folder / result.archive).touch()
    made = ExportDialog(opened, result.archive)
    made.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    qtbot.addWidget(made)
    made.open()
    made.path.setText(str(tmp_path / "net.onnx"))
    return made


def text(view: ResultsView, name: str) -> str:
    label = view.figures.findChild(QLabel, name)
    assert isinstance(label, QLabel)
    return label.text()


def test_that_every_figure_stands_before_after_and_predicted(view: ResultsView) -> None:
    assert [text(view, f"figure_bytes_{column}") for column in range(1, 5)] == [
        *("4.00 kB", "1.00 kB", "\u221275 %", "1.10 kB"),
    ]
    assert text(view, "figure_top1_3") == "\u22121.25 pt"
    badges = [badge.basis for badge in view.figures.findChildren(BasisBadge)]
    assert badges == ["measured", "measured", "simulated"]


def test_that_the_list_tells_size_and_accuracy_at_a_glance(view: ResultsView) -> None:
    item = view.list.item(0).text()
    assert item == "Four bits\n\u221275 % size, \u22121.25 pt top-1"


def test_that_decibels_are_subtracted_and_not_divided(view: ResultsView) -> None:
    old, new = Figure(144.5, "dB", "measured"), Figure(51.5, "dB", "measured")
    view.figures.show_comparison({"snr": old}, {"snr": new}, {})
    assert text(view, "figure_snr_3") == "\u221293.0 dB"


def test_that_a_long_name_of_a_result_is_told_by_its_tooltip(
    view: ResultsView, opened: Document, result: Result
) -> None:
    opened.results = (result, msgspec.structs.replace(result, identity="b", name="Long " * 20))
    opened.results_changed.emit()
    assert not view.list.horizontalScrollBar().isVisible()
    assert view.list.item(1).toolTip().startswith("Long Long")


def test_that_rates_carry_the_weaker_basis_of_both_figures(view: ResultsView) -> None:
    assert view.rates.text() == "α 4.00× of file size (measured)  ·  δ 2.00× of latency (simulated)"


def test_that_the_ledger_accounts_for_every_stored_byte(view: ResultsView) -> None:
    assert view.stored.text() == "1.00 kB stored, to the byte: 1,000 B"
    assert view.ledger_bar.accessibleDescription() == (
        "Values 712 B (71.2 %), Scales, zero points 8 B (0.8 %), Coding tables 3 B (0.3 %),"
        " Container 277 B (27.7 %)"
    )
    lines = [
        [view.ledger_table.topLevelItem(row).text(column) for column in range(5)]
        for row in range(2)
    ]
    assert lines == [
        ["classifier", "640 B", "100.0 %", "640 B", "0 B"],
        ["stem", "83 B", "14.4 %", "72 B", "11 B"],
    ]


def test_that_a_new_result_is_selected_when_it_arrives(
    view: ResultsView, opened: Document, result: Result
) -> None:
    second = msgspec.structs.replace(result, identity="second", name="Again")
    opened.results = (result, second)
    opened.results_changed.emit()
    assert view.result == second
    view.list.setCurrentRow(0)
    assert view.result == result


def test_that_a_result_gives_its_recipe_back_and_undo_takes_it_away(
    qtbot: QtBot, view: ResultsView, opened: Document
) -> None:
    assert opened.recipe.layers == {}
    qtbot.mouseClick(view.restore_button, Qt.MouseButton.LeftButton)
    assert opened.recipe == RECIPE
    assert opened.undo_stack.undoText() == "Recipe of Four bits"
    opened.undo_stack.undo()
    assert opened.recipe.layers == {}


def test_that_export_opens_a_dialog_for_the_selected_result(
    qtbot: QtBot, view: ResultsView
) -> None:
    qtbot.mouseClick(view.export_button, Qt.MouseButton.LeftButton)
    dialog = view.window().findChild(ExportDialog)
    assert isinstance(dialog, ExportDialog)
    assert Path(dialog.path.text()).name == "net Four bits.onnx"
    dialog.close()


def test_that_the_suffix_follows_the_chosen_format(dialog: ExportDialog, tmp_path: Path) -> None:
    dialog.form.setCurrentIndex(dialog.form.findData("archive"))
    assert dialog.path.text() == str(tmp_path / "net.fwz")
    assert "bit for bit" in dialog.about.text()
    dialog.form.setCurrentIndex(dialog.form.findData("pt2"))
    assert dialog.path.text() == str(tmp_path / "net.pt2")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "Name a file."),
        ("{}/missing/net.onnx", "does not exist."),
        ("{}", "is a folder"),
        ("{}/net.fwz", "the ending of another format; this one ends in .onnx."),
    ],
)
def test_that_an_impossible_path_is_refused_before_anything_runs(
    dialog: ExportDialog, tmp_path: Path, path: str, problem: str
) -> None:
    dialog.path.setText(path.format(tmp_path))
    assert problem in dialog.problem.text()
    assert not dialog.export_button.isEnabled()


def test_that_a_name_without_ending_gets_that_of_the_format(
    dialog: ExportDialog, opened: Document, tmp_path: Path
) -> None:
    dialog.path.setText(str(tmp_path / "net.v2"))
    dialog.export_button.click()
    assert dialog.path.text() == str(tmp_path / "net.v2.onnx")
    assert opened.job is not None
    assert opened.job.name == "net.v2.onnx"


@pytest.mark.parametrize(("form", "there"), [("onnx", "net.onnx"), ("safetensors", "net.py")])
def test_that_a_file_is_replaced_only_by_a_button_that_says_so(
    dialog: ExportDialog, tmp_path: Path, form: str, there: str
) -> None:
    (tmp_path / there).write_text("mine")
    dialog.form.setCurrentIndex(dialog.form.findData(form))
    dialog.path.setText(str(tmp_path / "net"))
    assert dialog.export_button.text() == "Replace"
    assert f"{there} in {tmp_path} will be replaced." in dialog.problem.text()
    dialog.path.setText(str(tmp_path / "other"))
    assert dialog.export_button.text() == "Export"
    assert not dialog.problem.isVisible()


def test_that_the_summary_shows_what_was_checked_of_the_file(
    dialog: ExportDialog, opened: Document
) -> None:
    dialog.export_button.click()
    assert not dialog.form.isEnabled()
    assert opened.job is not None
    checks = {
        "relative_error": Figure(3.1e-7, "", "measured"),
        "bytes": Figure(1000, "B", "measured"),
        "bytes_before": Figure(4000, "B", "measured"),
    }
    shares = (LayerShare(layer="stem", bytes=100), LayerShare(layer="classifier", bytes=640))
    export = Export(
        path="net.onnx", format="onnx", checks=checks, shares=shares, notes=("A note.",)
    )
    opened.receive(Exported(id=opened.job.request, export=export))
    assert dialog.pages.currentWidget() is dialog.summary
    shown = {label.objectName(): label.text() for label in dialog.checks.findChildren(QLabel)}
    assert shown["figure_relative_error_2"] == "3.1e-07"
    assert [shown[f"figure_bytes_{column}"] for column in range(1, 4)] == [
        *("4.00 kB", "1.00 kB", "\u221275 %"),
    ]
    first = dialog.shares.topLevelItem(0)
    assert [first.text(column) for column in range(3)] == ["classifier", "640 B", "64.0 %"]
    assert dialog.notes.text() == "A note."
    assert dialog.close_button.text() == "Close"


def test_that_a_failed_export_says_so_in_the_dialog(dialog: ExportDialog, opened: Document) -> None:
    dialog.export_button.click()
    assert opened.job is not None
    opened.receive(Failed(id=opened.job.request, message="The disk is full.", hint="Free some."))
    assert dialog.problem.text() == "The disk is full. Free some."
    assert dialog.form.isEnabled()
    assert dialog.export_button.isEnabled()


def test_that_closing_the_dialog_cancels_the_export(dialog: ExportDialog, opened: Document) -> None:
    dialog.export_button.click()
    dialog.close_button.click()
    assert opened.job is not None
    assert opened.job.state == "cancelling"


def test_that_a_result_without_its_archive_is_named_before_anything_is_asked(
    dialog: ExportDialog, opened: Document, result: Result, tmp_path: Path
) -> None:
    (opened.results_folder / result.archive).unlink()
    dialog.path.setText(str(tmp_path / "other.onnx"))
    assert dialog.problem.text() == (
        f"The archive of Four bits is not in {opened.results_folder} any more."
        " Restore its recipe and compress again."
    )
    assert not dialog.export_button.isEnabled()


@pytest.fixture
def bare(qtbot: QtBot, opened: Document, tmp_path: Path) -> ExportDialog:
    """Return the dialog for a network without a graph."""
    assert opened.network is not None
    lock = "its branch depends on the data"
    forms = ("safetensors", "archive")
    opened.network = msgspec.structs.replace(opened.network, graph_lock=lock, forms=forms)
    made = ExportDialog(opened, "")
    made.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    qtbot.addWidget(made)
    made.open()
    made.path.setText(str(tmp_path / "net.safetensors"))
    return made


def test_that_a_network_without_a_graph_offers_weights_and_archive_and_says_why(
    bare: ExportDialog,
) -> None:
    items = bare.form.model()
    assert isinstance(items, QStandardItemModel)
    possible = {bare.form.itemData(row): items.item(row).isEnabled() for row in range(5)}
    assert [name for name, free in possible.items() if free] == ["safetensors", "archive"]
    assert "its branch depends on the data" in items.item(0).toolTip()
    assert "its branch depends on the data." in bare.locked.text()
    assert bare.form.currentData() == "safetensors"
    assert "weights only" in bare.form.currentText()
    assert "state dict" in bare.about.text()


def test_that_a_network_that_runs_in_onnx_runtime_offers_onnx_first(
    qtbot: QtBot, opened: Document
) -> None:
    assert opened.network is not None
    opened.network = msgspec.structs.replace(
        opened.network, graph_lock="it loops", forms=("onnx", "safetensors", "archive")
    )
    dialog = ExportDialog(opened, "")
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    qtbot.addWidget(dialog)
    items = dialog.form.model()
    assert isinstance(items, QStandardItemModel)
    assert [items.item(row).isEnabled() for row in range(5)] == [True, False, False, True, True]
    assert dialog.form.currentData() == "onnx"


def test_that_weights_alone_replace_no_python_file(bare: ExportDialog, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("mine")
    bare.path.setText(str(tmp_path / "net.safetensors"))
    assert bare.export_button.text() == "Export"
    assert bare.export_button.isEnabled()


@pytest.fixture
def two(view: ResultsView, opened: Document, result: Result) -> tuple[Result, Result]:
    """Show two results whose archives are on disk; the second is selected."""
    second = msgspec.structs.replace(result, identity="b", name="Again", archive="second.fwz")
    opened.results = (result, second)
    opened.results_folder.mkdir(parents=True, exist_ok=True)
    for each in opened.results:
        (opened.results_folder / each.archive).touch()
    opened.results_changed.emit()
    assert view.result == second
    return result, second


def answer(view: ResultsView, word: str) -> None:
    box = view.window().findChild(QMessageBox, "delete_question")
    assert isinstance(box, QMessageBox)
    next(each for each in box.buttons() if each.text() == word).click()


def test_that_a_result_is_renamed_in_the_list_and_kept(
    qtbot: QtBot, view: ResultsView, opened: Document, two: tuple[Result, Result]
) -> None:
    view.rename_button.click()
    editor = view.list.findChild(QLineEdit)
    assert isinstance(editor, QLineEdit)
    assert editor.text() == "Again"
    editor.setText("For phones")
    with qtbot.waitSignal(opened.results_changed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert [each.name for each in opened.results] == ["Four bits", "For phones"]
    assert view.list.item(1).text().startswith("For phones\n")
    assert view.result == msgspec.structs.replace(two[1], name="For phones")
    opened.save()
    assert opened.path is not None
    assert [each.name for each in read_project(opened.path).results] == ["Four bits", "For phones"]


def test_that_a_result_keeps_its_name_where_none_is_given(
    qtbot: QtBot, view: ResultsView, opened: Document, two: tuple[Result, Result]
) -> None:
    view.rename_button.click()
    editor = view.list.findChild(QLineEdit)
    assert isinstance(editor, QLineEdit)
    editor.setText("  ")
    with qtbot.waitSignal(editor.destroyed):
        qtbot.keyClick(editor, Qt.Key.Key_Return)
    assert opened.results == two


def test_that_a_result_goes_with_its_archive_once_that_is_confirmed(
    view: ResultsView, opened: Document, two: tuple[Result, Result]
) -> None:
    view.delete_button.click()
    answer(view, "Keep")
    assert opened.results == two
    view.delete_button.click()
    answer(view, "Delete")
    assert opened.results == two[:1]
    assert view.result == two[0]
    assert [file.name for file in opened.results_folder.iterdir()] == ["first.fwz"]


def test_that_an_archive_stays_while_another_result_uses_it(
    view: ResultsView, opened: Document, two: tuple[Result, Result]
) -> None:
    twin = msgspec.structs.replace(two[1], archive="first.fwz")
    opened.results = (two[0], twin)
    opened.results_changed.emit()
    view.list.setCurrentRow(0)
    view.delete_button.click()
    answer(view, "Delete")
    assert opened.results == (twin,)
    assert (opened.results_folder / "first.fwz").exists()


def test_that_the_next_run_takes_no_name_of_a_result(result: Result) -> None:
    second = msgspec.structs.replace(result, name="Run 2")
    assert free_name(()) == "Run 1"
    assert free_name((second,)) == "Run 3"
