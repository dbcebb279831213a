"""Numbers, units and bases as people read them."""

from collections.abc import Sequence

from featherweight.engine.figures import Basis, Figure

MINUS = "\u2212"
NONE = "\u2013"
MIXED = "several values"
TITLES = {
    "parameters": "Parameters",
    "macs": "MACs",
    "bits": "Stored size",
    "bytes": "File size",
    "latency": "Latency",
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "agreement": "Label agreement",
    "snr": "Output SNR",
    "loss": "Loss",
    "relative_error": "Largest relative error",
    "label_agreement": "Label agreement",
    "compression": "Compression rate α",
    "speedup": "Speedup rate δ",
}
BASIS_TITLES: dict[Basis, str] = {
    "estimated": "estimated",
    "simulated": "simulated",
    "measured": "measured",
}
BASIS_HELP: dict[Basis, str] = {
    "estimated": "Computed from a formula or a proxy; nothing was run for it.",
    "simulated": "From a run that imitates the real thing, such as fake quantization.",
    "measured": "From the real thing: the file on disk, the clock, the labels.",
}
SENSITIVITY = "loss at 4 bits, estimated"
SLOT_TITLES = {
    "structure": "Structure",
    "sparsity": "Sparsity",
    "precision": "Precision",
    "coding": "Coding",
}
SLOT_HELP = {
    "structure": "What shape is the layer?",
    "sparsity": "Which weights stay?",
    "precision": "How many bits is a weight?",
    "coding": "How is it stored?",
}
KIND_TITLES = {
    "values": "Values",
    "indices": "Indices",
    "codebooks": "Codebooks",
    "scales": "Scales, zero points",
    "tables": "Coding tables",
    "container": "Container",
}
# The engine words its hints for the terminal; the window has fields instead.
_FIELDS = {
    "--factory": "the factory",
    "--input": "the input shape",
    "--trust": "the file",
    "--value": "the fixed value",
}
_RATES = frozenset({"top1", "top5", "accuracy", "agreement", "label_agreement"})
_UNITS = {
    "parameters": "",
    "macs": "MAC",
    "activations": "",
}


def in_window(sentence: str) -> str:
    """Return a sentence with the switches of the terminal as the fields of the dialog."""
    for switch, field in _FIELDS.items():
        sentence = sentence.replace(switch, field)
    return sentence


def title_of(name: str) -> str:
    """Return the title of a figure by its name."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def count(value: float) -> str:
    """Return a count in three or four digits: 512, 23.5 k, 1.82 G."""
    for limit, factor, suffix in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= limit:
            return f"{_digits(value / factor)}{suffix}"
    return f"{value:,.0f}".replace(",", "\u202f")


def size(octets: float) -> str:
    """Return bytes as kB, MB, GB (powers of 1000)."""
    for factor, suffix in ((1e9, " GB"), (1e6, " MB"), (1e3, " kB")):
        if abs(octets) >= factor:
            return f"{_digits(octets / factor)}{suffix}"
    return f"{octets:.0f} B"


def bits(stored: float) -> str:
    """Return a number of bits as bytes."""
    return size(-(-stored // 8))


def milliseconds(value: float) -> str:
    """Return a latency given in milliseconds."""
    if value and value < 0.9995:
        return f"{value * 1000:.0f} µs"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{_digits(value)} ms"


def rise(value: float) -> str:
    """Return by how much a loss rises, in two digits: 0.0064, 3.1e\u22125."""
    if value and abs(value) < 0.0001:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", MINUS)
    return f"{value:.2g}".replace("-", MINUS) if abs(value) < 100 else count(value)


def brief_rise(value: float) -> str:
    """Return a rise in as few letters as tell it: 0.064, 3e\u22125."""
    if 0 < float(f"{abs(value):.0e}") < 0.001:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", MINUS)
    return f"{value:.1g}" if 0 < value < 0.01 else rise(value)


def power(exponent: int) -> str:
    """Return a power of ten: 0.001, 100, 1e\u22125."""
    return brief_rise(10.0**exponent) if exponent < -3 else f"{10.0**exponent:g}"


def risen(value: float) -> str:
    """Return by how much a loss rises or, below zero, falls, and how that is known."""
    return f"{'+' if value >= 0 else ''}{rise(value)} {SENSITIVITY}"


def percent(share: float, places: int = 1) -> str:
    """Return a share of one as percent."""
    return f"{share * 100:.{places}f} %"


def error(share: float) -> str:
    """Return a relative error as percent, in two digits: 3.1 %, 0.0042 %, 87 %."""
    shown = f"{share * 100:.2g}" if share < 1 else f"{share * 100:.0f}"
    if "e" in shown:
        return "< 0.0001 %"
    return f"{shown} %"


def change(before: float, after: float) -> str:
    """Return the relative change with its sign, as a minus or plus and percent."""
    if not before:
        return NONE
    moved = (after - before) / before * 100
    places = 0 if abs(moved) >= 10 else 1
    shown = f"{abs(moved):.{places}f}"
    if not float(shown):
        return "±0 %"
    return f"{MINUS if moved < 0 else '+'}{shown} %"


def factor(value: float) -> str:
    """Return a rate, as 3.4×."""
    return "∞" if value == float("inf") else f"{_digits(value)}×"


def shape(sides: Sequence[int]) -> str:
    """Return a shape, as 64 × 3 × 7 × 7."""
    return " × ".join(map(str, sides)) or "scalar"


def duration(seconds: float) -> str:
    """Return a time to wait, in the coarsest unit that still tells something."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def figure(name: str, given: Figure) -> str:
    """Return the value of a figure with its unit, by its name where the unit does not tell."""
    value, unit = given.value, given.unit
    if name in _RATES:
        return percent(value / 100 if unit == "%" else value, 2)
    if unit in ("B", "byte", "bytes"):
        return size(value)
    if unit in ("bit", "bits"):
        return bits(value)
    if unit == "ms":
        return milliseconds(value)
    if unit == "s":
        return milliseconds(value * 1000)
    if unit == "×":
        return factor(value)
    if name in _UNITS:
        return count(value)
    return f"{_plain(value)} {unit}".strip()


def moved(name: str, before: Figure, after: Figure) -> str:
    """Return how a figure changed: points for a rate of samples, dB for dB, else percent."""
    if name in _RATES:
        scale = 1 if after.unit == "%" else 100
        points = (after.value - before.value) * scale
        return f"{MINUS if points < 0 else '+'}{abs(points):.2f} pt"
    if after.unit == "dB":
        # A ratio of logarithms says nothing.
        gained = after.value - before.value
        return f"{MINUS if gained < 0 else '+'}{abs(gained):.1f} dB"
    return change(before.value, after.value)


def scalar(value: object, unit: str = "") -> str:
    """Return the value of an option as people write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    shown = f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")
    return f"{shown} {unit}".strip()


def _digits(value: float) -> str:
    size_of = abs(value)
    return f"{value:.{0 if size_of >= 100 else 1 if size_of >= 10 else 2}f}"


def _plain(value: float) -> str:
    if value and (abs(value) < 0.001 or abs(value) >= 1e5):
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
