"""What is said of a reading of a sweep."""

from collections.abc import Callable, Mapping

from featherweight.engine.layer import Layer
from featherweight.engine.readings import DamageOf, Reading, Spread
from featherweight.gui import wording
from featherweight.gui.item_models.layer_words import LayerWords

DAMAGES: dict[DamageOf | None, str] = {
    "divergence": "KL divergence",
    "output error": "Output error",
    None: "Damage",
}
COSTS = {"parameters": "parameters", "macs": "MACs"}


def told(reading: Reading, words: LayerWords, damage: str, metric: str) -> str:
    """Return all that is known of a reading, a fact a line; `damage` and `metric` are titles."""
    names = reading.layers
    together = f" and {len(names) - 1} coupled" if len(names) > 1 else ""
    lines = [f"{' → '.join(words.chosen(reading.choice))} in {names[0]}{together}"]
    if reading.reason:
        return "\n".join([*lines, f"Failed: {reading.reason}"])
    if reading.damage is not None:
        lines.append(f"{damage} {spread(reading.damage)}")
    if reading.loss is not None:
        lines.append(f"Loss rises by {spread(reading.loss)}")
    if reading.metric is not None:
        lines.append(f"{metric} falls by {spread(reading.metric)} points")
    lines += _costs(reading)
    basis = wording.BASIS_TITLES[reading.basis]
    on = f" on {wording.count(reading.samples)} samples" if reading.samples else ""
    lines.append(f"{basis.capitalize()}{on}: {wording.BASIS_HELP[reading.basis]}")
    return "\n".join(lines)


def spread(given: Spread) -> str:
    """Return a mean with its standard error, where there is one."""
    error = f" ± {wording.rise(given.error)}" if given.error else ""
    return f"{wording.rise(given.value)}{error}"


def stored_share(reading: Reading, layers: Mapping[str, Layer]) -> float | None:
    """Return what the layers of a reading take, as a share of what they take in the source."""
    whole = sum(layers[name].bits for name in reading.layers if name in layers)
    if reading.cost is None or not whole:
        return None
    return max(whole + reading.cost.bits, 0) / whole


def _costs(reading: Reading) -> list[str]:
    lines = []
    if reading.cost is not None:
        parts = [f"{_signed(reading.cost.bits, wording.bits)} stored"]
        for name, title in COSTS.items():
            if value := getattr(reading.cost, name):
                parts.append(f"{_signed(value, wording.count)} {title}")
        lines.append(", ".join(parts))
    if reading.latency is not None:
        lines.append(f"{_signed(reading.latency, wording.milliseconds)} latency")
    return lines


def _signed(value: float, words: Callable[[float], str]) -> str:
    return f"{wording.MINUS if value < 0 else '+'}{words(abs(value))}"
