"""The details of a selected layer, and the rank that its structure choice keeps."""

import msgspec
import pytest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Described, LatencyMeasured, Ready, SensitivityEstimated
from featherweight.engine.layer import Equivariance, Histogram, LayerDetails, NetworkSummary
from featherweight.engine.recipe import Setting
from featherweight.gui.document import Document
from featherweight.gui.views.details import DetailsView


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> DetailsView:
    made = DetailsView(opened)
    qtbot.addWidget(made)
    made.resize(380, 800)
    with qtbot.waitExposed(made):
        made.show()
    return made


def details(name: str, spectrum: tuple[float, ...] = (4.0, 2.0, 1.0)) -> LayerDetails:
    return LayerDetails(
        name=name, mean=0.01, deviation=0.2, minimum=-0.5, maximum=0.75, zeros=0.25,
        histogram=Histogram((-1.0, 0.0, 1.0), (3, 5)), spectrum=spectrum,
    )  # fmt: skip


def test_that_nothing_selected_says_what_to_do(view: DetailsView, opened: Document) -> None:
    assert view.empty.isVisible()
    opened.select(("stem",))
    assert not view.empty.isVisible()
    assert view.title.text() == "stem"


def test_that_the_longest_names_do_not_push_the_charts_out_of_sight(
    view: DetailsView, opened: Document, qtbot: QtBot
) -> None:
    long = ".".join(["a_module_with_a_name_that_says_all"] * 5)
    stem = opened.layers["stem"]
    opened.layers[long] = msgspec.structs.replace(stem, name=long, coupled=(long + ".b",))
    opened.select((long,))
    assert view.title.toolTip() == long
    page = view.panel.widget()
    qtbot.waitUntil(lambda: page.width() <= view.panel.viewport().width())
    assert page.minimumSizeHint().width() <= view.panel.viewport().width()


def test_that_shapes_and_shares_of_the_layer_are_shown(
    view: DetailsView, opened: Document, network: NetworkSummary
) -> None:
    opened.select(("classifier",))
    assert view.facts.text("Output") == "1 × 10"
    assert view.facts.text("weight") == "10 × 16"
    assert view.facts.text("Parameters") == f"160 ({160 / network.parameters * 100:.1f} %)"


def test_that_measured_latency_joins_the_facts(
    view: DetailsView, opened: Document, network: NetworkSummary
) -> None:
    opened.select(("stem",))
    assert view.facts.text("Latency") == ""
    layers = {layer.name: 2.0 for layer in network.layers}
    opened.receive(LatencyMeasured(layers=layers, total=20.0, batch=1))
    assert view.facts.text("Latency") == "2.00 ms, measured, 10.0 % of the sum"


def test_that_estimated_sensitivity_or_its_reason_joins_the_facts(
    view: DetailsView, opened: Document
) -> None:
    opened.select(("stem",))
    assert view.facts.text("Sensitivity") == ""
    reasons = {"classifier": "It has no gradients."}
    told = SensitivityEstimated(layers={"stem": 0.0123}, reasons=reasons, loss="", samples=64)
    opened._on_estimated(told)
    assert view.facts.text("Sensitivity") == "+0.012 loss at 4 bits, estimated"
    fallen = SensitivityEstimated(layers={"stem": -0.03}, reasons=reasons, loss="", samples=64)
    opened._on_estimated(fallen)
    assert view.facts.text("Sensitivity") == "\u22120.03 loss at 4 bits, estimated"
    opened.select(("classifier",))
    assert view.facts.text("Sensitivity") == "not told: It has no gradients."


