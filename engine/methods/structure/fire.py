"""A fire module in the place of a convolution."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.compact_layers import FireExpansion
from featherweight.engine.copying_layers import ChosenChannels
from featherweight.engine.evidence import Convolution, Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.centre_taps import centre_of, centre_taps
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import output_factors
from featherweight.engine.methods.output_fitting import (
    Patches,
    by_taps,
    mended_bias,
    on_every_tap,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.methods.transformed import settings_of
from featherweight.engine.options import Retraining, number
from featherweight.engine.ranks import rounded_rank

# Widths beyond it are rounded down to it: convolutions run in blocks of so many channels.
WIDTH = 8
# The choice of kernels and the squeeze depend on each other; they settle within a few turns.
TURNS = 3


class Fire(NearestMethod, frozen=True, kw_only=True):
    """Fire modules (Iandola et al. 2016, SqueezeNet, arXiv 1602.07360) of a trained kernel.

    A convolution C → N becomes 1×1 C → s, the squeeze, and behind it N outputs of which a `share`
    has a kernel and the others are 1×1; then the outputs are put in their order. Outputs that lose
    most without a kernel keep one. The squeeze is the subspace of the inputs that holds most of
    the taps in use. By outputs, it is the one that keeps the outputs nearest on the data, all
    weights behind it are the best there are, and the bias takes up the mean of what is lost. In
    the paper a ReLU stands between both; here none does, so that the module can be near.
    """

    name: ClassVar[str] = "fire"
    title: ClassVar[str] = "Fire module"
    label: ClassVar[str] = "Fire {}"
    advice: ClassVar[str] = (
        "Squeezes the channels with a 1×1 convolution and expands them with 1×1 and 3×3 ones side "
        "by side, as in SqueezeNet. Small and fast, and far from the original: retrain afterwards."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "squeeze"
    retrain: ClassVar[Retraining] = "needed"

    squeeze: Annotated[
        float,
        number("Squeeze", "Channels between both convolutions, as a share of inputs.", 0.01, 1.0),
    ] = 0.25
    share: Annotated[
        float, number("Share of kernels", "Share of the outputs that keep a kernel.", 0.05, 0.95)
    ] = 0.5
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the convolution can become no fire module; empty if it can."""
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            return "Fire modules take no transposed convolutions."
        if not isinstance(layer, Convolution):
            return "Fire modules are for convolutions."
        if math.prod(layer.kernel_size) == 1:
            return "A kernel of 1 has nothing to expand; SVD takes it."
        if layer.groups > 1:
            return "Fire modules take no convolutions in groups."
        if layer.out_channels == 1 or _most(layer, layer.out_channels - 1) < 1:
            return "The layer is too small: a fire module would hold more weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the squeeze, the expansion and the order of its outputs on the meta device."""
        assert isinstance(layer, Convolution)
        kind: Any = type(layer)
        kernels = min(max(round(self.share * layer.out_channels), 1), layer.out_channels - 1)
        wanted = rounded_rank(max(round(self.squeeze * layer.in_channels), 1), WIDTH)
        width = min(wanted, _most(layer, kernels))
        with torch.device("meta"):
            squeeze = kind(layer.in_channels, width, 1, bias=False)
            settings = {**settings_of(layer), "in_channels": width}
            expansion = FireExpansion(**settings, kernels=kernels)
            outputs = layer.out_channels
            order = ChosenChannels(outputs, outputs, len(layer.kernel_size))
        return nn.Sequential(squeeze, expansion, order).to(layer.weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the module, by the metric if it was measured."""
        assert isinstance(layer, Convolution)
        chain = self.skeleton(layer)
        squeeze, expansion, order = chain
        assert isinstance(expansion, FireExpansion)
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence) if self.metric == "outputs" else []
        kernel = layer.weight.detach().double().flatten(2)
        patches = seen_by(found, bias)[0] if found else None
        fit = _Problem(kernel, layer, patches).solved(
            expansion.in_channels, expansion.kernels, check
        )
        if found:
            bias = mended_bias(bias, [kernel], [fit.matrix(centre_of(layer)).flatten(1)], found)
        outputs = torch.cat([fit.narrow, fit.wide])
        assign(squeeze, fit.squeeze)
        expansion.narrow = nn.Parameter(fit.alone[fit.narrow].to(expansion.narrow.dtype))
        kernels = fit.kernels[fit.wide].reshape(expansion.wide.shape)
        expansion.wide = nn.Parameter(kernels.to(expansion.wide.dtype))
        if bias is not None:
            expansion.bias = nn.Parameter(bias.detach()[outputs])
        order.register_buffer(
            "sources", torch.argsort(outputs).to(order.get_buffer("sources").dtype)
        )
        return chain.train(layer.training)


@dataclass(frozen=True)
class _Fit:
    """A squeeze, s×C; which outputs are narrow and wide; both kinds of weights for all of them."""

    squeeze: Tensor
    narrow: Tensor
    wide: Tensor
    alone: Tensor  # N×s
    kernels: Tensor  # N×s×taps

    def matrix(self, centre: int) -> Tensor:
        """Return the kernel that the module computes, N×C×taps."""
        made = torch.einsum("nst,sc->nct", self.kernels, self.squeeze)
        made[self.narrow] = 0.0
        made[self.narrow, :, centre] = self.alone[self.narrow] @ self.squeeze
        return made


class _Problem:
    """What a fire module has to be near to: a kernel, N×C×taps, on white inputs or on patches."""

    def __init__(self, kernel: Tensor, layer: Convolution, patches: Patches | None) -> None:
        self.kernel, self.patches, self.taps = kernel, patches, kernel.shape[2]
        self.centre, self.basis = centre_of(layer), centre_taps(layer)
        self.block = None
        if patches is not None:
            self.block = patches.together(*by_taps(*kernel.shape[1:])).blocks[0]

    def solved(self, width: int, kernels: int, check: Check) -> _Fit:
        """Return the best squeeze and split that a few turns find, from the best split alone."""
        whole = torch.eye(self.kernel.shape[1], dtype=torch.float64)
        pointwise = self._alone(whole, check)
        gains = self._lost(pointwise @ self.basis.T)
        wide, found = torch.zeros(0, dtype=torch.int64), None
        for _ in range(TURNS):
            chosen = gains.argsort(descending=True, stable=True)[:kernels].sort().values
            if found is not None and torch.equal(chosen, wide):
                break
            wide, narrow = chosen, _rest(chosen, len(self.kernel))
            rows = self.kernel[wide].transpose(1, 2).flatten(0, 1)
            rows = torch.cat([rows, pointwise[narrow]])
            if self.block is None:
                squeeze = factors(rows, width, check)[1]
            else:
                squeeze = output_factors(rows, [self.block], width, check)[1]
            alone, whole_kernels = self._alone(squeeze, check), self._kernels(squeeze, check)
            found = _Fit(squeeze, narrow, wide, alone, whole_kernels)
            near = torch.einsum("nst,sc->nct", whole_kernels, squeeze).flatten(1)
            gains = self._lost(alone @ squeeze @ self.basis.T) - self._lost(near)
        assert found is not None
        return found

    def _alone(self, squeeze: Tensor, check: Check) -> Tensor:
        """Return the best 1×1 weights of all outputs behind a squeeze, N×s."""
        start: Tensor = self.kernel[:, :, self.centre] @ torch.linalg.pinv(squeeze)
        if self.patches is None:
            return start
        basis = self.basis @ squeeze.T
        return refitted(self.kernel.flatten(1), start, basis, self.patches, check)[0]

    def _kernels(self, squeeze: Tensor, check: Check) -> Tensor:
        """Return the best kernels of all outputs behind a squeeze, N×s×taps."""
        inverse = torch.linalg.pinv(squeeze)
        start = torch.einsum("nct,cs->nst", self.kernel, inverse)
        if self.patches is None:
            return start
        basis = on_every_tap(squeeze, self.taps)
        made = start.flatten(1)
        fit, _ = refitted(self.kernel.flatten(1), made, basis, self.patches, check)
        return fit.reshape(start.shape)

    def _lost(self, near: Tensor) -> Tensor:
        """Return what each output loses where it is computed by N×(C·taps) instead."""
        lost = self.kernel.flatten(1) - near
        if self.patches is None:
            return torch.einsum("nc,nc->n", lost, lost)
        mean, variance = self.patches.outputs(lost)
        return variance + mean.square()


def _rest(chosen: Tensor, count: int) -> Tensor:
    """Return the numbers below `count` that were not chosen, in order."""
    left = torch.ones(count, dtype=torch.bool)
    left[chosen] = False
    return left.nonzero().flatten()


def _most(layer: Convolution, kernels: int) -> int:
    """Return the widest squeeze that leaves fewer weights, with so many kernels behind it.

    More channels than there are taps in use would hold nothing.
    """
    used = layer.out_channels - kernels + kernels * math.prod(layer.kernel_size)
    return min((layer.weight.numel() - 1) // (layer.in_channels + used), used)
