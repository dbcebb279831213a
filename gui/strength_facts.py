"""Errors and limits of a strength as the chooser shows them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from featherweight.engine.options import MethodDescription, Option
from featherweight.engine.recipe import Setting
from featherweight.engine.results import BreakEven, StrengthTrace
from featherweight.gui import wording
from featherweight.gui.strength_traces import error_at
from featherweight.gui.widgets.strength_chart import Limit
from featherweight.gui.widgets.strength_panel import Strength

OUTPUTS, WEIGHTS = "Output error", "Weight error"
OUTPUTS_HELP = (
    "Energy of what changes in the layer's own outputs, as a share of their energy, on samples of "
    "the data. It does not say what the network makes of it."
)
WEIGHTS_HELP = (
    "Energy of what changes in the layer's weights, as a share of their energy. With data it would "
    "be told of the layer's outputs."
)
WITHOUT_DATA = "The method asks the data for more than is measured for this: told as without it."


class ErrorFact(NamedTuple):
    """The row of the prediction: its title, value and help, and a sentence below."""

    title: str
    value: str
    help: str
    note: str = ""


def error_fact(traces: Sequence[tuple[StrengthTrace, float | None]], failure: str) -> ErrorFact:
    """Return what is known of the errors of layers, given as traces and present strengths."""
    errors = [(error_at(trace, strength), trace.of) for trace, strength in traces]
    known = sorted(error for error, _ in errors if error is not None)
    of_weights = any(error is not None and of == "weights" for error, of in errors)
    title, words = (WEIGHTS, WEIGHTS_HELP) if of_weights else (OUTPUTS, OUTPUTS_HELP)
    notes = [trace.reason for trace, _ in traces if trace.reason]
    notes += [WITHOUT_DATA for trace, _ in traces if trace.without_data]
    value = wording.NONE
    if known:
        low, high = wording.error(known[0]), wording.error(known[-1])
        value = high if low == high else f"{low} to {high}"
    return ErrorFact(title, value, words, failure or next(iter(notes), ""))


def strength_option(method: MethodDescription | None) -> Option | None:
    """Return the option that is a method's strength, None where it is no number."""
    options = method.options if method else ()
    option = next((one for one in options if method and one.name == method.strength), None)
    if option is None or option.kind == "switch":
        return None
    return None if any(isinstance(choice, str) for choice in option.choices) else option


def strength_value(setting: Setting, option: Option | None) -> float | None:
    """Return the present strength of a setting."""
    if option is None:
        return None
    return float(setting.options.get(option.name, option.default))


def strength_shown(trace: StrengthTrace, option: Option, value: float) -> Strength | None:
    """Return what to show below the options; None where a trace has nothing to draw."""
    limits = tuple(_limits(trace))
    if trace.reason and not limits:
        return None
    beyond = [limit.words for limit in limits if _is_beyond(limit, value)]
    return Strength(
        option=option,
        title=OUTPUTS if trace.of == "outputs" else WEIGHTS,
        points=trace.points,
        present=(value, error_at(trace, value)),
        limits=limits,
        warning=" ".join(beyond),
        suggestions=tuple(
            (f"Suggested by {each.why}: {option.title.lower()} {each.strength:g}", each.strength)
            for each in trace.suggestions
        ),
    )


def _limits(trace: StrengthTrace) -> Iterator[Limit]:
    smaller, faster = trace.smaller, trace.faster
    if smaller is not None and smaller == faster:
        yield _limit(smaller, "gets no smaller and takes no fewer MACs")
        return
    if smaller is not None:
        yield _limit(smaller, "gets no smaller")
    if faster is not None:
        yield _limit(faster, "takes no fewer MACs")


def _limit(found: BreakEven, words: str) -> Limit:
    if found.at is None:
        return Limit(None, found.above, f"At any strength the layer {words}.")
    side = "Above" if found.above else "Below"
    return Limit(found.at, found.above, f"{side} {found.at:g} the layer {words}.")


def _is_beyond(limit: Limit, value: float) -> bool:
    if limit.at is None:
        return True
    return value > limit.at if limit.above else value < limit.at
