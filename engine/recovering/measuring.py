"""How a network stands while it trains: what charts show, and which weights were best."""

from dataclasses import dataclass

from torch import Tensor

from featherweight.engine.jobs import Job
from featherweight.engine.recovering.checkpoint import Best, Progressed
from featherweight.engine.recovering.devices import HOME, Stage
from featherweight.engine.recovering.holding_out import beats
from featherweight.engine.recovering.sizes import size_of
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning

MEASURED_SAMPLES = 400
HELD_SAMPLES = 2000
MEASURES_OF_AN_EPOCH = 4
CHARTED_POINTS = 500


def charted(step: int, steps: int) -> bool:
    """Say whether points are sent of a step of so many: no more than a chart can show."""
    return step % max(1, steps // CHARTED_POINTS) == 0


@dataclass
class Measurer:
    """Measures the first network on a stage four times an epoch of `epoch_steps`.

    `held` measures on the samples held out, None without any.
    """

    stage: Stage
    task: Task
    held: Task | None
    settings: FineTuning
    epoch_steps: int
    job: Job

    def due(self, step: int) -> bool:
        """Say whether the network is measured before a step within the training."""
        count = MEASURES_OF_AN_EPOCH
        return step % self.epoch_steps in {
            part * self.epoch_steps // count for part in range(count)
        }

    def measure(self, progressed: Progressed, ready: bool) -> None:
        """Note how the network stands, and its weights if they are the best so far.

        Only what is `ready`, with all that it is to lose gone, may be the best. Nothing is measured
        twice at a step. Raises CancelledError, and then nothing was noted.
        """
        step, curve = progressed.step, progressed.curve
        if curve and curve[-1][0] == step:
            return
        loss, accuracy = self._standing(self.task, MEASURED_SAMPLES)
        held = self._standing(self.held, HELD_SAMPLES) if self.held else None
        with self.stage.at_home():
            bits, density = size_of(self.stage.networks[0])
        curve.append((step, loss, accuracy))
        self.job.point("accuracy", step, accuracy)
        self._note(progressed, "bits", float(bits))
        self._note(progressed, "density", density)
        if held is not None:
            self._note(progressed, "held", held[1])
            if ready and beats(self.task, held, progressed.best):
                progressed.best = Best(step, *held, self._weights())

    def forget(self, progressed: Progressed) -> None:
        """Let a network be measured once more at a step, for it is another one now."""
        if progressed.curve and progressed.curve[-1][0] == progressed.step:
            progressed.curve.pop()

    def tell(self, progressed: Progressed) -> None:
        """Send all points that were measured before."""
        for step, _, accuracy in progressed.curve:
            self.job.point("accuracy", step, accuracy)
        for name, points in progressed.series.items():
            for step, value in points:
                self.job.point(name, step, value)

    def out_of_patience(self, progressed: Progressed) -> bool:
        """Say whether the best weights are too long ago."""
        patience, best = self.settings.patience, progressed.best
        if not patience or best is None:
            return False
        return progressed.step - best.step >= patience * self.epoch_steps

    def put_best_in(self, progressed: Progressed) -> None:
        """Give the network its best weights, where they are to be kept."""
        if self.settings.keep == "best" and progressed.best is not None:
            self.stage.networks[0].module.load_state_dict(progressed.best.weights)

    def _standing(self, task: Task, samples: int) -> tuple[float, float]:
        self.stage.networks[0].module.eval()
        return task.standing(self.stage.run, self.job.check, samples)

    def _weights(self) -> dict[str, Tensor]:
        if self.settings.keep != "best":
            return {}
        state = self.stage.networks[0].module.state_dict()
        return {name: value.to(HOME, copy=True) for name, value in state.items()}

    def _note(self, progressed: Progressed, name: str, value: float) -> None:
        progressed.series.setdefault(name, []).append((progressed.step, value))
        self.job.point(name, progressed.step, value)
