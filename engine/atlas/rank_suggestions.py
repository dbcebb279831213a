"""What the spectrum of a layer's weight suggests for the strength of a low-rank method."""

import math
from collections.abc import Iterator
from itertools import accumulate

from torch import Tensor, nn

from featherweight.engine.inspecting.signal_rank import signal_rank
from featherweight.engine.inspecting.spectrum import singular_values
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.structure.separable import Separable
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.ranks import svd_keep, tucker_keep
from featherweight.engine.results import Suggestion

ENERGY = 0.9


def rank_suggestions(layer: nn.Module, method: FactorMethod) -> tuple[Suggestion, ...]:
    """Return the shares to keep by variational Bayes and by energy, where the method has a rank.

    Ranks are rounded up to the method's multiple, shares up to a thousandth, so that the method
    takes at least that rank. What is above 1 is no suggestion.
    """
    matrix = _matrix(layer, method)
    if matrix is None or not bool(matrix.isfinite().all()):
        return ()
    spectrum = singular_values(matrix)
    ranks = (
        ("variational Bayes", signal_rank(spectrum, max(matrix.shape))),
        ("90 % of the energy", _rank_of_energy(spectrum)),
    )
    return tuple(_suggested(layer, method, ranks, min(matrix.shape)))


def _suggested(
    layer: nn.Module, method: FactorMethod, ranks: tuple[tuple[str, int], ...], most: int
) -> Iterator[Suggestion]:
    multiple = int(getattr(method, "multiple", 1))
    for why, rank in ranks:
        rounded = min(-(-rank // multiple) * multiple, most)
        keep = math.ceil(_keep(layer, method, rounded) * 1000 - 1e-6) / 1000
        if rank and keep <= 1.0:
            yield Suggestion(strength=keep, why=why)


def _keep(layer: nn.Module, method: FactorMethod, rank: int) -> float:
    weight = layer.get_parameter("weight")
    outputs, inputs, taps = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    if isinstance(method, Tucker):
        return tucker_keep(rank, outputs, inputs, taps)
    if isinstance(method, Separable):
        return svd_keep(rank, outputs * weight.shape[3], inputs * weight.shape[2])
    return svd_keep(rank, outputs, inputs * taps)


def _matrix(layer: nn.Module, method: FactorMethod) -> Tensor | None:
    if isinstance(layer, nn.RNNBase) or not isinstance(method, Svd | Tucker | Separable):
        return None
    weight = layer.get_parameter("weight").detach()
    if not isinstance(method, Separable):
        return weight.flatten(1)
    if getattr(layer, "groups", 1) > 1:
        return None
    outputs, inputs, height, width = weight.shape
    return weight.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)


def _rank_of_energy(spectrum: tuple[float, ...]) -> int:
    squares = [value * value for value in spectrum]
    wanted = ENERGY * sum(squares) - 1e-12
    reached = (rank for rank, held in enumerate(accumulate(squares), 1) if held >= wanted)
    return next(reached, len(squares))
