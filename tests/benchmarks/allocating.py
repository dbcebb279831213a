"""What an allocation is worth: against peers' ways at three file sizes, and its predictions.

Run it with `python tests/benchmarks/allocating.py [--keep FOLDER] [--recipes N] [--images N]`, for
25 minutes. A ResNet-20 trained on Fashion-MNIST is read by a sweep; nothing is trained again.
It exits with 1 where a target is missed:

- at 1/4, 1/8 and 1/16 of the file, ours is at least as accurate as one strength everywhere, as the
  greedy rule of AIMET (one score for all layers, found by halving) and as the best single family
  allocated, and better by a point in six of the nine;
- over 200 random recipes of all slots, Spearman of summed damage with the drop is 0.95, 0.85 among
  drops under two points, and the mean error of the predicted drop 0.3 points.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from methods_bench import Bench, Trial
from methods_data import FASHION
from methods_networks import opened
from scipy.stats import spearmanr

from featherweight.engine.allocating.candidates import Option
from featherweight.engine.allocating.comparing import Comparison
from featherweight.engine.allocating.planner import Planner
from featherweight.engine.allocating.true_networks import refined, tried_out
from featherweight.engine.atlas.atlas import Atlas
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.jobs import Job
from featherweight.engine.options import Slot
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import AllocationRules, Limits, SweepPlan
from featherweight.engine.recipe import Choice, Recipe, Setting

SHARES = (4, 8, 16)
FAMILIES = ("integer", "codebook", "magnitude", "svd", "tucker")
RULES = AllocationRules()
GRID: tuple[tuple[Slot, str, str, tuple[float, ...]], ...] = (
    ("precision", "integer", "bits", (8, 6, 5, 4, 3, 2)),
    ("precision", "codebook", "clusters", (32, 16, 8, 4)),
    ("sparsity", "magnitude", "sparsity", (0.3, 0.5, 0.65, 0.8, 0.9)),
    ("structure", "tucker", "keep", (0.75, 0.5, 0.25)),
    ("structure", "channel_pruning", "ratio", (0.125, 0.25, 0.5)),
)


class Field:
    """The network with its readings, its allocator, and what compares whole networks."""

    def __init__(self, bench: Bench, store: Path) -> None:
        self.bench = bench
        network, task = bench.network, bench.task
        self.coupling = analyse(network)
        self.predictor = Predictor(network, self.coupling)
        atlas = Atlas(network, self.coupling, self.predictor, task)
        choices = tuple(
            Choice().replaced(slot, Setting(method, {option: strength}))
            for slot, method, option, strengths in GRID
            for strength in strengths
        )
        atlas.sweep(SweepPlan(choices=choices, samples=2000), str(store), Job(), lambda _: None)
        self.readings = tuple(atlas.readings.values())
        self.planner = Planner(network, self.coupling, self.predictor, survey(network).layers)
        self.chooses = Comparison(network, self.coupling, task, task.recovery, 1024)
        self.judges = Comparison(network, self.coupling, task, task.measure, 2000)
        plain = self.planner.allocator(self.readings, (), "top1")
        tried = tried_out(plain, lambda recipe: self.judges.truth(recipe, Job()), Job())
        self.allocator = self.planner.allocator(self.readings, tried, "top1")

    def options(self) -> dict[str, tuple[Option, ...]]:
        """Return the options of every layer."""
        return self.allocator.options


def main() -> int:
    """Print both tables; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder for the network and its readings")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder of Fashion-MNIST")
    parser.add_argument("--recipes", type=int, default=200, help="random recipes")
    parser.add_argument("--images", type=int, default=5000, help="images that judge them")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    with ExitStack() as stack:
        place = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        field = Field(opened("resnet-20", place, asked.fashion), place / "atlas")
        missed = versus(field) + predictions(field, asked.recipes, asked.images)
    print(f"{missed} targets missed" if missed else "all targets met")
    return 1 if missed else 0


def versus(field: Field) -> int:
    """Print accuracies at three sizes; return how many targets are missed."""
    source = Path(field.bench.network.origin.path).stat().st_size
    empty = field.bench.compress(Trial())
    container = empty.after.figures["bytes"].value - field.predictor.before.bits / 8
    print(f"{'file':>6}{'way':>12}{'bytes':>10}{'top-1':>8}{'ours leads by':>15}")
    least, leads = 0.0, []
    for share in SHARES:
        limit = 8 * (source / share - container)
        found = {way: accuracy(field, make(field, limit)) for way, make in WAYS.items()}
        ours = found["ours"][1]
        for way, (size, top1) in found.items():
            lead = "" if way == "ours" else f"{ours - top1:+.2f}"
            print(f"{'1/' + str(share):>6}{way:>12}{size:10,.0f}{top1:8.2f}{lead:>15}", flush=True)
            if size > source / share:
                print(f"       {way} is over {source / share:,.0f} bytes")
                least = -1.0
        leads += [ours - top1 for way, (_, top1) in found.items() if way != "ours"]
    wide = sum(lead >= 1 for lead in leads)
    print(f"smallest lead {min(leads):+.2f} (target 0), a point or more in {wide} of 9 (target 6)")
    return (min(*leads, least) < 0) + (wide < 6)


def accuracy(field: Field, recipe: Recipe) -> tuple[float, float]:
    """Return the bytes of the archive that a recipe gives, and its top-1 on all test images."""
    figures = field.bench.compress(Trial(recipe.layers, calibration=recipe.calibration)).after
    return figures.figures["bytes"].value, figures.figures["top1"].value


