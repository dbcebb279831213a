"""A convolution whose filters are mixtures of a few shared ones."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.coefficient_layers import (
    CoefficientLayer,
    SharedBasisConvolution,
    TransformConvolution,
)
from featherweight.engine.errors import UserError
from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import output_factors
from featherweight.engine.methods.output_fitting import (
    Patches,
    by_taps,
    mended_bias,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.methods.transformed import Convolution, settings_of
from featherweight.engine.options import number, words

MOST_ATOMS, LONGEST_FIXED = 128, 64
# Where maps ran faster than a kernel in ONNX Runtime: below, starting them takes longer.
FASTER, LARGE = 0.55, 4096


class SharedBasis(NearestMethod, frozen=True, kw_only=True):
    """Filters from a shared basis (Qiu et al. 2018, DCFNet, arXiv 1802.04145).

    Every filter of every channel is a mixture of the same `atoms` small kernels. Learned, they are
    the leading right singular vectors of all filters as a matrix of N·C by taps, which no other
    atoms come nearer than. By outputs, taps count as much as they vary together on the data, and
    the mixtures are the best for these atoms, with a bias that takes up the mean of what is lost.
    Fixed atoms cost no bits: cosines of the lowest frequencies, or derivatives of a Gaussian of the
    lowest orders, made orthonormal (Jacobsen et al. 2016, arXiv 1605.02971).
    """

    name: ClassVar[str] = "shared_basis"
    title: ClassVar[str] = "Shared basis"
    label: ClassVar[str] = "Basis {}"
    advice: ClassVar[str] = (
        "Makes every filter of a few shared ones, also in depthwise convolutions. Kernels of 5×5 "
        "and wide layers of 3×3 run faster as well. Keep about half of the taps; fewer need "
        "recovery."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "atoms"

    atoms: Annotated[
        int,
        number("Atoms", "Shared kernels; as many as taps hold the layer exactly.", 1, MOST_ATOMS),
    ] = 4
    basis: Annotated[
        Literal["learned", "dct", "gaussian"],
        words("Basis", "Learned from the weights, or fixed: cosines, or Gaussian derivatives."),
    ] = "learned"
    metric: Metric = "weights"
    computed: Annotated[
        Literal["auto", "kernel", "maps"],
        words(
            "Computed as",
            "The whole kernel, or maps of every channel that are mixed; auto takes what is faster. "
            "Fixed atoms always make the kernel.",
        ),
    ] = "auto"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the filters share no basis; empty if they can."""
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            return "Shared bases take no transposed convolutions."
        if not isinstance(layer, Convolution):
            return "Shared bases are for convolutions."
        filters, taps = layer.weight.shape[:2].numel(), _taps(layer)
        if taps == 1:
            return "Its kernel has one tap, so there is nothing to share."
        if filters + taps >= filters * taps:
            return "The layer is too small: one mixture and its atom would hold as much."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer of mixtures on the meta device.

        Raises UserError where the kernel is too long for fixed atoms.
        """
        assert isinstance(layer, Convolution)
        longest = max(layer.kernel_size)
        if self.basis != "learned" and longest > LONGEST_FIXED:
            message = f"A kernel {longest} long has no fixed atoms: they are for {LONGEST_FIXED}."
            raise UserError(message, "Take learned ones for it.")
        settings, count = settings_of(layer), min(self.atoms, _taps(layer))
        with torch.device("meta"):
            made: CoefficientLayer
            if self.basis == "learned":
                # The default is for kernels of more taps; who asks for all of them gets all.
                most = _most_atoms(layer) if self.atoms > _taps(layer) else count
                count = min(most, layer.weight.shape[:2].numel())
                maps = self._maps(layer, count)
                made = SharedBasisConvolution(**settings, count=count, maps=maps)
            else:
                made = TransformConvolution(**settings, basis=self.basis, kept=count)
        return nn.Sequential(made).to(layer.weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the layer of mixtures, by the metric if it was measured."""
        assert isinstance(layer, Convolution)
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, CoefficientLayer)
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence) if self.metric == "outputs" else []
        groups = seen_by(found, bias)
        weight = layer.weight.detach().double()
        mixtures, atoms = _found(made, weight.reshape(-1, _taps(layer)), groups, check)
        if isinstance(made, SharedBasisConvolution):
            made.atoms = nn.Parameter(atoms.flatten().to(layer.weight.dtype))
        coefficients = mixtures.reshape(made.out_features, -1)
        if found:
            kernels, starts = weight.chunk(layer.groups), coefficients.chunk(layer.groups)
            spread = torch.kron(torch.eye(made.channels, dtype=torch.float64), atoms.T.contiguous())
            fits = [
                refitted(kernel.flatten(1), start, spread, patches, check)[0]
                for kernel, start, patches in zip(kernels, starts, groups, strict=True)
            ]
            bias = mended_bias(bias, kernels, [fit @ spread.T for fit in fits], found)
            coefficients = torch.cat(fits)
        assign(made, coefficients, bias)
        return chain.train(layer.training)

    def _maps(self, layer: Convolution, count: int) -> bool:
        if self.computed != "auto":
            return self.computed == "maps"
        taps, filters = _taps(layer), layer.out_channels * layer.in_channels
        work = layer.in_channels * count * taps + filters * count
        large = filters * taps >= LARGE and layer.groups == 1
        return large and work <= FASTER * filters * taps


def _found(
    made: nn.Module, matrix: Tensor, groups: list[Patches], check: Check
) -> tuple[Tensor, Tensor]:
    """Return the mixtures and the atoms, filters×atoms×taps float64, for all filters by taps."""
    if isinstance(made, SharedBasisConvolution):
        if groups:
            block = _of_taps(groups, made.channels, matrix.shape[1])
            return output_factors(matrix, [block], made.count, check)
        return factors(matrix, made.count, check)
    assert isinstance(made, TransformConvolution)
    one = torch.eye(matrix.shape[1], dtype=torch.float64).repeat(1, 1, made.channels)
    atoms = made.seen({}, one)[0, :, : made.kept].T
    return matrix @ atoms.T, atoms


def _of_taps(groups: list[Patches], channels: int, taps: int) -> Tensor:
    """Return how the taps vary together, the mean over all channels, taps×taps float64."""
    labels, places = by_taps(channels, taps)
    blocks = [patches.together(places, labels).blocks[0] for patches in groups]
    return torch.stack(blocks).mean(0)


def _taps(layer: Convolution) -> int:
    return math.prod(layer.kernel_size)


def _most_atoms(layer: Convolution) -> int:
    """Return how many atoms, with the mixtures of them, are fewer numbers than the kernel."""
    filters, taps = layer.weight.shape[:2].numel(), _taps(layer)
    return (filters * taps - 1) // (filters + taps)
