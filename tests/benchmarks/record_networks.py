"""The networks of the record, each with a stronger one that it may learn from."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from methods_bench import Bench
from methods_data import Pair, fashion, standardized
from methods_networks import KINDS, Kind, Training, opened_kind, residual
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.session import Session

TEACHER = "teacher.fwz"
REACH = 2


@dataclass(frozen=True)
class Taught:
    """How a teacher is trained: on images shifted at random and, where they may be, mirrored."""

    epochs: int
    mirrored: bool
    batch: int = 128
    rate: float = 4e-3
    decay: float = 0.02


def _record(name: str, training: Training | None = None) -> Kind:
    kind = KINDS[name]
    training = training or kind.training
    return replace(kind, recovery=0, standard=True, batch=1, training=training)


NETWORKS = {
    "lenet-300-100": _record("LeNet-300"),
    "digits": _record("digits-300"),
    "lenet-5": _record("LeNet-5", Training(6, 128, 1e-3)),
    "residual": _record("residual", Training(6, 128, 3e-3)),
}
# Eight thousand digits are learnt as well from the network itself.
TEACHERS = {"fashion": Taught(8, True)}


def opened_with_teacher(name: str, place: Path, fashion_folder: Path) -> Bench:
    """Return a network with its data, a teacher beside its file; what is there is not trained."""
    kind = NETWORKS[name]
    bench = opened_kind(kind, place / name, fashion_folder)
    beside = place / name / TEACHER
    if kind.data in TEACHERS and not beside.exists():
        made = place / f"{kind.data}-{TEACHER}"
        if not made.exists():
            pair = standardized(*fashion(fashion_folder))[0]
            _write_teacher(pair, TEACHERS[kind.data], made)
        shutil.copyfile(made, beside)
    return bench


def _write_teacher(pair: Pair, how: Taught, target: Path) -> None:
    torch.manual_seed(0)
    module = residual().to(memory_format=torch.channels_last)
    _train(module, pair, how)
    weights = target.with_suffix(".safetensors")
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, weights)
    session = Session()
    session.open(
        Source(
            path=str(weights),
            factory=f"{residual.__module__}:{residual.__name__}",
            trust=(residual.__module__,),
            input_shapes=((1, 1, 28, 28),),
        )
    )
    session.export("", "archive", str(target), Job())


def _train(module: nn.Module, pair: Pair, how: Taught) -> None:
    images, labels = (torch.from_numpy(part) for part in pair)
    background = float(np.min(pair[0]))
    steps = len(images) // how.batch
    optimizer = torch.optim.AdamW(module.parameters(), lr=how.rate, weight_decay=how.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, how.rate, total_steps=how.epochs * steps, pct_start=0.2
    )
    module.train()
    for epoch in range(how.epochs):
        # The last epoch sees images as they are: mirrored ones are none that are measured.
        mirrored = how.mirrored and epoch < how.epochs - 1
        for batch in torch.randperm(len(images))[: steps * how.batch].split(how.batch):
            given = _moved(images[batch], background, mirrored)
            optimizer.zero_grad()
            functional.cross_entropy(module(given), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    module.eval()


def _moved(images: Tensor, background: float, mirrored: bool) -> Tensor:
    """Shift a batch by up to two pixels and mirror half of it; (n, 1, 28, 28)."""
    side = images.shape[-1]
    padded = functional.pad(images, (REACH,) * 4, value=background)
    down, right = torch.randint(0, 2 * REACH + 1, (2,)).tolist()
    moved = padded[:, :, down : down + side, right : right + side]
    if mirrored:
        half = torch.rand(len(moved)) < 0.5
        moved = torch.where(half[:, None, None, None], moved.flip(3), moved)
    return moved.contiguous(memory_format=torch.channels_last)
