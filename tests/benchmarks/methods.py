"""What each method costs in accuracy on networks trained here, against the catalogue's gates.

Run it with `python tests/benchmarks/methods.py [FOLDER]`. FOLDER holds Fashion-MNIST's four IDX
files as Debian's package dataset-fashion-mnist installs them, where they are looked for by default.
LeNet-300-100 is trained on them once; every row compresses it by a recipe through the same Session
that the window uses, writes the archive and measures it on 10,000 test images. Rows that train
again are compared with the dense network trained as long. Exits with 1 where a gate is missed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.datasets.idx import read_idx
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.options import Scalar
from featherweight.engine.recipe import Choice, FineTuning, Recipe, Setting
from featherweight.engine.results import Result
from featherweight.engine.session import Session

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

from architectures.early import Lenet300

INSTALLED = Path("/usr/share/datasets/fashion-mnist")
FACTORY = "architectures.early"
EPOCHS, BATCH = 15, 256
FIRST, SECOND, LAST = "1", "3", "5"
BOTH = (FIRST, SECOND)
RETRAINED = FineTuning(epochs=8, optimizer="adamw", learning_rate=1e-3, batch_size=256)
LONGER = FineTuning(epochs=15, optimizer="adamw", learning_rate=3e-3, batch_size=256)


@dataclass(frozen=True)
class Row:
    """One gate: at most `drop` points of top-1 lost at a file at least `rate` times smaller."""

    title: str
    choices: dict[str, Choice]
    drop: float
    target: float
    rate: float = 0.0
    recovery: FineTuning | None = None


@dataclass
class Bench:
    """The open network with its data, and what its dense control reaches with the same training."""

    session: Session
    folder: Path
    controls: dict[FineTuning, float] = field(default_factory=dict)

    def run(self, row: Row) -> tuple[float, float]:
        """Return the points of top-1 that a row loses, and how many times smaller its file is."""
        result = self._compressed(row.choices, row.recovery)
        top1 = result.after.figures["top1"].value
        before = result.before.figures["top1"].value
        if row.recovery:
            if row.recovery not in self.controls:
                dense = self._compressed({}, row.recovery)
                self.controls[row.recovery] = dense.after.figures["top1"].value
            before = self.controls[row.recovery]
        return before - top1, (
            result.before.figures["bytes"].value / result.after.figures["bytes"].value
        )

    def _compressed(self, choices: dict[str, Choice], recovery: FineTuning | None) -> Result:
        recipe = Recipe(layers=choices, recovery=recovery, calibration=4096)
        return self.session.compress(recipe, "row", str(self.folder / "results"), Job())


def main() -> int:
    """Train, print the table, return 1 where a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=INSTALLED)
    data = parser.parse_args().folder
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        bench = opened(data, Path(place))
        print(f"{'row':40}{'file':>8}{'drop':>9}{'gate':>8}{'target':>9}")
        for row in rows():
            try:
                drop, rate = bench.run(row)
            except UserError as error:
                missed += 1
                print(f"{row.title:40}   MISSED: {error.message}")
                continue
            good = drop <= row.drop and rate >= row.rate
            missed += not good
            word = "target" if drop <= row.target else "gate"
            print(
                f"{row.title:40}{rate:7.1f}×{drop:9.2f}{row.drop:8.2f}{row.target:9.2f}"
                f"  {word if good else 'MISSED'}",
                flush=True,
            )
    print(f"{missed} gates missed")
    return 1 if missed else 0


