"""Three thin convolutions in the place of one: channels down, the kernel, channels up."""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, leading_vectors
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.options import number
from featherweight.engine.ranks import rounded_rank, tucker_ranks


class Tucker(FactorMethod, frozen=True, kw_only=True):
    """Tucker-2 decomposition of a kernel (Kim et al. 2016, arXiv 1511.06530).

    A convolution C → N becomes 1×1 C → r, the kernel r → s with the stride, and 1×1 s → N with the
    bias. r and s grow with the square roots of C and N, to the largest at which the three hold at
    most `keep` of the weights; each is rounded down to `multiple`. It starts from the leading
    singular vectors of both channel unfoldings (HOSVD); each sweep (HOOI) solves for one side with
    the other held, which never raises the error.
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

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the three convolutions on the meta device."""
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        outputs, inputs, taps = _sizes(layer)
        ranks = tucker_ranks(self.keep, outputs, inputs, taps)
        out_rank, in_rank = (rounded_rank(rank, self.multiple) for rank in ranks)
        kind: Any = type(layer)
        with torch.device("meta"):
            chain = nn.Sequential(
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
        return chain.to(layer.weight.dtype)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the three convolutions with the weights that the sweeps end at."""
        chain = self.skeleton(layer)
        out_rank, in_rank = chain[1].get_parameter("weight").shape[:2]
        kernel = layer.get_parameter("weight").detach()
        left, core, right = decompose(kernel, (out_rank, in_rank), self.sweeps, check)
        assign(chain[0], right.T)
        assign(chain[1], core)
        assign(chain[2], left, layer.bias if isinstance(layer.bias, Tensor) else None)
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
