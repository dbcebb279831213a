"""What a sweep costs and loses beside reading every setting on the whole network and all samples.

ResNet-20 trained on Fashion-MNIST (Debian package dataset-fashion-mnist): 21 convolutions and a
linear layer, each with integers of five widths, five shares of zeros and five low ranks, on 2,000
images of the recovery data. Printed are the CPU-seconds of both, and for five file budgets the
accuracy, on the test images, of the allocations that come of both. Then sweeps are killed ten times
at random moments, and what they end with is compared with the undisturbed one.

`--keep FOLDER` keeps data, the trained network and the full readings for the next time; their
seconds are those of the run that read them. `--only sweep` or `--only kills` does one part. Exits
with 1 where a target is missed.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from methods_bench import Bench
from methods_networks import opened
from msgspec import Struct

from featherweight.engine.allocation.multipliers import allocated
from featherweight.engine.allocation.problem import problem_of
from featherweight.engine.applicability import chosen_methods
from featherweight.engine.atlas.atlas import Atlas
from featherweight.engine.atlas.changes import Changes
from featherweight.engine.atlas.damage import Meter, Sums, sample_order
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import Reading, Spread, SweepPlan
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.task import Task, evaluating

NETWORK, SAMPLES, SEED = "resnet-20", 2000, 20261124
BITS, ZEROS, RANKS = (6, 5, 4, 3, 2), (0.3, 0.5, 0.7, 0.8, 0.9), (0.7, 0.5, 0.35, 0.25, 0.15)
BUDGETS = (0.25, 0.2, 0.16, 0.13, 0.1)
FASTER, WORSE = 8.0, 0.1
KILLS = 10


class Whole(Struct):
    """The damage of every setting on all samples, and the CPU-seconds that reading it took."""

    damages: dict[str, Spread]
    seconds: float


def main() -> int:
    """Print the tables; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="a folder for data and the trained network")
    parser.add_argument("--only", choices=("sweep", "kills"), help="one part of it")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        place = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = opened(NETWORK, place)
        plan = usual_plan()
        if asked.store:
            swept(bench, plan, asked.store)
            return 0
        store = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, seconds = swept(bench, plan, store / "undisturbed")
        print(f"swept in {seconds:.1f} CPU-seconds", flush=True)
        good = True
        if asked.only != "kills":
            good = compared(bench, read_whole(place / "whole.json", bench, plan), ours, seconds)
        if asked.only != "sweep":
            good = same_after_kills(bench, plan, (place, store / "killed"), ours) and good
    return 0 if good else 1


def usual_plan() -> SweepPlan:
    """Return the plan: fifteen choices a layer. Tucker takes kernels, SVD what has none."""
    ranks = [{"keep": kept, "multiple": 1} for kept in RANKS]
    return SweepPlan(
        choices=(
            *(Choice(precision=Setting("integer", {"bits": bits})) for bits in BITS),
            *(Choice(sparsity=Setting("magnitude", {"sparsity": share})) for share in ZEROS),
            *(Choice(structure=Setting("tucker", dict(options))) for options in ranks),
            *(Choice(structure=Setting("svd", dict(options))) for options in ranks),
        ),
        samples=SAMPLES,
    )


def swept(bench: Bench, plan: SweepPlan, store: Path) -> tuple[Mapping[str, Reading], float]:
    """Return the readings of a sweep by their keys, and the CPU-seconds it took."""
    coupling = analyse(bench.network)
    predictor = Predictor(bench.network, coupling)
    began = time.process_time()
    atlas = Atlas(bench.network, coupling, predictor, bench.task)
    atlas.sweep(plan, str(store), Job(), lambda _: None)
    return atlas.readings, time.process_time() - began


