"""The structure that is nearest to a layer's weights within a budget."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import msgspec
import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.recurrent_factors import Recurrent
from featherweight.engine.methods.structure.circulant import Circulant
from featherweight.engine.methods.structure.depthwise_separable import DepthwiseSeparable
from featherweight.engine.methods.structure.monarch import Monarch
from featherweight.engine.methods.structure.separable import Separable
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.toeplitz_like import ToeplitzLike
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.options import number

KINDS: tuple[type[FactorMethod], ...] = (
    Svd, Tucker, Separable, DepthwiseSeparable, Monarch, Circulant, ToeplitzLike,
)  # fmt: skip
# Structures that lose this share of the energy more than the nearest count as near: of them the
# smallest is taken.
NEAR = 1e-3
SAMPLES, SEED = 8, 20261124


class BestStructure(NearestMethod, frozen=True, kw_only=True):
    """Tries the structures that the layer can take and keeps the one that is nearest.

    Each gets the strength with which it holds at most `keep` of the weights. What counts is the
    energy of the difference between the outputs on white noise, which is that of the weights. Of
    those that are about as near as the nearest, the smallest is taken. Which one that is never
    depends on data; with `metric` outputs its factors do, where it has such.
    """

    name: ClassVar[str] = "best_structure"
    title: ClassVar[str] = "Best structure"
    label: ClassVar[str] = "Best {}"
    advice: ClassVar[str] = (
        "Tries singular values, Tucker, separable, depthwise, Monarch, circulant and Toeplitz-like "
        "matrices, and takes what is nearest to the weights. Large layers take a while."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that may be held.", 0.01, 1.0)
    ] = 0.5
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why no structure can take the layer; empty if one can."""
        if any(not kind.lock(layer) for kind in KINDS):
            return ""
        return f"No structure takes it. {Svd.lock(layer)}"

    def resolved(self, layer: nn.Module, check: Check = unchecked) -> FactorMethod:
        """Return the method, with its options, that is nearest to the layer. It is remembered."""
        if isinstance(layer, Recurrent):
            # Only singular values take it, so that there is nothing to choose from.
            return Svd(keep=self.keep, metric=self.metric)
        weight = layer.get_parameter("weight")
        known = _FOUND.setdefault(layer, {})
        key = (self.keep, id(weight), weight._version)
        if key not in known:
            known[key] = _nearest(layer, self.keep, check)
        found = known[key]
        if "metric" in found.__struct_fields__:
            return msgspec.structs.replace(found, metric=self.metric)
        return found

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return that of the nearest structure."""
        return self.resolved(layer).skeleton(layer)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the layer in the nearest structure."""
        return self.resolved(layer, check).rewritten(layer, check)

    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the layer in the nearest structure, by the metric if it was measured."""
        return self.resolved(layer, check).informed(layer, evidence, check)


_FOUND: WeakKeyDictionary[nn.Module, dict[tuple[float, int, int], FactorMethod]] = (
    WeakKeyDictionary()
)


@torch.no_grad()
def _nearest(layer: nn.Module, keep: float, check: Check) -> FactorMethod:
    whole = layer.get_parameter("weight").numel()
    sized = [(_held(method, layer), method) for method in _candidates(layer, keep)]
    # Where none fits, the smallest comes nearest to the budget.
    budget = max(keep * whole, min(held for held, _ in sized))
    fitting = [(held, method) for held, method in sized if held <= budget]
    if len(fitting) == 1:
        return fitting[0][1]
    noise = _noise(layer)
    expected = layer(noise)
    energy = float((expected - expected.mean(0)).double().square().sum())
    scored = []
    for held, method in fitting:
        chain = method.rewritten(layer, check)
        check()
        made = chain(noise)
        check()
        scored.append((float((made - expected).double().square().sum()), held, method))
    least = min(lost for lost, _, _ in scored)
    near = [entry for entry in scored if entry[0] <= least + NEAR * energy]
    return min(near, key=lambda entry: entry[1:2])[2]


def _candidates(layer: nn.Module, keep: float) -> Iterator[FactorMethod]:
    for kind in KINDS:
        if kind.lock(layer):
            continue
        if kind.strength == "keep":
            settings: list[dict[str, Any]] = [{"keep": keep}]
        elif kind is Circulant:
            settings = [{"block": block} for block in _blocks(layer, keep)]
        elif kind is ToeplitzLike:
            outputs, inputs = layer.get_parameter("weight").shape[:2]
            side, long = sorted((outputs, inputs))
            rank = int(keep * outputs * inputs / (2 * side * -(-long // side)))
            settings = [{"rank": rank} for rank in {1, 2, min(max(rank, 1), 256)}]
        else:
            settings = [{}]
        yield from (kind(**options) for options in settings)


def _blocks(layer: nn.Module, keep: float) -> list[int]:
    """Return the sides of circulant blocks to try: what is kept, powers of two, and all of it."""
    most = max(layer.get_parameter("weight").shape[:2])
    least = max(4, math.ceil(1 / keep))
    powers = {2**power for power in range(2, most.bit_length()) if 2**power >= least}
    return sorted({min(least, most), *powers, min(max(most, 4), 16384)} - {1, 2, 3}) or [4]


def _held(method: FactorMethod, layer: nn.Module) -> int:
    parts = method.skeleton(layer).named_parameters()
    return sum(value.numel() for name, value in parts if not name.endswith("bias"))


def _noise(layer: Any) -> Tensor:
    """Return white noise for a layer; for a linear one the unit vectors, which are exact."""
    dtype = layer.weight.dtype
    if isinstance(layer, nn.Linear):
        return torch.eye(layer.in_features, dtype=dtype)
    generator = torch.Generator().manual_seed(SEED)
    sides = [
        (size - 1) * spread + 1 + 3 * step
        for size, spread, step in zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    ]
    shape = (SAMPLES, layer.in_channels, *sides)
    return torch.randn(shape, generator=generator).to(dtype)
