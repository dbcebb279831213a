"""Training that leads weights to zero, and lets go of the others.

For two thirds of the steps a penalty leads, as strong as the share of zeros that is due asks for.
Then exactly what has to go is chosen and held at zero, while what stays trains without the penalty
that made it smaller than it should be.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.preparing import biased_decay, group_lasso, l0, l1, slimming, splice
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead
from featherweight.engine.preparing.preparing_training import PreparingTraining
from featherweight.engine.trainings import Preparation
from featherweight.engine.weight_forms import densify

LEADS: dict[str, Callable[[Ground, Network], list[Lead]]] = {
    "biased decay": biased_decay.leads,
    "l1": l1.leads,
    "group lasso": group_lasso.leads,
    "slimming": slimming.leads,
    "l0": l0.leads,
    "splice": splice.leads,
}
# Of gates at the start: they have to go far in few steps, whatever weights like.
GATE_RATES = {"sgd": 1.0, "adamw": 0.1}
# Shares of the steps: until everything that goes should be at zero, and until it is let go.
ARRIVED, LED = 0.5, 2 / 3


def train_sparse(
    ground: Ground, settings: Preparation, seed: int, folder: Path | None, job: Job
) -> Network:
    """Return a trained copy in which what will go is zero: see `preparation.prepared`."""
    training = _SparseTraining(ground, settings, seed, job)
    training.run(folder)
    densify(training.network)
    return training.network


class _SparseTraining(PreparingTraining):
    def __init__(self, ground: Ground, settings: Preparation, seed: int, job: Job) -> None:
        super().__init__(ground, settings, seed, job)
        self.leads = LEADS[settings.way](ground, self.network)
        # At least one step leads, and one follows where there are two.
        self.led = max(1, min(round(LED * self.steps), self.steps - 1))
        self.falls = sum(self.fall(step) for step in range(self.led))
        self.first = [lead.density() for lead in self.leads]
        self.state["leads"] = nn.ModuleList(lead.memory for lead in self.leads)

    def groups(self) -> list[dict[str, Any]]:
        """Return gates apart, for they have a learning rate of their own."""
        (every,) = super().groups()
        own = {id(value) for lead in self.leads for value in lead.parameters()}
        gates = [value for value in every["params"] if id(value) in own]
        others = [value for value in every["params"] if id(value) not in own]
        rate = GATE_RATES[self.settings.optimizer]
        groups = [{**every, "params": others}, {"params": gates, "first_rate": rate}]
        return [group for group in groups if group["params"]]

    def before(self, step: int) -> None:
        """Tell what leads how much of it is due."""
        if step < self.led:
            for lead, density in self._wanted(step):
                lead.ready(step, density)

    def penalties(self, step: int) -> Iterator[Tensor]:
        """Give the penalties of what leads by the loss."""
        for lead in self.leads if step < self.led else ():
            penalty = lead.penalty(lead.strength / self.falls)
            if penalty is not None:
                yield penalty

    def after(self, step: int) -> None:
        """Shrink what goes, or hold it at zero where it has been chosen."""
        for lead, density in self._wanted(step):
            if step >= self.led:
                lead.hold()
                continue
            lead.shrink(lead.strength * self.fall(step) / self.falls)
            lead.steer(density, 1 / self.led)
            if step + 1 == self.led:
                lead.choose()
        if self.charted(step):
            self.job.point("density", step + 1, self._density())

    def _wanted(self, step: int) -> list[tuple[Lead, float]]:
        """Return the density that is due of each lead after a step."""
        way = min((step + 1) / (ARRIVED * self.steps), 1.0)
        pairs = zip(self.leads, self.first, strict=True)
        return [(lead, first + (lead.goal - first) * way) for lead, first in pairs]

    def _density(self) -> float:
        left = sum(lead.density() * lead.weights for lead in self.leads)
        return left / sum(lead.weights for lead in self.leads)
