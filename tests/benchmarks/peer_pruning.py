"""Torch-Pruning on a network, at the same ratio, as the peer to beat.

It is no dependency of the project. Into an environment that has torch:
`python -m pip install --no-deps torch-pruning==1.6.1`.
"""

import copy
import importlib.util
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
import zoo_checks
from torch import Tensor, nn

SECONDS = 240
# Whatever a library that meets a network it does not know may raise.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TimeoutError,
    TypeError,
    ValueError,
)


class Peer(NamedTuple):
    """What became of a network: `verdict` is ok or the reason, shares are of what there was."""

    verdict: str
    parameters: float = 1.0
    macs: float = 1.0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.verdict != "ok":
            return self.verdict
        return f"{self.parameters:.3f} {self.macs:.3f} {self.seconds:.1f} s"


def is_installed() -> bool:
    """Say whether Torch-Pruning can be imported."""
    return importlib.util.find_spec("torch_pruning") is not None


def pruned_by_peer(
    module: nn.Module, inputs: tuple[Tensor, ...], kept: list[str], ratio: float
) -> Peer:
    """Remove channels with Torch-Pruning; layers named in `kept` give the outputs.

    Where it fails it is tried again with the number of heads of every attention, which it asks
    people to tell. What is left has to run and give outputs of the same shapes.
    """
    if not is_installed():
        return Peer("n/a")
    plain = _attempt(module, inputs, kept, ratio, told=False)
    if plain.verdict == "ok":
        return plain
    told = _attempt(module, inputs, kept, ratio, told=True)
    return told if told.verdict == "ok" else plain


def _attempt(
    module: nn.Module, inputs: tuple[Tensor, ...], kept: list[str], ratio: float, told: bool
) -> Peer:
    expected = zoo_checks.outputs_of(module, inputs)
    made = copy.deepcopy(module)
    start = time.process_time()
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prune(made, inputs, kept, ratio, told)
            found = zoo_checks.outputs_of(made.eval(), inputs)
    except FAILURES as error:
        first = next(iter(str(error).splitlines()), "")
        return Peer(f"fails: {type(error).__name__} {first}"[:60])
    seconds = time.process_time() - start
    if [tuple(one.shape) for one in found] != [tuple(one.shape) for one in expected]:
        return Peer("fails: outputs of other shapes")
    parameters = zoo_checks.parameters_of(made) / zoo_checks.parameters_of(module)
    macs = zoo_checks.expected_macs(made, inputs) / zoo_checks.expected_macs(module, inputs)
    return Peer("ok" if parameters < 1 else "removes nothing", parameters, macs, seconds)


def prune(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    kept: list[str],
    ratio: float,
    told: bool = False,
) -> None:
    """Remove the channels of least L1 norm in place; `told` says how many heads attentions have.

    Raises what the library raises.
    """
    import torch_pruning

    layers = dict(module.named_modules())
    heads: dict[Any, int] = {}
    for part in layers.values() if told else ():
        if isinstance(getattr(part, "heads", None), int):
            names = ("qkv", "query", "key", "value")
            heads |= {getattr(part, name): part.heads for name in names if hasattr(part, name)}
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    pruner = torch_pruning.pruner.BasePruner(
        module,
        inputs,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=ratio,
        ignored_layers=[layers[name] for name in kept if name in layers],
        num_heads=heads,
    )
    with torch.no_grad():
        pruner.step()


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TimeoutError after a while, where the system has an alarm."""
    if sys.platform == "win32":
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"not done in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
