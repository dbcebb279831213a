"""What flows into layers on samples of the task, and how a changed layer is tried on it."""

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.calibrating.patches import groups_of, rows_of
from featherweight.engine.coefficient_layers import CoefficientLayer
from featherweight.engine.evidence import Convolution, InputMoments, Transposed, input_lock
from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.jobs import Check
from featherweight.engine.network import Network
from featherweight.engine.task import Task

SAMPLES, BATCH, ROWS_OF_A_SAMPLE = 64, 16, 32
ROWS = 512
FEWEST, MULTIPLICATIONS = 32, 1 << 30
SEED = 20261124


@torch.no_grad()
def sampled_inputs(
    network: Network, task: Task, names: Iterable[str], check: Check
) -> dict[str, Tensor]:
    """Return rows that the weights of layers are multiplied with: (groups, rows, columns).

    Up to 512 rows of each layer, from the first 64 samples of the recovery data. A layer whose
    inputs cannot be seen is left out. Raises CancelledError, and UserError where the data cannot
    be read.
    """
    shell = network.shell()
    layers = {name: shell.layer(name) for name in names if not input_lock(shell.layer(name))}
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    ranges = task.ranges(min(SAMPLES, len(task.recovery)), BATCH)
    with ExitStack() as exits:
        exits.enter_context(evaluating(shell.module))
        for name, layer in layers.items():
            hook = layer.register_forward_pre_hook(_keeping(found[name]))
            exits.callback(hook.remove)
        for indices in ranges:
            check()
            inputs, _ = task.recovery.batch(indices)
            task.outputs_of(shell.outputs, inputs)
            if all(sum(rows.shape[1] for rows in each) >= ROWS for each in found.values()):
                break
    return {name: torch.cat(rows, 1)[:, :ROWS] for name, rows in found.items() if rows}


def white_inputs(layer: nn.Module, count: int) -> Tensor:
    """Return up to `count` rows on which outputs are as far off as weights.

    Their shape is (groups, rows, columns).

    One row for each column where they are enough, which is exact, else noise.
    """
    view = view_of(layer).matrix(layer.get_parameter("weight").detach())
    groups, _, columns = view.shape
    if columns <= count:
        return torch.eye(columns).expand(groups, columns, columns)
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(groups, min(count, ROWS), columns, generator=generator)


def view_of(layer: nn.Module) -> InputMoments:
    """Return the matrix view of a layer's weight. For layers without an `input_lock` only."""
    return InputMoments(groups_of(layer), (), torch.zeros(0), isinstance(layer, Transposed))


def trial_lock(layer: nn.Module) -> str:
    """Return why a layer cannot be tried beside what takes its place, a sentence; or empty."""
    if isinstance(layer, nn.Linear | Convolution) and not isinstance(layer, CoefficientLayer):
        return ""
    return f"Factors of {type(layer).__name__} layers are not tried on inputs."


class Trial:
    """Runs modules in the place of one layer on rows of its inputs, (groups, rows, columns).

    Convolutions see each row as the one patch that it is; of the outputs only the place that sees
    the whole patch counts. Raises TypeError for layers with a `trial_lock`.
    """

    def __init__(self, layer: nn.Module, rows: Tensor) -> None:
        if reason := trial_lock(layer):
            raise TypeError(reason)
        dtype = layer.get_parameter("weight").dtype
        self._place: tuple[int, ...] = ()
        inputs = rows[0] if isinstance(layer, nn.Linear) else self._patches(layer, rows)
        self._inputs = inputs.to(dtype)

    @torch.no_grad()
    def outputs(self, module: nn.Module) -> Tensor:
        """Return the outputs of a module, (rows, outputs) float32."""
        made = module(self._inputs)
        for place in reversed(self._place):
            made = made[..., place]
        result: Tensor = made.float()
        return result

    def _patches(self, layer: Any, rows: Tensor) -> Tensor:
        patches = rows.transpose(0, 1).reshape(-1, layer.in_channels, *layer.kernel_size)
        spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        spread = patches.new_zeros(*patches.shape[:2], *spans)
        steps: tuple[Any, ...] = tuple(slice(None, None, step) for step in layer.dilation)
        spread[(..., *steps)] = patches
        before = layer._reversed_padding_repeated_twice[::-2]
        if not isinstance(layer.padding, str):
            before = list(layer.padding)
        # The patch begins where a step of the stride does.
        left = [-pad % step for pad, step in zip(before, layer.stride, strict=True)]
        self._place = tuple(
            (pad + more) // step for pad, more, step in zip(before, left, layer.stride, strict=True)
        )
        return functional.pad(spread, [side for more in reversed(left) for side in (more, 0)])


def affordable(work: int) -> int:
    """Return how many rows are tried where each of them costs so many multiplications."""
    return max(FEWEST, MULTIPLICATIONS // max(work, 1))


def fewer(rows: Tensor, count: int) -> Tensor:
    """Return at most `count` of the rows, evenly spaced."""
    if count >= rows.shape[1]:
        return rows
    return rows[:, torch.arange(count) * rows.shape[1] // count]


def work_of(layer: nn.Module) -> int:
    """Return the multiplications that one row of inputs costs in a `Trial`, at most."""
    weights = layer.get_parameter("weight").numel()
    if isinstance(layer, nn.Linear):
        return weights
    return weights * math.prod(getattr(layer, "kernel_size", ()))


def _keeping(found: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(rows_of(layer, inputs[0].float(), ROWS_OF_A_SAMPLE, len(found)).clone())

    return keep
