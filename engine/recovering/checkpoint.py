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

Curve = list[tuple[int, float, float]]
MODULE, OPTIMIZER, BESIDE = "module/", "optimizer/", "beside/"


@dataclass
class Progressed:
    """How far a training is: steps done, and (step, loss, accuracy) as measured on the way.

    `beside` are tensors that belong to neither the network nor the optimizer.
    """

    step: int = 0
    curve: Curve = field(default_factory=list)
    beside: dict[str, Tensor] = field(default_factory=dict)


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
    states = optimizer.state_dict()["state"] if optimizer else {}
    for position, state in states.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{position}/{key}"] = value
    # Tied weights share memory, which safetensors refuses.
    apart = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    about = {"run": run, "step": str(progressed.step), "curve": json.dumps(progressed.curve)}
    make_folder(path.parent)
    write_file(path, save(apart, about))


def load_checkpoint(
    path: Path, run: str, module: nn.Module, optimizer: Optimizer | None = None
) -> Progressed | None:
    """Load the checkpoint of the same run; None where there is none, or another run's."""
    about = _about(path)
    if about is None or about.get("run") != run:
        return None
    weights, beside, states = {}, dict[str, Tensor](), dict[int, dict[str, Tensor]]()
    with safe_open(path, "pt") as stored:
        for name in stored.keys():  # noqa: SIM118  # it is no dictionary
            if name.startswith(MODULE):
                weights[name.removeprefix(MODULE)] = stored.get_tensor(name)
            elif name.startswith(BESIDE):
                beside[name.removeprefix(BESIDE)] = stored.get_tensor(name)
            else:
                position, _, key = name.removeprefix(OPTIMIZER).partition("/")
                states.setdefault(int(position), {})[key] = stored.get_tensor(name)
    with torch.no_grad():
        module.load_state_dict(weights)
    if optimizer:
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    curve = [(int(step), loss, accuracy) for step, loss, accuracy in json.loads(about["curve"])]
    return Progressed(int(about["step"]), curve, beside)


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
