"""The ranks that low-rank methods choose: plain arithmetic that a window can do as well."""

import math


def svd_rank(keep: float, outputs: int, inputs: int) -> int:
    """Return the largest rank whose two factors hold at most `keep` of a matrix, at least 1."""
    return max(1, _whole(keep * outputs * inputs / (outputs + inputs)))


def svd_keep(rank: int, outputs: int, inputs: int) -> float:
    """Return the share of the matrix that two factors of a rank hold: `svd_rank` the other way."""
    return rank * (outputs + inputs) / (outputs * inputs)


def tucker_ranks(keep: float, outputs: int, inputs: int, taps: int) -> tuple[int, int]:
    """Return the ranks (of outputs, of inputs) whose three factors hold at most `keep` of a kernel.

    Both are the same multiple x of the square root of their channels, so that the few colours of an
    image keep more of their rank than wide layers do: the factors hold
    x·(inputs^1.5 + outputs^1.5) + x²·taps·√(inputs·outputs), solved for x and rounded down. Where
    a rank would be below 1 or above its channels it stays there, and the other takes what is left.
    """
    core = taps * inputs * outputs
    ends, middle = inputs**1.5 + outputs**1.5, taps * (inputs * outputs) ** 0.5
    multiple = (math.sqrt(ends**2 + 4 * middle * keep * core) - ends) / (2 * middle)
    out_rank, in_rank = multiple * outputs**0.5, multiple * inputs**0.5
    if not 1 <= in_rank <= inputs:
        in_rank = min(max(in_rank, 1), inputs)
        out_rank = (keep * core - inputs * in_rank) / (taps * in_rank + outputs)
    elif not 1 <= out_rank <= outputs:
        out_rank = min(max(out_rank, 1), outputs)
        in_rank = (keep * core - outputs * out_rank) / (taps * out_rank + inputs)
    return max(_whole(out_rank), 1), max(_whole(in_rank), 1)


def tucker_keep(out_rank: int, outputs: int, inputs: int, taps: int) -> float:
    """Return the share at which `tucker_ranks` gives the outputs a rank."""
    in_rank: float = min(max(out_rank * (inputs / outputs) ** 0.5, 1), inputs)
    held = inputs * in_rank + taps * in_rank * out_rank + outputs * out_rank
    return held / (taps * inputs * outputs)


def cp_rank(keep: float, outputs: int, inputs: int, taps: int) -> int:
    """Return the largest rank whose factors hold at most `keep` of a kernel, at least 1."""
    return max(1, _whole(keep * outputs * inputs * taps / (outputs + inputs + taps)))


def rounded_rank(rank: int, multiple: int) -> int:
    """Return a rank rounded down to a multiple; below the first multiple it stays."""
    return rank if rank < multiple else rank - rank % multiple


def output_rank(method: str, keep: float, weight: tuple[int, ...], multiple: int = 1) -> int | None:
    """Return the rank of the outputs that a method gives a weight of a shape (outputs first).

    Rounded down to a multiple, it is the place on the spectrum of the weight seen as outputs by the
    rest; None where the method has no rank.
    """
    outputs, inputs, taps = weight[0], weight[1], math.prod(weight[2:])
    if method == "svd":
        return rounded_rank(svd_rank(keep, outputs, inputs * taps), multiple)
    if method == "tucker":
        return rounded_rank(tucker_ranks(keep, outputs, inputs, taps)[0], multiple)
    return None


def output_keep(method: str, rank: int, weight: tuple[int, ...]) -> float | None:
    """Return the share to keep at which `output_rank` is a rank; None where there is no rank."""
    outputs, inputs, taps = weight[0], weight[1], math.prod(weight[2:])
    if method == "svd":
        return svd_keep(rank, outputs, inputs * taps)
    if method == "tucker":
        return tucker_keep(rank, outputs, inputs, taps)
    return None


def _whole(value: float) -> int:
    """Round down, except where only the last digits of a float keep a number from being whole."""
    return math.floor(value + 1e-9 * max(1.0, value))
