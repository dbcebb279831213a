"""Training that leads weights to zero, lets go of the others, and is resumable to the bit.

For two thirds of the steps a penalty leads, as strong as the share of zeros that is due asks for.
Then exactly what has to go is chosen and held at zero, while what stays trains without the penalty
that made it smaller than it should be.
"""

import hashlib
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, fingerprint
from featherweight.engine.preparing import biased_decay, group_lasso, l0, l1, slimming, splice
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead
from featherweight.engine.recovering.batches import Batches, batch_size, set_training
from featherweight.engine.recovering.checkpoint import (
    Progressed,
    load_checkpoint,
    save_checkpoint,
)
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
FILE = "preparation.safetensors"
CHECKPOINT_SECONDS = 2.0
MEASURED_SAMPLES = 400
POINTS = 500
MOMENTUM = 0.9
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
    training.network.module.eval()
    return training.network


class _SparseTraining:
    def __init__(self, ground: Ground, settings: Preparation, seed: int, job: Job) -> None:
        self.ground, self.settings, self.seed, self.job = ground, settings, seed, job
        self.task = ground.task
        self.network = ground.network.copy()
        self.leads = LEADS[settings.way](ground, self.network)
        size = batch_size(settings.batch_size, self.task)
        self.batches = Batches(len(self.task.recovery), size, seed)
        self.steps = settings.epochs * self.batches.steps
        # At least one step leads, and one follows where there are two.
        self.led = max(1, min(round(LED * self.steps), self.steps - 1))
        self.falls = sum(self._fall(step) for step in range(self.led))
        self.optimizer = _optimizer(self.network, self.leads, settings)
        self.first = [lead.density() for lead in self.leads]
        self.progressed = Progressed()
        memories = nn.ModuleList(lead.memory for lead in self.leads)
        self.state = nn.ModuleDict({"network": self.network.module, "leads": memories})
        self.path: Path | None = None
        self.name = ""

    def run(self, folder: Path | None) -> None:
        if folder is not None:
            self.path, self.name = folder / FILE, self._fingerprint()
            self._resume(self.path)
        saved = time.monotonic()
        try:
            while self.progressed.step < self.steps:
                self._measure_if_due()
                self._step()
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
                epoch = (self.progressed.step - 1) // self.batches.steps + 1
                self.job.advance(f"Preparing, epoch {epoch} of {self.settings.epochs}")
            self._measure_if_due()
        except CancelledError:
            self._save()
            raise
        self._save()

    def _resume(self, path: Path) -> None:
        found = load_checkpoint(path, self.name, self.state, self.optimizer)
        if found is not None:
            self.progressed = found
            for step, _, accuracy in found.curve:
                self.job.point("accuracy", step, accuracy)
            self.job.advance(f"Preparing, going on at step {found.step}", found.step)

    def _save(self) -> None:
        if self.path is not None and self.progressed.step:
            save_checkpoint(self.path, self.name, self.progressed, self.state, self.optimizer)

    def _step(self) -> None:
        step = self.progressed.step
        leading = step < self.led
        torch.manual_seed(self.seed + step)
        set_training(self.network, self.task, self.batches.size)
        wanted = [
            _on_the_way(first, lead.goal, (step + 1) / (ARRIVED * self.steps))
            for first, lead in zip(self.first, self.leads, strict=True)
        ]
        if leading:
            for lead, density in zip(self.leads, wanted, strict=True):
                lead.ready(step, density)
        self._descend(step, leading)
        for lead, density in zip(self.leads, wanted, strict=True):
            if not leading:
                lead.hold()
                continue
            lead.shrink(lead.strength * self._fall(step) / self.falls)
            lead.steer(density, 1 / self.led)
            if step + 1 == self.led:
                lead.choose()
        if step % max(1, self.steps // POINTS) == 0:
            self.job.point("density", step + 1, self._density())
        self.progressed.step = step + 1

    def _descend(self, step: int, leading: bool) -> None:
        inputs, targets = self.task.batch(self.task.recovery, self.batches.indices(step))
        with torch.enable_grad():
            loss = self.task.loss(self.network.outputs(*inputs), targets)
            if not loss.requires_grad:
                raise UserError(
                    "The network cannot be trained: its weights give its outputs no gradient.",
                    "Take the preparation out of the recipe.",
                )
            value, rate = float(loss.detach()), self.settings.learning_rate
            if not math.isfinite(value):
                raise UserError(
                    f"The loss is no number any more at step {step + 1} of the preparation.",
                    f"Lower its learning rate, for example to {rate / 10:g}.",
                )
            amounts = [(lead, lead.strength / self.falls) for lead in self.leads if leading]
            penalties = [lead.penalty(amount) for lead, amount in amounts]
            self.optimizer.zero_grad()
            torch.autograd.backward([loss, *(one for one in penalties if one is not None)])
        for group in self.optimizer.param_groups:
            group["lr"] = group["first_rate"] * self._fall(step)
        self.optimizer.step()
        if step % max(1, self.steps // POINTS) == 0:
            self.job.point("loss", step + 1, value)
            self.job.point("rate", step + 1, rate * self._fall(step))

    def _fall(self, step: int) -> float:
        """Return the share of the learning rate that is left at a step."""
        return 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def _density(self) -> float:
        left = sum(lead.density() * lead.weights for lead in self.leads)
        return left / sum(lead.weights for lead in self.leads)

    def _measure_if_due(self) -> None:
        step, curve = self.progressed.step, self.progressed.curve
        due = step % self.batches.steps == 0 or step == self.steps
        if not due or (curve and curve[-1][0] == step):
            return
        loss, accuracy = self.task.standing(self.network, self.job.check, MEASURED_SAMPLES)
        curve.append((step, loss, accuracy))
        self.job.point("accuracy", step, accuracy)

    def _fingerprint(self) -> str:
        """Return what tells this run from any other: settings, weights, choices, data."""
        about = msgspec.json.encode((self.settings, self.seed, self.task.source))
        chosen = repr(sorted(self.ground.chosen.items()))
        text = (fingerprint(self.ground.network), chosen)
        return hashlib.sha256(about + repr(text).encode()).hexdigest()


def _on_the_way(first: float, goal: float, way: float) -> float:
    """Return the density that is due at a share of the way, of which more than 1 is 1."""
    return first + (goal - first) * min(way, 1.0)


def _optimizer(network: Network, leads: list[Lead], settings: Preparation) -> Optimizer:
    own = {id(value) for lead in leads for value in lead.parameters()}
    # A network frozen when it was saved is trained all the same, as its archive would be.
    every = [value for value in network.module.parameters() if value.is_floating_point()]
    for value in every:
        value.requires_grad_()
    if settings.optimizer == "adamw":
        kind: Callable[..., Optimizer] = partial(AdamW, weight_decay=0.0)
    else:
        kind = partial(SGD, momentum=MOMENTUM)
    gates = GATE_RATES[settings.optimizer]
    rates = (settings.learning_rate, gates)
    groups = [[v for v in every if (id(v) in own) == gate] for gate in (False, True)]
    return kind(
        [
            {"params": values, "first_rate": rate}
            for values, rate in zip(groups, rates, strict=True)
            if values
        ],
        lr=settings.learning_rate,
    )
