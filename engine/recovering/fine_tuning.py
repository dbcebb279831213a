"""Training of a compressed network on the task's recovery data, resumable to the bit.

Weights held by trainable forms stay on their mask, grid or codebook by themselves. Batch norms
whose inputs changed are measured again first, and all follow the recovery data; where there is only
noise to train on, or one sample at a time, their statistics stay.
"""

import hashlib
import time
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.recovering.activations import fit_roundings
from featherweight.engine.recovering.arithmetic import takes_bfloat16
from featherweight.engine.recovering.batches import Batches, set_training
from featherweight.engine.recovering.checkpoint import (
    CHECKPOINT_SECONDS,
    Curve,
    Progressed,
    checkpoint_step,
    load_checkpoint,
    save_checkpoint,
)
from featherweight.engine.recovering.gradual import Ramp, gradual_forms, put_precisions_on
from featherweight.engine.recovering.holding_out import held_count, parted
from featherweight.engine.recovering.lesson import Lesson
from featherweight.engine.recovering.measuring import MEASURED_SAMPLES, Measurer, charted
from featherweight.engine.recovering.norms import measure_norms, stale_norms, takes_statistics
from featherweight.engine.recovering.optimizing import follow, optimizer_of, rate_at, set_rate
from featherweight.engine.recovering.soundness import sound
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning

FILE, MASKED_FILE = "fine_tuning.safetensors", "masked.safetensors"


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
    steps and sends points, see `Point`. Weights in gradual forms lose theirs, and get their
    precision, while it trains; where the job is asked to finish, at once. Samples held out may end
    it early, and choose the weights.
    Raises CancelledError, and UserError where the loss is no number any more, nothing can be
    trained, the teacher does not fit or a checkpoint cannot be written.
    """
    return _Training(network, task, settings, seed, job).run(folder)


def steps_of(settings: FineTuning, task: Task) -> int:
    """Return how many steps a training takes."""
    return settings.epochs * _batches(settings, task, 0).steps


def _batches(settings: FineTuning, task: Task, seed: int) -> Batches:
    samples = len(task.recovery) - held_count(settings, len(task.recovery))
    size = task.fixed_batch or min(settings.batch_size, samples)
    return Batches(samples, size, seed)


class _Training:
    def __init__(
        self, network: Network, task: Task, settings: FineTuning, seed: int, job: Job
    ) -> None:
        self.network, self.settings = network, settings
        self.task, held = parted(task, settings, seed)
        self.seed, self.job = seed, job
        self.batches = _batches(settings, task, seed)
        self.epoch_steps = self.batches.steps
        self.steps = settings.epochs * self.epoch_steps
        self.optimizer = optimizer_of(network.module, settings)
        self.lesson = Lesson(network, self.task, settings, seed)
        self.stage = self.lesson.stage
        self.measurer = Measurer(self.stage, self.task, held, settings, self.epoch_steps, job)
        self.gradual = gradual_forms(network)
        self.refines = any(form.precision is not None for form in self.gradual)
        self.ramp = Ramp(self.steps, settings.gradual)
        # From this step on nothing more is to go.
        last = self.ramp.switch if self.refines else self.ramp.end
        self.ready = last if self.gradual else 0
        self.progressed = Progressed()
        self.folder: Path | None = None
        self.name = ""

    def run(self, folder: Path | None) -> Curve:
        self.folder = folder
        try:
            self.name = self._fingerprint() if folder else ""
            if not self._resume():
                self._measure_norms()
                if not self.refines:
                    fit_roundings(self.network, self.task, self.job.check)
            self.lesson.prepare(self.job)
            self.stage.go()
            follow(self.optimizer)
            self._train()
            self.measurer.put_best_in(self.progressed)
        finally:
            self.network.module.eval()
            self.stage.leave()
            self.lesson.close()
        return self.progressed.curve

    def _train(self) -> None:
        saved = time.monotonic()
        try:
            while self.progressed.step < self.steps:
                if self.job.finishing:
                    self._finish()
                    return
                self._prune_if_due()
                self._measure_if_due()
                if self.measurer.out_of_patience(self.progressed):
                    break
                self._begin_epoch_if_due()
                self._step()
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(FILE)
                    saved = time.monotonic()
                epoch = (self.progressed.step - 1) // self.epoch_steps + 1
                self.job.advance(f"Recovering, epoch {epoch} of {self.settings.epochs}")
            self._measure_if_due()
        except CancelledError:
            # At the switch the network may be on either side of it, as where it is being finished:
            # the checkpoint before stays.
            switching = self.refines and self.progressed.step == self.ramp.switch
            if self.progressed.step and not switching and not self.job.finishing:
                self._save(FILE)
            raise
        self._save(FILE)
        self._skip_the_rest()

    def _finish(self) -> None:
        """End with what there is, and all of it ready.

        No checkpoint is written: the same run started again goes on where it was.
        """
        if self.progressed.step <= self.ready and self.gradual:
            with self.stage.at_home():
                # Chosen again later, a mask would take back weights that have long been zero.
                for form in self.gradual if self.progressed.step <= self.ramp.end else ():
                    form.choose(1.0)
                self._put_precisions_on()
                self._measure_norms()
                fit_roundings(self.network, self.task, self.job.check)
            self.measurer.forget(self.progressed)
        self.measurer.measure(self.progressed, ready=True)
        self._skip_the_rest()

    def _skip_the_rest(self) -> None:
        step, steps = self.progressed.step, self.steps
        if step < steps:
            self.job.advance(f"Recovering, ended at step {step} of {steps}", steps - step)

    def _resume(self) -> bool:
        """Go on from a checkpoint; say whether there was one."""
        if self.folder is None:
            return False
        step = checkpoint_step(self.folder / FILE, self.name)
        if self.refines and step > self.ramp.switch:
            # Grids and codebooks are found again from the weights that they were found from.
            if self._load(MASKED_FILE) is None:
                return False
            self._put_precisions_on()
        found = self._load(FILE) if step else None
        if found is None:
            return False
        self.progressed = found
        self.lesson.restore(found.beside)
        self.measurer.tell(found)
        self.job.advance(f"Recovering, going on at step {found.step}", found.step)
        return True

    def _load(self, file: str) -> Progressed | None:
        if self.folder is None:
            return None
        return load_checkpoint(self.folder / file, self.name, self.network.module, self.optimizer)

    def _save(self, file: str) -> None:
        if self.folder is not None:
            path, module = self.folder / file, self.network.module
            save_checkpoint(path, self.name, self.progressed, module, self.optimizer)

    def _measure_norms(self) -> None:
        norms = stale_norms(self.network, self.task.reference)
        if norms and takes_statistics(self.task):
            measure_norms(self.network, self.task, norms, self.seed, self.job)

    def _prune_if_due(self) -> None:
        step = self.progressed.step
        if not self.gradual:
            return
        if self.ramp.due(step):
            with self.stage.at_home():
                for form in self.gradual:
                    form.choose(self.ramp.way(step))
        if self.refines and step == self.ramp.switch:
            self._save(MASKED_FILE)
            with self.stage.at_home():
                self._put_precisions_on()
                fit_roundings(self.network, self.task, self.job.check)

    def _put_precisions_on(self) -> None:
        put_precisions_on(self.network, self.job.check)
        self.gradual = gradual_forms(self.network)
        self.optimizer = optimizer_of(self.network.module, self.settings)

    def _begin_epoch_if_due(self) -> None:
        if self.progressed.step % self.epoch_steps == 0:
            with self.stage.at_home():
                self.progressed.beside |= self.lesson.renew(self.job.check)
        if self.progressed.bfloat16 is None:
            asked, module = self.settings.arithmetic, self.network.module
            found = takes_bfloat16(asked, module, self._trial, self.job.check)
            self.progressed.bfloat16 = found
        self.lesson.bfloat16 = self.progressed.bfloat16

    def _trial(self, bfloat16: bool) -> Tensor:
        self.lesson.bfloat16 = bfloat16
        torch.manual_seed(self.seed)
        set_training(self.network, self.task, self.batches.size)
        return self.lesson.loss(self.batches.indices(0), 0)

    def _step(self) -> None:
        step = self.progressed.step
        torch.manual_seed(self.seed + step)
        set_training(self.network, self.task, self.batches.size)
        indices = self.batches.indices(step)
        with torch.enable_grad():
            loss = self.lesson.loss(indices, step)
            value = sound(loss, step, self.settings.learning_rate, "recovery")
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
        for form in self.gradual:
            form.remember()
        rate = rate_at(self.settings, step, self.steps)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        if charted(step, self.steps):
            self.job.point("loss", step + 1, value)
            self.job.point("rate", step + 1, rate)
        self.progressed.step = step + 1

    def _measure_if_due(self) -> None:
        if self.measurer.due(self.progressed.step) or self.progressed.step == self.steps:
            self.measurer.measure(self.progressed, self.progressed.step >= self.ready)

    def _fingerprint(self) -> str:
        """Return what tells this run from any other: settings, weights, outputs, data."""
        digest = hashlib.sha256(msgspec.json.encode((self.settings, self.seed, self.task.source)))
        for name, value in self.network.module.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
        # A grid is no weight, and two grids may start from the same weights.
        standing = self.task.standing(self.network, self.job.check, MEASURED_SAMPLES)
        digest.update(repr(standing).encode())
        digest.update(repr([(form.sparsity, form.precision) for form in self.gradual]).encode())
        digest.update(f"{self.lesson.identity} {self.stage.where.type}".encode())
        return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
