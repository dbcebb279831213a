"""How the weights of one layer are spread."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featherweight.engine.inspecting.equivariance import equivariance
from featherweight.engine.inspecting.signal_rank import signal_rank
from featherweight.engine.inspecting.spectrum import EXACT_SIDE, singular_values
from featherweight.engine.layer import Histogram, LayerDetails
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import CompactLayer

BINS = 100


def details(network: Network, name: str) -> LayerDetails:
    """Return statistics, histogram and spectrum of the main weight of a layer.

    Of what the weight is now: where it is held in another form, of the decoded numbers. Raises
    KeyError where the network has no such layer.
    """
    layer = dict(network.layers())[name]
    weight = main_weight(layer)
    if weight is None or not weight.numel():
        empty = Histogram(edges=(0.0, 1.0), counts=(0,))
        return LayerDetails(
            name=name,
            mean=0.0,
            deviation=0.0,
            minimum=0.0,
            maximum=0.0,
            zeros=0.0,
            histogram=empty,
            spectrum=(),
        )
    values = weight.detach().float().reshape(-1)
    sound = weight.ndim >= 2 and bool(values.isfinite().all())
    matrix = as_matrix(layer, weight) if sound else None
    spectrum = () if matrix is None else singular_values(matrix)
    return LayerDetails(
        name=name,
        mean=float(values.mean()),
        deviation=float(values.std(correction=0)),
        minimum=float(values.min()),
        maximum=float(values.max()),
        zeros=1 - int(values.count_nonzero()) / values.numel(),
        histogram=histogram(values),
        spectrum=spectrum,
        spectrum_estimated=matrix is not None and min(matrix.shape) > EXACT_SIDE,
        suggested_rank=None if matrix is None else signal_rank(spectrum, max(matrix.shape)),
        equivariance=equivariance(layer) if sound else (),
    )


def main_weight(layer: nn.Module) -> Tensor | None:
    """Return the tensor that a layer is about: its largest, of two or more dimensions if any.

    Of a recurrent layer it is the weights on its inputs, those of both directions below each other.
    """
    with torch.no_grad():
        held = (
            layer.weights() if isinstance(layer, CompactLayer) else dict(layer.named_parameters())
        )
    inputs = [value for name, value in held.items() if name.startswith("weight_ih_l0")]
    if inputs:
        return torch.cat(inputs)
    tensors = sorted(held.values(), key=lambda value: (value.ndim >= 2, value.numel()))
    return tensors[-1] if tensors else None


def as_matrix(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return a weight as a matrix of outputs by the rest."""
    plain = layer.settings if isinstance(layer, CompactLayer) else layer
    if isinstance(plain, nn.modules.conv._ConvTransposeNd) and plain.groups == 1:
        weight = weight.transpose(0, 1)
    return weight.detach().reshape(weight.shape[0], -1)


def histogram(values: Tensor, bins: int = BINS) -> Histogram:
    """Count finite values (one dimension, float32) in bins of equal width over their range."""
    finite = values[values.isfinite()].double().numpy()
    counts, edges = np.histogram(finite, bins=bins, range=_range(finite))
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _range(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the bounds of a histogram, wide enough that bins differ in float64."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    margin = 0.5 * max(abs(low), 1e-30) if low else 0.5
    return low - margin, high + margin