def ours(field: Field, limit: float) -> Recipe:
    """Return the allocation, corrected by the real network."""
    return refined(
        field.allocator,
        lambda allocator: allocator.allocate(Limits(bits=limit), RULES),
        lambda recipe: field.chooses.truth(recipe, Job()),
        Job(),
    ).recipe


def uniform(field: Field, limit: float) -> Recipe:
    """Return the least lossy recipe of one choice for all layers that can take it."""
    return min(everywhere(field, limit), key=lambda told: told[0])[1]


def everywhere(field: Field, limit: float) -> Iterator[tuple[float, Recipe]]:
    """Give recipes of one strength everywhere within the limit, with what their layers lose."""
    options = field.options()
    kinds = {_shape(each.choice): each.choice for own in options.values() for each in own}
    for kind in kinds:
        picked = {
            name: next((each for each in own if _shape(each.choice) == kind), own[0])
            for name, own in options.items()
        }
        if _bits(field, picked) <= limit:
            yield sum(each.damage for each in picked.values()), _recipe(picked)


def greedy(field: Field, limit: float) -> Recipe:
    """Return what one score for all layers gives: each takes its smallest option above it.

    Scores are falls of the metric, as AIMET reads them; the score is found by halving.
    """
    falls = {(r.layers, _shape(r.choice)): r.metric.value for r in field.readings if r.metric}
    low, high = 0.0, 100.0
    best: dict[str, Option] = {}
    for _ in range(30):
        middle = (low + high) / 2
        picked = {
            name: min(
                (each for each in own if _fall(name, each, falls) <= middle),
                key=lambda each: each.cost.bits,
            )
            for name, own in field.options().items()
        }
        if _bits(field, picked) <= limit:
            best, high = picked, middle
        else:
            low = middle
    return _recipe(best)


def single(field: Field, limit: float) -> Recipe:
    """Return the best family of methods allocated by itself."""
    found = []
    for family in FAMILIES:
        rules = AllocationRules(methods=(family,))
        bits = min(point.budget for point in field.allocator.frontier("bits", rules).points)
        if bits <= limit:
            found.append(field.allocator.allocate(Limits(bits=limit), rules))
    return min(found, key=lambda allocation: allocation.damage).recipe


WAYS: dict[str, Callable[[Field, float], Recipe]] = {
    "ours": ours,
    "uniform": uniform,
    "greedy": greedy,
    "one family": single,
}


def predictions(field: Field, recipes: int, images: int) -> int:
    """Print how predictions of random recipes hold; return how many targets are missed."""
    task = field.bench.task
    judge = Comparison(field.bench.network, field.coupling, task, task.measure, images)
    damages, predicted, drops = [], [], []
    chance = random.Random(0)
    for _ in range(recipes):
        recipe = mixed(field, chance)
        damage = field.allocator.damage_in_all(field.allocator.parts_of(recipe))
        fall = field.allocator.drop_at(damage)
        damages.append(damage)
        predicted.append(fall.value if fall else float("nan"))
        drops.append(judge.truth(recipe, Job()).drop.value)
    actual, told = np.asarray(drops), np.asarray(predicted)
    small = actual < 2
    whole = float(spearmanr(damages, actual).statistic)
    mild = float(spearmanr(np.asarray(damages)[small], actual[small]).statistic)
    off = float(np.abs(told - actual).mean())
    off_mild = float(np.abs(told - actual)[small].mean())
    print(
        f"{recipes} random recipes on {images} images, drops {actual.min():.2f} to "
        f"{actual.max():.2f}, {small.sum()} of them under 2"
    )
    print(f"Spearman of damage and drop {whole:.3f} (target 0.95)")
    print(f"the same under two points {mild:.3f} (target 0.85)")
    print(
        f"mean error of the predicted drop {off:.2f} points (target 0.3), under two {off_mild:.2f}"
    )
    return (whole < 0.95) + (mild < 0.85) + (off > 0.3)


def mixed(field: Field, chance: random.Random) -> Recipe:
    """Return a recipe that takes for every layer one of its options, milder or stronger in all."""
    most = 10 ** chance.uniform(-4.5, -1.3)
    picked = {
        name: chance.choice([each for each in own if each.damage <= most])
        for name, own in field.options().items()
    }
    return _recipe(picked)


def _recipe(picked: dict[str, Option]) -> Recipe:
    recipe = Recipe()
    for name, option in picked.items():
        recipe = recipe.with_choice(name, option.choice)
    return recipe


def _bits(field: Field, picked: dict[str, Option]) -> float:
    options = field.options()
    saved = sum(options[name][0].cost.bits - each.cost.bits for name, each in picked.items())
    return field.predictor.before.bits - saved


def _shape(choice: Choice) -> bytes:
    return repr(choice.replaced("coding", None)).encode()


def _fall(name: str, option: Option, falls: dict[tuple[tuple[str, ...], bytes], float]) -> float:
    """Return the fall of the metric that an option was read to give, of several slots the sum."""
    total = 0.0
    slots: tuple[Slot, ...] = ("structure", "sparsity", "precision")
    for slot in slots:
        if (setting := option.choice.setting(slot)) is not None:
            total += falls.get(((name,), _shape(Choice().replaced(slot, setting))), 0.0)
    return total


if __name__ == "__main__":
    sys.exit(main())
