"""Whether a training computes in float32 or, layer by layer, in bfloat16.

In bfloat16 weights, losses and the optimizer stay float32 (Micikevicius et al.: Mixed Precision
Training, 2018; Kalamkar et al.: A Study of BFLOAT16, 2019); torch's autocast says which layers.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check

ROUNDS = 3
# What is faster by less may be slower the next time it is measured.
LEAST_GAIN = 1.1


def computing(bfloat16: bool, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network runs in float32 or in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def wide(x: Tensor) -> Tensor:
    """Return what a loss compares: float32 where it is bfloat16, else the same."""
    return x.float() if x.dtype == torch.bfloat16 else x


def takes_bfloat16(
    asked: Literal["float32", "bfloat16", "auto"],
    module: nn.Module,
    loss: Callable[[bool], Tensor],
    check: Check,
) -> bool:
    """Say whether a training computes in bfloat16; `auto` does where it is at least 1.1x faster.

    `loss` is that of a batch of the module, in bfloat16 or not; the module keeps its state. Times
    differ from machine to machine, so `auto` may too. Raises UserError where bfloat16 is asked for
    and a layer cannot compute in it, CancelledError.
    """
    if asked == "float32":
        return False
    before = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        usual = _seconds(lambda: loss(False), check) if asked == "auto" else math.inf
        return usual > LEAST_GAIN * _bfloat16_seconds(lambda: loss(True), check)
    except UserError:
        if asked == "auto":
            return False
        raise
    finally:
        module.load_state_dict(before)
        module.zero_grad()


def _bfloat16_seconds(loss: Callable[[], Tensor], check: Check) -> float:
    try:
        return _seconds(loss, check)
    # Torch says so where it has no such computation.
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"The network cannot be trained in bfloat16: {reason}.",
            "Set the arithmetic of the recovery to float32.",
        ) from error


def _seconds(loss: Callable[[], Tensor], check: Check) -> float:
    """Return the least time of a few steps, after one that is not counted."""
    taken = []
    for _ in range(1 + ROUNDS):
        check()
        began = time.perf_counter()
        with torch.enable_grad():
            found = loss()
            if found.requires_grad:
                torch.autograd.backward(found)
        if found.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
