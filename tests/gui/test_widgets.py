"""Controls that know nothing of networks: numbers, options, bars, charts, badges."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QWidget
from pytestqt.qtbot import QtBot

from featherweight.engine.figures import Figure
from featherweight.engine.options import Option, describe
from featherweight.engine.trainings import FineTuning
from featherweight.gui import wording
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.chart_row import NARROW, WIDE, ChartRow, Quantity
from featherweight.gui.widgets.facts import Facts
from featherweight.gui.widgets.figure_table import FigureTable
from featherweight.gui.widgets.line_chart import LineChart
from featherweight.gui.widgets.line_style import Line
from featherweight.gui.widgets.number_control import NumberControl
from featherweight.gui.widgets.option_form import OptionForm
from featherweight.gui.widgets.plain_table import PlainTable
from featherweight.gui.widgets.size_bars import SizeBars
from featherweight.gui.widgets.spectrum_chart import SpectrumChart
from featherweight.gui.widgets.stacked_bar import Part, StackedBar

Show = Callable[[QWidget], None]


@pytest.fixture
def show(qtbot: QtBot) -> Show:
    def shown(widget: QWidget) -> None:
        qtbot.addWidget(widget)
        with qtbot.waitExposed(widget):
            widget.show()

    return shown


@pytest.mark.parametrize(
    ("minimum", "maximum", "whole"),
    [(0.0, 1.0, False), (1e-7, 10.0, False), (0, 1000, True), (1, 65536, True), (2, 256, True)],
)
def test_that_the_slider_reaches_every_end_of_its_range(
    show: Show, minimum: float, maximum: float, whole: bool
) -> None:
    control = NumberControl(minimum, maximum, whole)
    show(control)
    control.slider.setValue(control.slider.maximum())
    assert control.value() == pytest.approx(maximum)
    control.slider.setValue(0)
    assert control.value() == pytest.approx(minimum)


def test_that_a_shown_number_is_kept_although_the_slider_is_coarser(show: Show) -> None:
    control = NumberControl(1e-7, 10.0, whole=False)
    show(control)
    told: list[float] = []
    control.changed.connect(told.append)
    control.show_value(0.0123456)
    assert control.value() == pytest.approx(0.0123456)
    assert told == []


def test_that_a_typed_number_moves_the_slider_and_is_told_once(qtbot: QtBot, show: Show) -> None:
    control = NumberControl(0.0, 1.0, whole=False)
    show(control)
    told: list[float] = []
    control.changed.connect(told.append)
    control.box.selectAll()
    qtbot.keyClicks(control.box, "0.25")
    qtbot.keyClick(control.box, Qt.Key.Key_Return)
    assert told == [0.25]
    assert control.slider.value() == control.slider.maximum() // 4


def test_that_the_wheel_moves_only_a_control_in_focus(show: Show) -> None:
    control = NumberControl(0.0, 1.0, whole=False)
    show(control)
    control.box.clearFocus()
    control.slider.clearFocus()

    def roll() -> None:
        middle = QPointF(control.slider.rect().center())
        place = QPointF(control.slider.mapToGlobal(middle.toPoint()))
        none = Qt.MouseButton.NoButton
        roll = QWheelEvent(
            middle, place, QPoint(), QPoint(0, 120), none, Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(control.slider, roll)

    roll()
    assert control.value() == 0.0
    control.slider.setFocus()
    roll()
    assert control.value() > 0.0


def test_that_several_numbers_leave_the_box_empty_until_one_is_chosen(show: Show) -> None:
    control = NumberControl(0.0, 1.0, whole=False)
    show(control)
    control.show_value(0.5, several=True)
    assert control.box.text() == ""
    control.slider.setValue(100)
    assert control.box.text() == "0.1"


def test_that_a_form_draws_a_control_for_every_option(qtbot: QtBot, show: Show) -> None:
    form = OptionForm("option_recovery")
    form.show_options(describe(FineTuning))
    show(form)
    told: list[tuple[str, object]] = []
    form.changed.connect(lambda name, value: told.append((name, value)))
    optimizer = form.findChild(QComboBox, "option_recovery_optimizer")
    assert optimizer is not None
    qtbot.keyClick(optimizer, Qt.Key.Key_Down)
    assert told == [("optimizer", "adamw")]
    for control in form.findChildren(QWidget):
        if control.objectName().startswith("option_"):
            assert control.accessibleName()
            assert control.toolTip()


def test_that_a_switch_with_several_values_is_half_checked(qtbot: QtBot, show: Show) -> None:
    option = Option(name="on", title="On", help="Whether.", kind="switch", default=False)
    form = OptionForm("option")
    form.show_options((option,))
    form.show_values({"on": (True, False)})
    show(form)
    switch = form.findChild(QCheckBox, "option_on")
    assert switch is not None
    assert switch.checkState() == Qt.CheckState.PartiallyChecked
    with qtbot.waitSignal(form.changed) as told:
        switch.click()
    assert told.args == ["on", True]


def test_that_the_same_options_keep_their_controls(show: Show) -> None:
    form = OptionForm("option")
    form.show_options(describe(FineTuning))
    show(form)
    box = form.findChild(QWidget, "option_momentum")
    form.show_options(describe(FineTuning))
    assert form.findChild(QWidget, "option_momentum") is box


def test_that_points_are_drawn_together_and_not_one_by_one(qtbot: QtBot, show: Show) -> None:
    chart = LineChart(scale=100)
    show(chart)
    for step in range(1000):
        chart.add_point("accuracy", step, 0.5)
    assert chart.plot.listDataItems() == []
    qtbot.waitUntil(lambda: len(chart.plot.listDataItems()) == 1)
    steps, values = chart.plot.listDataItems()[0].getOriginalDataset()
    assert len(steps) == 1000
    assert values[-1] == 50.0


def test_that_a_cleared_chart_forgets_its_points(show: Show) -> None:
    chart = LineChart()
    show(chart)
    chart.add_point("loss", 1, 0.3)
    chart.draw()
    chart.clear()
    assert chart.count("loss") == 0
    assert chart.plot.listDataItems()[0].getOriginalDataset() == (None, None)


def test_that_a_level_stands_from_side_to_side_and_is_known_at_every_step(show: Show) -> None:
    lines = {"accuracy": Line("Now", 0), "source": Line("Source", dash="dashed", level=True)}
    chart = LineChart(lines)
    show(chart)
    chart.add_point("source", 0, 0.9)
    assert chart.nearest(10) is None
    for step in (0, 10, 20):
        chart.add_point("accuracy", step, 0.5 + step / 100)
    chart.add_point("source", 0, 0.95)
    assert chart.nearest(11) == (10, {"source": 0.95, "accuracy": 0.6})
    chart.draw()
    assert len(chart.plot.listDataItems()) == 1
    low, high = chart.plot.viewRange()[1]
    assert low < 0.5
    assert high > 0.95


def test_that_charts_side_by_side_trade_places_by_their_titles(show: Show) -> None:
    def quantity(title: str) -> Quantity:
        return Quantity(title, {title.lower(): Line(title, 0)}, str, str)

    row = ChartRow({name.lower(): quantity(name) for name in ("One", "Two", "Three")})
    row.resize(NARROW, 160)
    show(row)
    assert [name for name, card in row.cards.items() if card.isVisible()] == ["one", "two"]
    box = row.cards["two"].title
    box.setCurrentIndex(2)
    box.activated.emit(2)
    assert row.order == ["one", "three", "two"]
    assert [name for name, card in row.cards.items() if card.isVisible()] == ["one", "three"]
    assert row.cards["two"].title.currentText() == "Two"
    row.resize(3 * WIDE, 160)
    assert all(card.isVisible() for card in row.cards.values())
    row.resize(NARROW - 1, 160)
    assert [name for name, card in row.cards.items() if card.isVisible()] == ["one"]


def test_that_a_locked_option_says_why_and_is_free_again(show: Show) -> None:
    form = OptionForm("option")
    form.show_options(describe(FineTuning, "momentum", "epochs"))
    show(form)
    box = form.findChild(QWidget, "option_momentum")
    assert box is not None
    form.lock({"momentum": "AdamW has moments of its own."})
    assert not box.isEnabled()
    assert box.toolTip().startswith("AdamW has moments of its own.\nOf SGD")
    assert form.findChild(QWidget, "option_epochs").isEnabled()
    form.lock({})
    assert box.isEnabled()
    assert box.toolTip().startswith("Of SGD")


def test_that_the_spectrum_knows_the_energy_of_a_rank(show: Show) -> None:
    chart = SpectrumChart()
    show(chart)
    chart.show_spectrum((3.0, 2.0, 1.0))
    assert chart.energy(1) == pytest.approx(9 / 14)
    assert chart.energy(3) == pytest.approx(1.0)
    assert chart.rank_for(0.9) == 2
    chart.show_rank(2)
    assert chart.rank == 2
    chart.show_rank(None)
    assert chart.rank is None


def test_that_a_stacked_bar_leaves_out_what_has_no_size(show: Show) -> None:
    bar = StackedBar()
    show(bar)
    bar.show_parts([Part("Values", 3.0, "3 B"), Part("Tables", 0.0, "0 B"), Part("Rest", 1.0, "1")])
    assert bar.accessibleDescription() == "Values 3 B (75.0 %), Rest 1 (25.0 %)"


def test_that_a_narrow_stacked_bar_breaks_its_legend_into_lines(show: Show) -> None:
    bar = StackedBar()
    bar.show_parts([Part(f"Part number {n}", 1.0, "12.3 kB") for n in range(6)])
    show(bar)
    assert bar.heightForWidth(200) > bar.heightForWidth(1600)


def test_that_a_badge_tells_its_basis_in_words(show: Show) -> None:
    badge = BasisBadge("estimated")
    show(badge)
    badge.show_basis("measured")
    assert badge.accessibleName() == "measured"
    assert "the file on disk" in badge.toolTip()


def test_that_facts_without_a_value_are_hidden(show: Show) -> None:
    facts = Facts()
    facts.show_facts({"Input": "1 × 3", "Calls": ""})
    show(facts)
    assert facts.text("Input") == "1 × 3"
    assert facts.text("Calls") == ""
    facts.show_facts({"Calls": "2"})
    assert (facts.text("Input"), facts.text("Calls")) == ("", "2")


def test_that_size_bars_show_what_is_left_with_its_basis(show: Show) -> None:
    bars = SizeBars()
    show(bars)
    bars.show_sizes(Figure(4000, "B", "measured"), Figure(1000, "B", "estimated"))
    assert bars.bars.share == 0.25
    assert bars.moved.text() == "\u221275 %"
    assert bars.badge.basis == "estimated"


def test_that_a_figure_table_shows_gains_and_losses_apart(show: Show) -> None:
    table = FigureTable(("", "Before", "After", "Change", "Predicted"))
    table.show_comparison(
        {"bytes": Figure(4000, "B", "measured"), "top1": Figure(91.0, "%", "measured")},
        {"bytes": Figure(1000, "B", "measured"), "top1": Figure(90.0, "%", "measured")},
        {"bytes": Figure(1100, "B", "estimated")},
    )
    show(table)

    def cell(name: str, column: int) -> QWidget:
        found = table.findChild(QWidget, f"figure_{name}_{column}")
        assert found is not None
        return found

    assert cell("bytes", 3).property("role") == "good"
    assert cell("top1", 3).property("role") == "warning"
    assert cell("top1", 3).property("text") == "\u22121.00 pt"
    assert cell("bytes", 4).property("text") == "1.10 kB"


def test_that_a_plain_table_sorts_by_worth_and_not_by_text(show: Show) -> None:
    table = PlainTable(("Layer", "Bytes"))
    show(table)
    table.show_lines([[(n, n), (b, t)] for n, b, t in (("a", 9, "9 B"), ("b", 1e4, "10 kB"))], 1)
    assert [table.topLevelItem(row).text(0) for row in range(2)] == ["b", "a"]


@given(st.floats(0, 1e13))
def test_that_a_count_reads_back_as_what_it_was(value: float) -> None:
    text = wording.count(value)
    number, _, suffix = text.replace("\u202f", "").partition(" ")
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[suffix]
    assert float(number) * scale == pytest.approx(value, rel=0.006, abs=0.5)


@given(st.floats(1, 1e6), st.floats(0, 1e6))
def test_that_a_change_has_the_sign_of_its_direction(before: float, after: float) -> None:
    text = wording.change(before, after)
    if abs(after - before) / before > 0.001:
        assert text.startswith("+" if after > before else wording.MINUS)
    assert text.endswith(" %")


@pytest.mark.parametrize(
    ("name", "figure", "text"),
    [
        ("top1", Figure(91.255, "%", "measured"), "91.25 %"),
        ("bytes", Figure(1_310_220, "B", "measured"), "1.31 MB"),
        ("latency", Figure(0.02, "ms", "measured"), "20 µs"),
        ("latency", Figure(0.138, "ms", "measured"), "138 µs"),
        ("latency", Figure(0.9996, "ms", "measured"), "1.00 ms"),
        ("speedup", Figure(1.834, "×", "measured"), "1.83×"),
        ("macs", Figure(4.089e9, "MACs", "measured"), "4.09 G"),
        ("relative_error", Figure(3.1e-7, "", "measured"), "3.1e-07"),
        ("snr", Figure(41.23, "dB", "measured"), "41.2 dB"),
    ],
)
def test_that_figures_read_in_the_unit_people_use(name: str, figure: Figure, text: str) -> None:
    assert wording.figure(name, figure) == text