def compared(bench: Bench, whole: Whole, ours: Mapping[str, Reading], seconds: float) -> bool:
    """Print what both ways cost and what their allocations lose; say whether targets are met."""
    network, task = bench.network, bench.task
    rate = whole.seconds / seconds
    samples = sum(reading.samples for reading in ours.values())
    print(f"{len(ours)} settings on up to {SAMPLES} images; CPU-seconds:")
    print(f"  every setting, whole network, all images  {whole.seconds:8.1f}")
    print(f"  sweep, {samples / len(ours):6.0f} images a setting        {seconds:8.1f}")
    good = rate >= FASTER
    print(f"  {rate:.1f} times fewer, target {FASTER:g}: {'met' if good else 'MISSED'}")
    print("file budget   full readings   sweep's readings   more loss of accuracy")
    for budget in BUDGETS:
        exact, near = (
            accuracy(network, task, allocation(network, ours, damages, budget))
            for damages in (
                {key: spread.value for key, spread in whole.damages.items()},
                {key: one.damage.value for key, one in ours.items() if one.damage},
            )
        )
        met = exact - near <= WORSE + 1e-9
        good = good and met
        print(
            f"{budget:11.2f} {exact:13.2f} % {near:16.2f} % {exact - near:18.2f} points, "
            f"target {WORSE:g}: {'met' if met else 'MISSED'}",
            flush=True,
        )
    return good


def read_whole(kept: Path, bench: Bench, plan: SweepPlan) -> Whole:
    """Return what every setting loses, each on the whole network and all samples."""
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Whole)
    network, task = bench.network, bench.task
    meter, changes = Meter(task), Changes(network, analyse(network))
    order = sample_order(len(task.recovery))[:SAMPLES]
    batches = [[order[place] for place in places] for places in task.ranges(len(order))]
    damages: dict[str, Spread] = {}
    began = time.process_time()
    with evaluating(network) as run:
        sources = [run(*task.recovery.batch(batch)[0]) for batch in batches]
        for change in changes.of(plan):
            made, total = changes.made(change, task, Job()), Sums()
            for batch, source in zip(batches, sources, strict=True):
                inputs, labels = task.recovery.batch(batch)
                total = total.plus(meter.sums(source, made.outputs(*inputs), labels))
            damages[change.key] = meter.losses(total).damage
    whole = Whole(damages, time.process_time() - began)
    kept.write_bytes(msgspec.json.encode(whole))
    return whole


def allocation(
    network: Network, readings: Mapping[str, Reading], damages: Mapping[str, float], budget: float
) -> Recipe:
    """Return the recipe of least damage whose layers take a share of the network's bits."""
    layers: dict[str, list[tuple[Choice, float, float]]] = {}
    for key, reading in readings.items():
        if reading.cost is not None and key in damages:
            options = layers.setdefault(reading.layers[0], [(Choice(), 0.0, 0.0)])
            options.append((reading.choice, max(damages[key], 0.0), float(reading.cost.bits)))
    now = sum(value.nbytes * 8 for value in network.module.parameters())
    most = {name: -min(bits for _, _, bits in options) for name, options in layers.items()}
    found = allocated(
        problem_of(
            [[damage for _, damage, _ in options] for options in layers.values()],
            [[[bits + most[name]] for _, _, bits in layers[name]] for name in layers],
            [budget * now - now + sum(most.values())],
        )
    )
    if found is None:
        raise ValueError(f"nothing fits into a share of {budget}")
    taken = zip(layers.items(), found.choices, strict=True)
    return Recipe(layers={name: options[place][0] for (name, options), place in taken})


def accuracy(network: Network, task: Task, recipe: Recipe) -> float:
    """Return how many per cent of the images to measure on a compressed network gets right."""
    coupling = analyse(network)
    recipe = Recipe(layers={name: one for name, one in recipe.layers.items() if not one.empty})
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    return task.evaluate(made)["top1"].value


def same_after_kills(
    bench: Bench, plan: SweepPlan, folders: tuple[Path, Path], undisturbed: Mapping[str, Reading]
) -> bool:
    """Kill sweeps at random moments, let one end, and say whether it ends like the others."""
    place, store = folders
    chance = random.Random(SEED)
    command = [sys.executable, __file__, "--keep", str(place), "--store", str(store)]
    for kill in range(KILLS):
        lines = stored(store)
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        # Reading begins when the first line comes; before that a kill proves nothing.
        while stored(store) == lines and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 8.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"  kill {kill + 1}: {stored(store)} bytes are there", flush=True)
    ended, _ = swept(bench, plan, store)
    good = ended == undisturbed
    print(f"after {KILLS} kills the atlas is {'the same' if good else 'ANOTHER'}")
    return good


def stored(store: Path) -> int:
    """Return how many bytes of readings a store has."""
    return sum(path.stat().st_size for path in store.glob("*.jsonl"))


if __name__ == "__main__":
    sys.exit(main())
