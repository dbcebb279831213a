"""The ranks that a layer's method could have: what each costs, and how near it comes."""

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod, stored_weights
from featherweight.engine.methods.structure.separable import Separable
from featherweight.engine.methods.structure.svd import Svd, matrix_of
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.preparing.learning_projection import dense_weights
from featherweight.engine.preparing.rank_choice import Ladder, Numbers, chosen_ranks
from featherweight.engine.ranks import rounded_rank, svd_keep

RankMethod = Svd | Separable | Tucker
FLOAT_BITS = 32
LEAST_KEEP = 0.01
# Of methods with two ranks, or where each is a search: shares to keep, by this factor apart.
RUNG, RUNGS = 2.0**0.5, 4


class Ranked:
    """The ranks of one layer's method that lie within its options, the present one among them.

    `methods` are those that have them; `own` is the place of the present one. A singular value
    decomposition tells all of its ranks at once; of separable and Tucker convolutions a few are
    tried.
    """

    def __init__(self, layer: nn.Module, methods: Chosen) -> None:
        assert isinstance(methods.structure, RankMethod)
        self.present = methods.structure
        every = [*_ranks(layer, self.present), self.present]
        sized = {self._size(layer, methods, each): each for each in every}
        self.methods = list(sized.values())
        self._costs, self._bits = (np.array(part, float) for part in zip(*sized, strict=True))
        self.own = self.methods.index(self.present)
        self._ranks = [_rank(layer, each) for each in self.methods]

    def ladder(self, layer: nn.Module, check: Check = unchecked) -> Ladder:
        """Return the ranks for the layer's weights as they are now."""
        return Ladder(self._errors(layer, check), self._costs, self._bits, self.own)

    @torch.no_grad()
    def _errors(self, layer: nn.Module, check: Check) -> Numbers:
        check()
        if isinstance(self.present, Svd):
            energies = torch.linalg.svdvals(matrix_of(layer).double()).square()
            tails = torch.cat([energies.flip(0).cumsum(0).flip(0), torch.zeros(1).double()])
            found: Numbers = tails[self._ranks].numpy()
            return found
        errors = []
        for method in self.methods:
            dense = dense_weights(layer, method.rewritten(layer, check), check)
            assert dense is not None
            lost = [layer.get_parameter(name) - value for name, value in dense.items()]
            errors.append(float(sum(part.double().square().sum() for part in lost)))
        return np.array(errors)

    def _size(self, layer: nn.Module, methods: Chosen, method: FactorMethod) -> tuple[int, int]:
        """Return the parameters and the stored bits of a rank, as far as shapes tell them."""
        chain, bits = method.skeleton(layer), 0
        for part in chain:
            for name in stored_weights(part):
                shape = tuple(part.get_parameter(name).shape)
                count = part.get_parameter(name).numel()
                whole = (
                    methods.precision.stored_bits(shape)
                    if methods.precision
                    else FLOAT_BITS * count
                )
                kept = methods.sparsity.kept(count) if methods.sparsity else count
                bits += whole * kept // count
        return sum(value.numel() for value in chain.parameters()), bits


def ranked(layer: nn.Module, methods: Chosen) -> Ranked | None:
    """Return the ranks of a layer's method; None where it has none that could be chosen."""
    return Ranked(layer, methods) if isinstance(methods.structure, RankMethod) else None


def shared_out(layers: Sequence[tuple[nn.Module, Ranked]], check: Check = unchecked) -> list[int]:
    """Return the place of every layer's method among its own: the best for its weights now.

    All together hold no more parameters and bits than with their present ranks.
    """
    return chosen_ranks([ranks.ladder(layer, check) for layer, ranks in layers])


def _ranks(layer: nn.Module, method: RankMethod) -> list[RankMethod]:
    if isinstance(method, Svd):
        outputs, inputs = matrix_of(layer).shape
        shares = [
            svd_keep(rank, outputs, inputs)
            for rank in range(1, min(outputs, inputs) + 1)
            if rounded_rank(rank, method.multiple) == rank
        ]
    else:
        shares = [method.keep * RUNG**step for step in range(-RUNGS, RUNGS + 1)]
    return [
        msgspec.structs.replace(method, keep=keep) for keep in shares if LEAST_KEEP <= keep <= 1.0
    ]


def _rank(layer: nn.Module, method: FactorMethod) -> int:
    return method.skeleton(layer)[0].get_parameter("weight").shape[0]
