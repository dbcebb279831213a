"""A learning rate to begin with, found by a short training at rising rates.

Smith: Cyclical Learning Rates for Training Neural Networks (2017), the range test: too small a
rate changes nothing, a good one lets the loss fall fastest, too large a one lets it rise.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d

from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.recovering.batches import Batches, batch_size, set_training
from featherweight.engine.recovering.lesson import Lesson
from featherweight.engine.recovering.optimizing import optimizer_of, set_rate
from featherweight.engine.recovering.soundness import sound
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning

STEPS = 100
STAGE = "Trying learning rates"
LOWEST, HIGHEST = 1e-6, 1.0
# Rates at which the loss is this many times the least tell nothing more.
TOO_MUCH = 4.0
# Of the Gaussian that evens out what differs from batch to batch, in steps.
WIDTH = 3.0
# A fall of a smaller share of the loss at the start is none.
LEAST_FALL = 0.02

Rates = list[tuple[float, float]]


def find_rate(
    network: Network, task: Task, settings: FineTuning, seed: int, job: Job
) -> tuple[Rates, float]:
    """Return (rate, loss) at up to 100 rising rates, and the rate that they speak for.

    Every step trains on samples of its own; the loss is that of always the same batch before it,
    so that it differs by the training alone. The network is trained in place and of no use
    afterwards. Advances `job` by 100 steps. The same seed gives the same. Raises CancelledError,
    and UserError where nothing can be trained.
    """
    size = batch_size(settings.batch_size, task)
    batches = Batches(len(task.recovery), size, seed)
    asked = batches.indices(batches.steps - 1)
    lesson = Lesson(network, task, settings, seed)
    optimizer = optimizer_of(network.module, settings)
    found: Rates = []
    try:
        lesson.prepare(job)
        lesson.renew(job.check)
        lesson.stage.go()
        for step in range(STEPS):
            set_training(network, task, size)
            torch.manual_seed(seed)
            with torch.no_grad():
                loss = float(lesson.loss(asked, STEPS))
            if found and not loss <= TOO_MUCH * min(before for _, before in found):
                break
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            found.append((rate, loss))
            set_rate(optimizer, rate)
            torch.manual_seed(seed + step)
            with torch.enable_grad():
                trained = lesson.loss(batches.indices(step), step)
                if step and not trained.isfinite():
                    break
                sound(trained, step, settings.learning_rate, "recovery")
                optimizer.zero_grad()
                torch.autograd.backward(trained)
            optimizer.step()
            job.advance(STAGE)
    finally:
        network.module.eval()
        lesson.stage.leave()
        lesson.close()
    job.advance(STAGE, STEPS - len(found))
    return found, suggested(found)


def suggested(points: Rates) -> float:
    """Return the rate at which the smoothed loss falls fastest, before its least.

    The loss is smoothed over rates by a Gaussian, which does not shift it to higher rates as a
    running mean does. Where it falls by less than 2 %, it is a tenth of the last rate at which the
    smoothed loss is no more than 2 % over its start: the last that did no harm.
    """
    rates = np.array([rate for rate, _ in points])
    losses = np.array([loss for _, loss in points])
    smooth: npt.NDArray[np.float64] = gaussian_filter1d(losses, WIDTH, mode="nearest")
    least = int(smooth.argmin())
    if least and smooth[0] - smooth[least] >= LEAST_FALL * smooth[0]:
        falls = np.diff(smooth[: least + 1])
        return float(rates[int(falls.argmin())])
    harmless = np.flatnonzero(smooth <= (1 + LEAST_FALL) * smooth[0])
    return max(float(rates[int(harmless[-1])] / 10), LOWEST / 10)