def test_that_equivariance_names_the_method_that_suits_only_where_the_layer_is_near(
    view: DetailsView, opened: Document
) -> None:
    pruning = next(method for method in opened.methods if method.slot == "structure")
    negation = msgspec.structs.replace(pruning, name="negation", title="Opposite filters")
    opened.receive(Ready(methods=(*opened.methods, negation)))
    opened.select(("stem",))
    for error, said in ((0.0, "exact"), (0.12, "off by 12.0 %"), (0.9, "off by 90.0 %")):
        found = (Equivariance("translation", 0.0), Equivariance("negation", error))
        described = msgspec.structs.replace(details("stem"), equivariance=found)
        opened.receive(Described(details=described))
        suits = "; Opposite filters suits it" if error < 0.5 else ""
        assert view.equivariance_facts.text("Negation") == said + suits
    assert view.equivariance_facts.text("Translation") == "exact"
    opened.receive(Described(details=details("stem")))
    assert not view.equivariance.isVisible()


def test_that_details_of_the_shown_layer_fill_the_charts(
    view: DetailsView, opened: Document
) -> None:
    opened.select(("classifier",))
    assert not view.weights.isVisible()
    opened.receive(Described(details=details("stem")))
    assert not view.weights.isVisible()
    opened.receive(Described(details=details("classifier")))
    assert view.weights.isVisible()
    assert view.statistics.text() == "0.0100 ± 0.2000, from \u22120.500 to 0.750, 25.0 % zeros"
    assert "Rank 2 of 3 would keep 90 % of the energy" in view.rank_text.text()


def test_that_a_layer_without_a_spectrum_shows_no_empty_chart(
    view: DetailsView, opened: Document
) -> None:
    opened.select(("blocks.0.bn1",))
    opened.receive(Described(details=details("blocks.0.bn1", spectrum=())))
    assert view.histogram.isVisible()
    assert not view.spectrum.isVisible()


def test_that_an_estimated_spectrum_says_so_below_the_chart(
    view: DetailsView, opened: Document
) -> None:
    opened.select(("classifier",))
    exact = details("classifier")
    opened.receive(Described(details=exact))
    assert "Estimated" not in view.rank_text.text()
    opened.receive(Described(details=msgspec.structs.replace(exact, spectrum_estimated=True)))
    assert "Estimated: the layer is too wide" in view.rank_text.text()


def test_that_the_rank_line_follows_a_low_rank_choice(view: DetailsView, opened: Document) -> None:
    opened.select(("classifier",))
    opened.receive(Described(details=details("classifier", (4.0,) + (1.0,) * 9)))
    assert view.spectrum.rank is None
    opened.set_choice(("classifier",), "structure", Setting("svd", {"keep": 0.5}))
    assert view.spectrum.rank == 3
    assert "Rank 3 of 10 keeps 72.0 % of the energy" in view.rank_text.text()
    opened.undo_stack.undo()
    assert view.spectrum.rank is None


def test_that_moving_the_rank_line_changes_the_choice(view: DetailsView, opened: Document) -> None:
    opened.select(("classifier",))
    opened.receive(Described(details=details("classifier", (4.0,) + (1.0,) * 9)))
    opened.set_choice(("classifier",), "structure", Setting("svd", {"keep": 0.5}))
    view.spectrum.rank_chosen.emit(5)
    assert view.spectrum.rank == 5
    structure = opened.recipe.choice("classifier").structure
    assert structure is not None
    assert structure.options["keep"] == pytest.approx(5 * 26 / 160, abs=0.001)


def test_that_a_coupled_layer_is_selected_by_its_link(view: DetailsView, opened: Document) -> None:
    opened.select(("stem",))
    assert "blocks.1.conv2" in view.coupled_links.text()
    view.coupled_links.linkActivated.emit("blocks.1.conv2")
    assert opened.selection == ("blocks.1.conv2",)


def test_that_one_button_selects_the_whole_coupled_group(
    view: DetailsView, opened: Document
) -> None:
    opened.select(("stem",))
    button = view.findChild(QPushButton, "select_coupled_button")
    assert button is not None
    button.click()
    assert set(opened.selection) == {"stem", "blocks.0.conv2", "blocks.1.conv2"}
    assert view.title.text() == "3 layers"
    assert not view.couplings.isVisible()


def test_that_every_lock_stands_with_its_reason(view: DetailsView, opened: Document) -> None:
    opened.select(("classifier",))
    assert view.lock_facts.text("Channel pruning") == "Its outputs are the classes."
