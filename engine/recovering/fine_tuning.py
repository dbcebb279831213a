"""Training of a compressed network on the task's recovery data, resumable to the bit.

Weights held by trainable forms stay on their mask, grid or codebook by themselves. Batch norm
follows the recovery data; where there is only noise to train on, or one sample at a time, its
statistics stay.
"""

import hashlib
import math
import time
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.recipe import FineTuning
from featherweight.engine.recovering.checkpoint import (
    Curve,
    Progressed,
    load_checkpoint,
    save_checkpoint,
)
from featherweight.engine.task import Task

FILE = "fine_tuning.safetensors"
CHECKPOINT_SECONDS = 2.0
MEASURED_SAMPLES = 400
MEASURES_OF_AN_EPOCH = 4
LOSS_POINTS = 500
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fine_tune(
    network: Network,
    task: Task,
    settings: FineTuning,
    seed: int,
    folder: Path | None,
    job: Job,
) -> Curve:
    """Train the network in place; return (step, loss, accuracy) as measured while it trained.

    Loss and accuracy of the curve are of the first 400 samples to measure on, in eval mode. The
    same network, task, settings and seed give the same weights, bit for bit, also where the run
    was cancelled and goes on from its checkpoint in `folder`. Advances `job` by `steps_of`
    steps, sends points `loss` (of a batch) and `accuracy` (0 to 1).
    Raises CancelledError, and UserError where the loss is no number any more, nothing can be
    trained or a checkpoint cannot be written.
    """
    return _Training(network, task, settings, seed, job).run(folder)


def steps_of(settings: FineTuning, task: Task) -> int:
    """Return how many steps a training takes."""
    return settings.epochs * _steps_of_an_epoch(task, _batch_size(settings, task))


class _Training:
    def __init__(
        self, network: Network, task: Task, settings: FineTuning, seed: int, job: Job
    ) -> None:
        self.network, self.task, self.settings = network, task, settings
        self.seed, self.job = seed, job
        self.batch = _batch_size(settings, task)
        self.epoch_steps = _steps_of_an_epoch(task, self.batch)
        self.steps = settings.epochs * self.epoch_steps
        self.optimizer = _optimizer(network.module, settings)
        self.progressed = Progressed()
        self.order: tuple[int, list[int]] = (-1, [])

    def run(self, folder: Path | None) -> Curve:
        path = folder / FILE if folder else None
        fingerprint = self._fingerprint() if path else ""
        if path:
            self._resume(path, fingerprint)
        saved = time.monotonic()
        try:
            while self.progressed.step < self.steps:
                self._measure_if_due()
                self._step()
                if path and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(path, fingerprint)
                    saved = time.monotonic()
                epoch = (self.progressed.step - 1) // self.epoch_steps + 1
                self.job.advance(f"Recovering, epoch {epoch} of {self.settings.epochs}")
            self._measure_if_due()
        except CancelledError:
            if path:
                self._save(path, fingerprint)
            raise
        finally:
            self.network.module.eval()
        if path:
            self._save(path, fingerprint)
        return self.progressed.curve

    def _resume(self, path: Path, fingerprint: str) -> None:
        found = load_checkpoint(path, fingerprint, self.network.module, self.optimizer)
        if found is None or not found.step:
            return
        self.progressed = found
        for step, _, accuracy in found.curve:
            self.job.point("accuracy", step, accuracy)
        self.job.advance(f"Recovering, going on at step {found.step}", found.step)

    def _save(self, path: Path, fingerprint: str) -> None:
        save_checkpoint(path, fingerprint, self.progressed, self.network.module, self.optimizer)

    def _step(self) -> None:
        step = self.progressed.step
        torch.manual_seed(self.seed + step)
        self._set_training()
        inputs, targets = self.task.batch(self.task.recovery, self._indices(step))
        with torch.enable_grad():
            loss = self.task.loss(self.network.outputs(*inputs), targets)
            if not loss.requires_grad:
                raise UserError(
                    "The network cannot be trained: its weights give its outputs no gradient.",
                    "Take the recovery out of the recipe.",
                )
            value = float(loss.detach())
            if not math.isfinite(value):
                rate = self.settings.learning_rate
                raise UserError(
                    f"The loss is no number any more at step {step + 1} of the recovery.",
                    f"Lower its learning rate, for example to {rate / 10:g}.",
                )
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        self.optimizer.step()
        if step % max(1, self.steps // LOSS_POINTS) == 0:
            self.job.point("loss", step + 1, value)
        self.progressed.step = step + 1

    def _set_training(self) -> None:
        self.network.module.train()
        if self.task.source.data and self.batch > 1:
            return
        # Noise, or one sample, says nothing of the statistics of real ones: the original's stay.
        for module in self.network.module.modules():
            if isinstance(module, NORMS):
                module.eval()

    def _indices(self, step: int) -> list[int]:
        epoch, position = divmod(step, self.epoch_steps)
        if self.order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
            order = torch.randperm(len(self.task.recovery), generator=generator).tolist()
            # Fewer samples than a fixed batch takes are taken more than once.
            self.order = (epoch, order * -(-self.batch // len(order)))
        return self.order[1][position * self.batch : (position + 1) * self.batch]

    def _rate(self, step: int) -> float:
        rate = self.settings.learning_rate
        if self.settings.schedule == "constant":
            return rate
        return rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def _measure_if_due(self) -> None:
        step, curve = self.progressed.step, self.progressed.curve
        count = MEASURES_OF_AN_EPOCH
        quarters = {part * self.epoch_steps // count for part in range(count)}
        due = step % self.epoch_steps in quarters or step == self.steps
        if not due or (curve and curve[-1][0] == step):
            return
        loss, accuracy = self.task.standing(self.network, self.job.check, MEASURED_SAMPLES)
        curve.append((step, loss, accuracy))
        self.job.point("accuracy", step, accuracy)

    def _fingerprint(self) -> str:
        """Return what tells this run from any other: settings, weights, outputs, data."""
        digest = hashlib.sha256(msgspec.json.encode((self.settings, self.seed, self.task.source)))
        for name, value in self.network.module.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
        # A grid is no weight, and two grids may start from the same weights.
        standing = self.task.standing(self.network, self.job.check, MEASURED_SAMPLES)
        digest.update(repr(standing).encode())
        return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _batch_size(settings: FineTuning, task: Task) -> int:
    return task.fixed_batch or min(settings.batch_size, len(task.recovery))


def _steps_of_an_epoch(task: Task, batch: int) -> int:
    return max(1, len(task.recovery) // batch)


def _optimizer(module: nn.Module, settings: FineTuning) -> Optimizer:
    # A network frozen when it was saved is trained all the same, as its archive would be.
    trained = [value for value in module.parameters() if value.is_floating_point()]
    for value in trained:
        value.requires_grad_()
    if not trained:
        raise UserError("The network has nothing to train.", "Take the recovery out of the recipe.")
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return AdamW(trained, lr=rate, weight_decay=decay)
    return SGD(trained, lr=rate, momentum=settings.momentum, weight_decay=decay)
