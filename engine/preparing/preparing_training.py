"""The training that all ways of preparing a network share, resumable to the bit."""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.network import fingerprint
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.recovering.batches import Batches, batch_size, set_training
from featherweight.engine.recovering.checkpoint import (
    CHECKPOINT_SECONDS,
    Progressed,
    load_checkpoint,
    save_checkpoint,
)
from featherweight.engine.recovering.measuring import MEASURED_SAMPLES, charted
from featherweight.engine.recovering.optimizing import cosine, let_train
from featherweight.engine.recovering.soundness import sound
from featherweight.engine.trainings import Preparation

FILE = "preparation.safetensors"
MOMENTUM = 0.9


class PreparingTraining:
    """A copy of the ground's network that trains; ways say what happens beside the descent.

    `state` is all that a checkpoint holds; what a way remembers beside the network has to be added
    to it.
    """

    def __init__(self, ground: Ground, settings: Preparation, seed: int, job: Job) -> None:
        self.ground, self.settings, self.seed, self.job = ground, settings, seed, job
        self.task = ground.task
        self.network = ground.network.copy()
        size = batch_size(settings.batch_size, self.task)
        self.batches = Batches(len(self.task.recovery), size, seed)
        self.steps = settings.epochs * self.batches.steps
        self.progressed = Progressed()
        self.state = nn.ModuleDict({"network": self.network.module})
        self._path: Path | None = None
        self._run = ""

    def groups(self) -> list[dict[str, Any]]:
        """Return what trains as groups of parameters, each with its `first_rate`."""
        every = let_train(self.network.module)
        return [{"params": every, "first_rate": self.settings.learning_rate}]

    def before(self, step: int) -> None:
        """Do what a way does before a step, counted from 0."""

    def penalties(self, step: int) -> Iterable[Tensor]:  # noqa: ARG002
        """Return what the loss of a step grows by."""
        return ()

    def after(self, step: int) -> None:
        """Do what a way does after a step."""

    def run(self, folder: Path | None) -> None:
        """Train the copy, or go on from the checkpoint of the same run in the folder."""
        self.optimizer = self._optimizer()
        if folder is not None:
            self._path, self._run = folder / FILE, self._fingerprint()
            self._resume(self._path)
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
        self.network.module.eval()

    def fall(self, step: int) -> float:
        """Return the share of the learning rate that is left at a step."""
        return cosine(step, self.steps)

    def charted(self, step: int) -> bool:
        """Say whether points are sent after a step."""
        return charted(step, self.steps)

    def _step(self) -> None:
        step = self.progressed.step
        torch.manual_seed(self.seed + step)
        set_training(self.network, self.task, self.batches.size)
        self.before(step)
        self._descend(step)
        self.after(step)
        self.progressed.step = step + 1

    def _descend(self, step: int) -> None:
        inputs, targets = self.task.batch(self.task.recovery, self.batches.indices(step))
        with torch.enable_grad():
            loss = self.task.loss(self.network.outputs(*inputs), targets)
            rate = self.settings.learning_rate
            value = sound(loss, step, rate, "preparation")
            penalties = list(self.penalties(step))
            self.optimizer.zero_grad()
            torch.autograd.backward([loss, *penalties])
        for group in self.optimizer.param_groups:
            group["lr"] = group["first_rate"] * self.fall(step)
        self.optimizer.step()
        if self.charted(step):
            self.job.point("loss", step + 1, value)
            self.job.point("rate", step + 1, rate * self.fall(step))

    def _optimizer(self) -> Optimizer:
        groups, rate = self.groups(), self.settings.learning_rate
        if self.settings.optimizer == "adamw":
            return AdamW(groups, lr=rate, weight_decay=0.0)
        return SGD(groups, lr=rate, momentum=MOMENTUM)

    def _resume(self, path: Path) -> None:
        found = load_checkpoint(path, self._run, self.state, self.optimizer)
        if found is not None:
            self.progressed = found
            for step, _, accuracy in found.curve:
                self.job.point("accuracy", step, accuracy)
            self.job.advance(f"Preparing, going on at step {found.step}", found.step)

    def _save(self) -> None:
        if self._path is not None and self.progressed.step:
            save_checkpoint(self._path, self._run, self.progressed, self.state, self.optimizer)

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
