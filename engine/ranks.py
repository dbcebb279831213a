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

    Both are the same share t of their channels: t·(inputs² + outputs²) + t²·taps·inputs·outputs is
    what the factors hold, solved for t and rounded down. Where a rank would be below 1 it is 1, and
    the other one takes what is left.
    """
    ends, core = inputs**2 + outputs**2, taps * inputs * outputs
    share = (math.sqrt(ends**2 + 4 * core**2 * keep) - ends) / (2 * core)
    out_rank, in_rank = _whole(share * outputs), _whole(share * inputs)
    if in_rank < 1:
        in_rank, out_rank = 1, _whole((keep * core - inputs) / (taps + outputs))
    elif out_rank < 1:
        out_rank, in_rank = 1, _whole((keep * core - outputs) / (taps + inputs))
    return max(out_rank, 1), max(in_rank, 1)


def tucker_keep(out_rank: int, outputs: int, inputs: int, taps: int) -> float:
    """Return the share at which `tucker_ranks` gives the outputs a rank."""
    share = out_rank / outputs
    ends, core = inputs**2 + outputs**2, taps * inputs * outputs
    if share * inputs < 1:
        return (inputs + out_rank * (taps + outputs)) / core
    return (share * ends + share**2 * core) / core


def output_rank(method: str, keep: float, weight: tuple[int, ...]) -> int | None:
    """Return the rank of the outputs that a method gives a weight of a shape (outputs first).

    It is the place on the spectrum of the weight seen as outputs by the rest; None where the method
    has no rank.
    """
    outputs, inputs, taps = weight[0], weight[1], math.prod(weight[2:])
    if method == "svd":
        return svd_rank(keep, outputs, inputs * taps)
    if method == "tucker":
        return tucker_ranks(keep, outputs, inputs, taps)[0]
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
