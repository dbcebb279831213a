"""Learning-compression: a network pulled, while it trains, towards what its methods can hold.

Carreira-Perpiñán: Model Compression as Constrained Optimization (2017, arXiv 1707.01209). L steps
train with the penalty μ/2 ‖W - Δ(Θ)‖², C steps find the nearest weights Δ(Θ) that the methods can
hold, and μ rises. Where ranks can be chosen, a C step shares them out anew among all layers
(Idelbayev, Carreira-Perpiñán, CVPR 2020): together they cost what the recipe's own ranks do.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.learning_projection import projected, projection_lock
from featherweight.engine.preparing.prepared import Prepared
from featherweight.engine.preparing.preparing_training import PreparingTraining
from featherweight.engine.preparing.rank_ladders import Ranked, ranked, shared_out
from featherweight.engine.recovering.soundness import diverged
from featherweight.engine.trainings import Preparation

# Nearest weights follow the training closely; sharing out ranks takes longer, and they settle.
C_STEPS, RANKS_EVERY = 100, 5
# How much a distance would shrink by the pull alone between two C steps, as an exponent.
FIRST_PULL, LAST_PULL = 0.5, 5.0


def learn_compression(
    ground: Ground, settings: Preparation, seed: int, folder: Path | None, job: Job
) -> Prepared:
    """Return a trained copy near to what its methods can hold, and methods with new ranks.

    Structures that are no weight of the layer's shape, and layers whose weights stay as they are,
    take no part. There are no points `density`. For the rest see `preparation.prepared`.
    """
    training = _Learning(ground, settings, seed, job)
    training.run(folder)
    return Prepared(training.network, training.final())


@dataclass(frozen=True)
class _Part:
    """A layer that takes part, its methods, and its ranks if they can be chosen."""

    name: str
    layer: nn.Module
    methods: Chosen
    ranks: Ranked | None


class _Targets(nn.Module):
    """What weights are pulled to, Δ(Θ) of all parts one after the other, and the ranks of those.

    It is what a checkpoint holds beside the network.
    """

    def __init__(self, weights: list[Tensor], places: list[int]) -> None:
        super().__init__()
        self.places: Tensor
        self.register_buffer("places", torch.tensor(places, dtype=torch.int64))
        for number, weight in enumerate(weights):
            self.register_buffer(f"target{number}", weight.detach().clone())

    def values(self) -> list[Tensor]:
        """Return what the weights are pulled to."""
        return [value for name, value in self.named_buffers() if name != "places"]


class _Learning(PreparingTraining):
    def __init__(self, ground: Ground, settings: Preparation, seed: int, job: Job) -> None:
        super().__init__(ground, settings, seed, job)
        self.parts = self._parts()
        self.weights: list[Tensor] = [
            part.layer.get_parameter(name)
            for part in self.parts
            for name in projected(part.layer, part.methods, job.check)
        ]
        self.targets = _Targets(self.weights, [part.ranks.own for part in self.parts if part.ranks])
        self.state["targets"] = self.targets
        self.period = max(1, self.steps // C_STEPS)

    def before(self, step: int) -> None:
        """Take a C step where one is due."""
        if step % self.period == 0:
            if not all(bool(weight.isfinite().all()) for weight in self.weights):
                raise diverged(step, self.settings.learning_rate, "preparation")
            if step % (self.period * RANKS_EVERY) == 0:
                self._share_ranks()
            self._project()

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Pull weights as the penalty does, at the rising μ = pull / learning rate.

        Its proximal step is stable however large μ is.
        """
        way = step / max(1, self.steps - 1)
        pull = FIRST_PULL * (LAST_PULL / FIRST_PULL) ** way / self.period
        for weight, target in zip(self.weights, self.targets.values(), strict=True):
            weight.lerp_(target, pull / (1 + pull))

    def final(self) -> dict[str, Chosen]:
        """Return the methods with the ranks that are best for the trained weights."""
        self._share_ranks()
        return {**self.ground.chosen, **self._methods()}

    def _methods(self) -> dict[str, Chosen]:
        """Return the methods of the parts with their ranks as they are now."""
        found, places = {}, iter(self.targets.places.tolist())
        for part in self.parts:
            found[part.name] = part.methods
            if part.ranks:
                method = part.ranks.methods[next(places)]
                found[part.name] = replace(part.methods, structure=method)
        return found

    @torch.no_grad()
    def _project(self) -> None:
        methods = self._methods()
        found = [
            value
            for part in self.parts
            for value in projected(part.layer, methods[part.name], self.job.check).values()
        ]
        for target, value in zip(self.targets.values(), found, strict=True):
            target.copy_(value)

    def _share_ranks(self) -> None:
        layers = [(part.layer, part.ranks) for part in self.parts if part.ranks]
        places = shared_out(layers, self.job.check)
        self.targets.places.copy_(torch.tensor(places, dtype=torch.int64))

    def _parts(self) -> list[_Part]:
        found, reasons = [], []
        for name, methods in self.ground.chosen.items():
            layer = self.network.layer(name)
            if not all(bool(value.isfinite().all()) for value in layer.parameters()):
                raise UserError(
                    f"Layer {name} cannot be prepared: some of its weights are not finite.",
                    "Mend the weights, or take the preparation out of the recipe.",
                )
            if reason := projection_lock(layer, methods, self.job.check):
                reasons.append(f"Layer {name}: {reason}")
            else:
                found.append(_Part(name, layer, methods, ranked(layer, methods)))
        if not found:
            raise UserError(
                " ".join(["No layer takes part in the learning-compression.", *reasons[:1]]),
                "Choose a structure, a sparsity or a precision for a layer, or another way.",
            )
        return found
