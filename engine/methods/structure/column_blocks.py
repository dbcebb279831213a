"""Blocks of rows that share the columns that they keep, so that zeros need not be multiplied."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.column_layers import ColumnBlocks
from featherweight.engine.copying_layers import ChosenChannels
from featherweight.engine.evidence import NOTHING, Convolution, Evidence, InputMoments
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_surgery import spread
from featherweight.engine.methods.low_rank import assign
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.transformed import settings_of
from featherweight.engine.options import number

FEWEST_INPUTS = 8
# Of wide layers the columns go at fewer times, each of which inverts the moments of each block.
ROUNDS, WIDE, ROUNDS_IF_WIDE = 6, 1024, 2
TOO_LOW = 4


@dataclass(frozen=True)
class _Seen:
    """Damped moments of the inputs, n×n, and their inverse, float64."""

    moments: Tensor
    inverse: Tensor


class ColumnBlockPruning(NearestMethod, frozen=True, kw_only=True):
    """Block sparsity that is really left out (Narang et al. 2017, arXiv 1711.02782).

    The outputs fall into blocks of equal height, each of which keeps the inputs that matter most to
    it; the others' weights are gone. By weights these are the columns of the largest sum of
    squares. By outputs they are what is left when those go first that the others make up for best
    (Hassibi and Stork 1993, for columns as in Kurtic et al. 2023, arXiv 2302.04089), and the
    weights that stay are the least squares answer, with a bias that takes up the mean of what is
    lost. Where the outputs cannot be shared out to blocks of the height, the blocks are lower, or
    higher before they are a quarter of it; one block of all outputs is pruning of input channels.
    """

    name: ClassVar[str] = "column_blocks"
    title: ClassVar[str] = "Column blocks"
    label: ClassVar[str] = "Columns {}"
    advice: ClassVar[str] = (
        "Sparsity that a processor turns into time: blocks of outputs each see a share of the "
        "inputs. Choose columns by outputs, which keeps far more, and recover accuracy afterwards. "
        "Fast on linear layers of 1024 channels or more."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the inputs that each block of outputs sees.", 0.01, 0.9)
    ] = 0.25
    height: Annotated[
        int,
        number(
            "Height",
            "About how many outputs share their inputs. Lower blocks lose less, higher ones "
            "run faster, at single samples from 256 on.",
            4,
            1024,
        ),
    ] = 256
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the rows of the layer cannot keep columns; empty if they can."""
        if not isinstance(layer, nn.Linear | Convolution):
            return "Column blocks are for linear layers and 1×1 convolutions."
        if isinstance(layer, Convolution) and (math.prod(layer.kernel_size) > 1):
            return "Of convolutions only those of 1×1 have columns that a block can leave out."
        if isinstance(layer, Convolution) and layer.groups > 1:
            return "Column blocks take no convolutions in groups."
        if layer.weight.shape[1] < FEWEST_INPUTS:
            return f"It has only {layer.weight.shape[1]} inputs to choose from."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the blocks on the meta device."""
        weight, bias = layer.get_parameter("weight"), layer.bias is not None
        outputs, inputs = weight.shape[:2]
        blocks, kept = self._blocks(outputs), self._kept(inputs)
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                made = nn.Sequential(ColumnBlocks(inputs, outputs, blocks, kept, bias))
            else:
                assert isinstance(layer, Convolution)
                chosen = ChosenChannels(inputs, blocks * kept, len(layer.kernel_size))
                made = nn.Sequential(chosen, _convolution(layer, blocks, kept))
            return made.to(weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the blocks with columns by the metric, if it was measured."""
        chain = self.skeleton(layer)
        weight = layer.get_parameter("weight").detach()
        bias = layer.bias.detach() if isinstance(layer.bias, Tensor) else None
        matrix = weight.flatten(1).double()
        rows = matrix.chunk(self._blocks(len(matrix)))
        moments = evidence.get("weight", NOTHING).moments if self.metric == "outputs" else None
        if moments is None or not moments.describes(weight):
            found = list(_largest(rows, self._kept(matrix.shape[1])))
        else:
            found = list(self._by_outputs(rows, _seen(moments, bias is not None), check))
            if bias is not None:
                bias = bias + _lost(rows, found, moments.mean[0].double()).to(bias.dtype)
        assign(chain[-1], torch.cat([values for values, _ in found]), bias)
        name = "columns" if isinstance(chain[0], ColumnBlocks) else "sources"
        columns = torch.cat([chosen for _, chosen in found])
        chain[0].register_buffer(name, columns.to(chain[0].get_buffer(name).dtype))
        return chain.train(layer.training)

    def _by_outputs(
        self, rows: tuple[Tensor, ...], seen: _Seen, check: Check
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Give each block's weights and columns, after the costly ones have made up for the rest.

        What a column costs is the sum of squares of its weights as they are by then, over the
        inverse of the moments of what is left.
        """
        inputs = len(seen.moments)
        rounds = ROUNDS if inputs <= WIDE else ROUNDS_IF_WIDE
        share = self._kept(inputs) / inputs
        for block in rows:
            values, inverse, columns = block, seen.inverse, torch.arange(inputs)
            for step in range(1, rounds + 1):
                check()
                left = max(self._kept(inputs), round(inputs * share ** (step / rounds)))
                costs = values.square().sum(0) / inverse.diagonal()
                columns = columns[_first(costs, left)]
                lower = torch.linalg.cholesky(seen.moments[columns][:, columns])
                inverse = torch.cholesky_inverse(lower)
                values = block @ seen.moments[:, columns] @ inverse
            yield values, columns

    def _blocks(self, outputs: int) -> int:
        most = min(self.height, outputs)
        heights = [height for height in range(1, outputs + 1) if outputs % height == 0]
        lower = max(height for height in heights if height <= most)
        if TOO_LOW * lower < most:
            lower = min(height for height in heights if height > most)
        return outputs // lower

    def _kept(self, inputs: int) -> int:
        return max(1, math.floor(self.keep * inputs + 1e-9))


def _largest(rows: tuple[Tensor, ...], kept: int) -> Iterator[tuple[Tensor, Tensor]]:
    for block in rows:
        columns = _first(block.square().sum(0), kept)
        yield block[:, columns], columns


def _first(scores: Tensor, kept: int) -> Tensor:
    """Return the places of the largest scores in their order; of equal ones the earlier."""
    return scores.argsort(descending=True, stable=True)[:kept].sort().values


def _seen(moments: InputMoments, centred: bool) -> _Seen:
    blocks = [block for _, _, block in spread(moments, centred)]
    inverses = [torch.cholesky_inverse(torch.linalg.cholesky(block)) for block in blocks]
    return _Seen(torch.block_diag(*blocks), torch.block_diag(*inverses))


def _lost(rows: tuple[Tensor, ...], found: list[tuple[Tensor, Tensor]], mean: Tensor) -> Tensor:
    """Return the mean of what the outputs lose."""
    return torch.cat(
        [
            block @ mean - values @ mean[columns]
            for block, (values, columns) in zip(rows, found, strict=True)
        ]
    )


def _convolution(layer: Any, blocks: int, kept: int) -> nn.Module:
    changed = {"in_channels": blocks * kept, "groups": blocks}
    made: nn.Module = type(layer)(**{**settings_of(layer), **changed})
    return made