def rows() -> Iterator[Row]:
    """Give the rows of the catalogue's matrix that one small network can show."""
    every = (*BOTH, LAST)
    yield Row("float16, all layers", precision(every, "float16"), 0.05, 0.0, 1.9)
    yield Row("8-bit integers, all layers", precision(every, "integer", bits=8), 0.10, 0.0, 3.8)
    for rounding in ("nearest", "gptq"):
        title = f"3-bit integers, {rounding}"
        chosen = precision(BOTH, "integer", bits=3, rounding=rounding)
        yield Row(title, chosen, 3.0 if rounding == "nearest" else 0.5, 0.2, 9.0)
    grouped: dict[str, Scalar] = {"granularity": "group", "group_size": 28, "scale_bits": 16}
    chosen = precision(BOTH, "integer", bits=2, rounding="gptq", **grouped)
    yield Row("2-bit integers, gptq (A-Q3)", chosen, 1.2, 0.8, 10.0)
    chosen = precision(BOTH, "codebook", clusters=16)
    yield Row("16 shared values (A-Q4)", chosen, 0.4, 0.2, 7.0)
    binary = precision(BOTH, "binary")
    yield Row("binary, retrained (A-Q8)", binary, 1.0, 0.4, 24.0, RETRAINED)
    for keep, drop, target in ((1 / 3.4, 0.1, 0.0), (1 / 6.8, 0.6, 0.4)):
        chosen = structure((FIRST,), "svd", keep=keep, metric="outputs", multiple=1)
        yield Row(f"SVD by outputs, 1/{1 / keep:.1f} (A-L1)", chosen, drop, target)
    for sparsity, drop in ((0.7, 1.0), (0.8, 1.7)):
        chosen = sparse(BOTH, "obs", sparsity=sparsity)
        yield Row(f"OBS, {sparsity:.0%} zero (A-P2a)", chosen, drop, drop - 0.7)
    chosen = sparse(BOTH, "n_of_m", pattern="2:4", score="obs")
    yield Row("OBS, 2 of 4 stay (A-P9)", chosen, 0.5, 0.3)
    for sparsity, drop, target in ((0.875, 0.5, 0.35), (0.9375, 1.4, 1.25)):
        chosen = transformed(sparsity)
        yield Row(f"DCT and OBD, 1/{1 / (1 - sparsity):.0f} (A-L3)", chosen, drop, target, 3.5)
    chosen = structure((FIRST,), "channel_pruning", ratio=0.6, score="obs")
    yield Row("180 of 300 units by OBS (A-P5b)", chosen, 0.6, 0.4, 1.8)
    chosen = structure((FIRST,), "channel_pruning", ratio=0.4, score="merge")
    yield Row("120 of 300 units merged (A-P5)", chosen, 2.5, 2.0, 1.4)
    chosen = structure((FIRST,), "channel_pruning", ratio=0.4, score="scaled_merge")
    yield Row("120 of 300 units merged by scale (A-P5)", chosen, 1.0, 0.5, 1.4)
    for block, rate in ((4, 3.5), (8, 7.0)):
        chosen = structure(BOTH, "circulant", block=block)
        title = f"block-circulant, {block}, retrained (A-S2)"
        yield Row(title, chosen, 0.7, 0.3, rate, LONGER)


def precision(layers: tuple[str, ...], method: str, **options: Scalar) -> dict[str, Choice]:
    """Return a precision for layers."""
    return dict.fromkeys(layers, Choice(precision=Setting(method, options)))


def structure(layers: tuple[str, ...], method: str, **options: Scalar) -> dict[str, Choice]:
    """Return a structure for layers."""
    return dict.fromkeys(layers, Choice(structure=Setting(method, options)))


def sparse(layers: tuple[str, ...], method: str, **options: Scalar) -> dict[str, Choice]:
    """Return a sparsity for layers."""
    return dict.fromkeys(layers, Choice(sparsity=Setting(method, options)))


def transformed(sparsity: float) -> dict[str, Choice]:
    """Return Optimal Brain Damage on the cosines of the first layer's images."""
    cosines = Setting("transform", {"keep": 1.0, "basis": "dct", "rows": 28})
    return {FIRST: Choice(structure=cosines, sparsity=Setting("obd", {"sparsity": sparsity}))}


def opened(data: Path, place: Path) -> Bench:
    """Train LeNet-300-100 and open it with the data."""
    images, labels = (
        torch.from_numpy(read_idx(data / f"train-{kind}-ubyte.gz"))
        for kind in ("images-idx3", "labels-idx1")
    )
    torch.manual_seed(0)
    module = Lenet300()
    train(module, images[:, None].float() / 255, labels.long())
    path = place / "lenet300.safetensors"
    path.write_bytes(save(module.state_dict()))
    session = Session()
    session.open(
        Source(
            path=str(path),
            factory=f"{FACTORY}:Lenet300",
            trust=(FACTORY,),
            input_shapes=((1, 1, 28, 28),),
        )
    )
    session.set_task(TaskSource(data=str(data)))
    return Bench(session, place)


def train(module: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train a network on images, float32 (n, 1, 28, 28), the usual way."""
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(module(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    module.eval()


if __name__ == "__main__":
    sys.exit(main())
