"""Where a training stands, as one safetensors file: weights, optimizer, step and curve."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from featherweight.engine.writing.files import make_folder, write_file

CHECKPOINT_SECONDS = 2.0
Curve = list[tuple[int, float, float]]
MODULE, OPTIMIZER, BESIDE, BEST = "module/", "optimizer/", "beside/", "best/"


@dataclass(frozen=True)
class Best:
    """The weights that stood best so far, after so many steps, and how they stood."""

    step: int
    loss: float
    accuracy: float
    weights: dict[str, Tensor]

    @property
    def standing(self) -> dict[str, float]:
        """All but the weights."""
        return {"step": self.step, "loss": self.loss, "accuracy": self.accuracy}


@dataclass
class Progressed:
    """How far a training is: steps done, and (step, loss, accuracy) as measured on the way.

    `beside` are tensors that belong to neither the network nor the optimizer. `series` are other
    points of charts by their names, `best` the weights to come back to. `bfloat16` says whether
    the training computes in it, None before that was found out.
    """

    step: int = 0
    curve: Curve = field(default_factory=list)
    beside: dict[str, Tensor] = field(default_factory=dict)
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    best: Best | None = None
    bfloat16: bool | None = None


def save_checkpoint(
    path: Path,
    run: str,
    progressed: Progressed,
    module: nn.Module,
    optimizer: Optimizer | None = None,
) -> None:
    """Write the checkpoint of a run in one piece: a crash leaves the old file or the new one.

    Between trainings there is no optimizer. Raises UserError where it cannot be written.
    """
    tensors = {f"{MODULE}{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"{BESIDE}{name}": value for name, value in progressed.beside.items()}
    best = progressed.best
    tensors |= {f"{BEST}{name}": value for name, value in (best.weights if best else {}).items()}
    states = optimizer.state_dict()["state"] if optimizer else {}
    for position, state in states.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{position}/{key}"] = value
    # Tied weights share memory, which safetensors refuses.
    apart = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    about = {
        "run": run,
        "step": str(progressed.step),
        "curve": json.dumps(progressed.curve),
        "series": json.dumps(progressed.series),
        "best": json.dumps(best.standing if best else None),
        "bfloat16": json.dumps(progressed.bfloat16),
    }
    make_folder(path.parent)
    write_file(path, save(apart, about))


def load_checkpoint(
    path: Path, run: str, module: nn.Module, optimizer: Optimizer | None = None
) -> Progressed | None:
    """Load the checkpoint of the same run; None where there is none, or another run's."""
    about = _about(path)
    if about is None or about.get("run") != run:
        return None
    with safe_open(path, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    with torch.no_grad():
        module.load_state_dict(_below(MODULE, tensors))
    if optimizer:
        states = dict[int, dict[str, Tensor]]()
        for name, value in _below(OPTIMIZER, tensors).items():
            position, _, key = name.partition("/")
            states.setdefault(int(position), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    best = json.loads(about["best"])
    return Progressed(
        step=int(about["step"]),
        curve=[(int(step), loss, accuracy) for step, loss, accuracy in json.loads(about["curve"])],
        beside=_below(BESIDE, tensors),
        series={
            name: [(int(step), value) for step, value in points]
            for name, points in json.loads(about["series"]).items()
        },
        best=Best(**best, weights=_below(BEST, tensors)) if best else None,
        bfloat16=json.loads(about["bfloat16"]),
    )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def checkpoint_step(path: Path, run: str) -> int:
    """Return the step of the checkpoint of the same run; 0 where there is none, or another's."""
    about = _about(path)
    return int(about["step"]) if about is not None and about.get("run") == run else 0


def _about(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as stored:
            about: dict[str, str] | None = stored.metadata()
            return about
    except (OSError, SafetensorError):
        return None
