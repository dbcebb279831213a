"""What the charts of a run show, and the figures of the network that it began with."""

from collections.abc import Iterable, Mapping

from featherweight.engine.figures import Figure
from featherweight.engine.results import Result
from featherweight.gui import wording
from featherweight.gui.widgets.chart_row import Quantity
from featherweight.gui.widgets.line_style import Line

SMALL = 0.001
SOURCE = "source"


def loss_words(value: float) -> str:
    """Return a loss in a few digits; a small one is no zero."""
    return f"{value:.3f}" if value >= SMALL else f"{value:.2e}"


def percent_tick(share: float) -> str:
    """Return a share as percent, as short as it is."""
    return f"{share * 100:.4g} %"


QUANTITIES: Mapping[str, Quantity] = {
    "loss": Quantity("Loss", {"loss": Line("Loss", 0)}, loss_words, "{:.4g}".format, "simulated"),
    "accuracy": Quantity(
        "Accuracy",
        {
            "accuracy": Line("Recovering", 0),
            "control": Line("Dense control", 1),
            "labels": Line("Hard labels", 2),
            "held": Line("Held out", 3),
            SOURCE: Line("Source", None, "dashed", level=True),
        },
        wording.percent,
        percent_tick,
        "simulated",
    ),
    "rate": Quantity(
        "Learning rate", {"rate": Line("Learning rate", 0)}, "{:.3g}".format, "{:.3g}".format
    ),
    "size": Quantity(
        "Size", {"bits": Line("Stored forms", 0)}, wording.size, wording.size, "estimated", 1 / 8
    ),
    "density": Quantity(
        "Density", {"density": Line("Not zero", 0)}, wording.percent, percent_tick, "simulated"
    ),
}


def accuracy_of(figures: Mapping[str, Figure]) -> Figure | None:
    """Return the figure that charts call accuracy: top-1, or the agreement of labels."""
    return figures.get("top1") or figures.get("agreement")


def source_share(results: Iterable[Result]) -> float | None:
    """Return the accuracy of the source network (0 to 1) as the newest result measured it."""
    for result in reversed(tuple(results)):
        figure = accuracy_of(result.before.figures)
        if figure is not None:
            return share_of(figure)
    return None


def share_of(figure: Figure) -> float:
    """Return a rate as 0 to 1."""
    return figure.value / 100 if figure.unit == "%" else figure.value
