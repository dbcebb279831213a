"""Three thin convolutions in the place of one: channels down, the kernel, channels up."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.inner_norms import (
    InnerNorms,
    chained,
    factors_and_norms,
    start_norms,
)
from featherweight.engine.methods.low_rank import assign, leading_vectors
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import UNSEEN, whitening
from featherweight.engine.methods.output_fitting import (
    Patches,
    by_taps,
    mended_bias,
    on_every_tap,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.options import number
from featherweight.engine.ranks import rounded_rank, tucker_ranks


class Tucker(NearestMethod, frozen=True, kw_only=True):
    """Tucker-2 decomposition of a kernel (Kim et al. 2016, arXiv 1511.06530).

    A convolution C → N becomes 1×1 C → r, the kernel r → s with the stride, and 1×1 s → N with the
    bias. r and s grow with the square roots of C and N, to the largest at which the three hold at
    most `keep` of the weights; each is rounded down to `multiple`. It starts from the leading
    singular vectors of both channel unfoldings (HOSVD); each sweep (HOOI) solves for one side with
    the other held, which never raises the error. By outputs, channels count as much as they vary
    together on the data, and what follows the first convolution is the best there is behind it,
    with a bias that takes up the mean of what is lost.
    """

    name: ClassVar[str] = "tucker"
    title: ClassVar[str] = "Low rank (Tucker)"
    label: ClassVar[str] = "Tucker {}"
    advice: ClassVar[str] = (
        "Splits a convolution into a narrow one between two 1×1 ones. Smaller and faster on wide "
        "layers; needs recovery when it keeps less than about half."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that the factors may hold.", 0.01, 1.0)
    ] = 0.5
    metric: Metric = "weights"
    batch_norm: InnerNorms = False
    sweeps: Annotated[
        int, number("Sweeps", "Rounds of refinement; more bring it nearer to the original.", 0, 50)
    ] = 3
    multiple: Annotated[
        int,
        number("Multiple of", "Ranks beyond it are rounded down to it; 8 runs fastest.", 1, 64),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be split in three; empty if it can."""
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return "Tucker takes convolutions."
        if all(size == 1 for size in layer.kernel_size):
            return "A kernel of 1 leaves nothing between the factors; SVD takes it."
        if layer.groups > 1:
            return "Tucker takes no convolutions in groups."
        outputs, inputs, taps = _sizes(layer)
        if inputs + taps + outputs >= inputs * taps * outputs:
            return "The layer is too small: three factors would hold more weights than it has."
        return ""

    def needs(self) -> frozenset[Need]:
        """Return what the metric and the batch norms ask of the data."""
        asks = self.metric == "outputs" or self.batch_norm
        return frozenset({"moments"}) if asks else frozenset()

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the three convolutions on the meta device."""
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        outputs, inputs, taps = _sizes(layer)
        ranks = tucker_ranks(self.keep, outputs, inputs, taps)
        out_rank, in_rank = (rounded_rank(rank, self.multiple) for rank in ranks)
        kind: Any = type(layer)
        with torch.device("meta"):
            parts = (
                kind(inputs, in_rank, 1, bias=False),
                kind(
                    in_rank,
                    out_rank,
                    layer.kernel_size,
                    stride=layer.stride,
                    padding=layer.padding,
                    dilation=layer.dilation,
                    bias=False,
                    padding_mode=layer.padding_mode,
                ),
                kind(out_rank, outputs, 1, bias=layer.bias is not None),
            )
            return chained(parts, self.batch_norm).to(layer.weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the three convolutions, by the metric if it was measured."""
        chain = self.skeleton(layer)
        (first, middle, last), norms = factors_and_norms(chain)
        out_rank, in_rank = middle.get_parameter("weight").shape[:2]
        kernel = layer.get_parameter("weight").detach()
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence)
        if found and self.metric == "outputs":
            (patches,) = seen_by(found, bias)
            parts = _nearest_outputs(kernel, (out_rank, in_rank), self.sweeps, patches, check)
            bias = mended_bias(bias, [kernel], [_matrix(*parts)], found)
        else:
            parts = decompose(kernel, (out_rank, in_rank), self.sweeps, check)
        left, core, right = parts
        assign(first, right.T)
        assign(middle, core)
        assign(last, left, bias)
        start_norms(norms, _statistics(core, right, found[0]) if norms and found else ())
        return chain.train(layer.training)


def decompose(
    kernel: Tensor, ranks: tuple[int, int], sweeps: int, check: Check = unchecked
) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (N×s), core (s×r×…) and V (C×r), float64: kernel ≈ core with U and V on its sides.

    `kernel` is N×C×…, `ranks` are (s, r). U and V have orthonormal columns.
    """
    tensor = kernel.double().flatten(2)
    out_rank, in_rank = ranks
    left = leading_vectors(_by_outputs(tensor), out_rank, check)
    right = leading_vectors(_by_inputs(tensor), in_rank, check)
    for _ in range(sweeps):
        left = leading_vectors(_by_outputs(_inputs_projected(tensor, right)), out_rank, check)
        right = leading_vectors(_by_inputs(_outputs_projected(tensor, left)), in_rank, check)
    core = _inputs_projected(_outputs_projected(tensor, left), right)
    return left, core.reshape(*core.shape[:2], *kernel.shape[2:]), right


def _nearest_outputs(
    kernel: Tensor, ranks: tuple[int, int], sweeps: int, patches: Patches, check: Check
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parts whose outputs on patches are near; left and core are the best for right."""
    inputs, taps = kernel.shape[1], math.prod(kernel.shape[2:])
    root, inverse = whitening(patches.together(*by_taps(inputs, taps)).blocks[0])
    seen = torch.einsum("nc...,cd->nd...", kernel.double(), root)
    left, core, right = decompose(seen, ranks, sweeps, check)
    right, turned = torch.linalg.qr(inverse.T @ right)
    core = torch.einsum("sr...,qr->sq...", core, turned)
    made = (left @ core.flatten(1), on_every_tap(right.T, taps))
    fitted, gram = refitted(kernel.flatten(1), *made, patches, check)
    gram = gram + UNSEEN * gram.diagonal().mean() * torch.eye(len(gram))
    left = torch.linalg.eigh(fitted @ gram @ fitted.T).eigenvectors[:, -ranks[0] :].flip(1)
    return left, (left.T @ fitted).reshape(core.shape), right


def _matrix(left: Tensor, core: Tensor, right: Tensor) -> Tensor:
    """Return the kernel of three parts as outputs by the columns of patches."""
    return left @ core.flatten(1) @ on_every_tap(right.T, math.prod(core.shape[2:])).T


def _statistics(core: Tensor, right: Tensor, patches: Patches) -> list[tuple[Tensor, Tensor]]:
    """Return the mean and variance of channels behind the first and the second convolution."""
    taps = math.prod(core.shape[2:])
    channels = patches.together(*by_taps(len(right), taps))
    behind = core.flatten(1) @ on_every_tap(right.T, taps).T
    return [channels.outputs(right.T), patches.outputs(behind)]


def _sizes(layer: nn.Module) -> tuple[int, int, int]:
    outputs, inputs, *kernel = layer.get_parameter("weight").shape
    return outputs, inputs, math.prod(kernel)


def _by_outputs(tensor: Tensor) -> Tensor:
    return tensor.flatten(1)


def _by_inputs(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).flatten(1)


def _outputs_projected(tensor: Tensor, left: Tensor) -> Tensor:
    return torch.einsum("nct,ns->sct", tensor, left)


def _inputs_projected(tensor: Tensor, right: Tensor) -> Tensor:
    return torch.einsum("nct,cr->nrt", tensor, right)
