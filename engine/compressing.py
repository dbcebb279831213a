"""A recipe run on the open network from start to end: its result is an archive on disk."""

import datetime
import shutil
from functools import partial
from pathlib import Path

import msgspec

from featherweight.engine.applicability import Chosen, check_trainable
from featherweight.engine.atlas.sensitivity import samples_digest
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import codings, constrain, halve_biases, passes, restructured
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.opened_network import OpenedNetwork, measures_of
from featherweight.engine.prediction import cost_of
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.preparation import prepared
from featherweight.engine.preparing.preparation import steps_of as preparing_steps
from featherweight.engine.recipe import Recipe
from featherweight.engine.reconstructing.places import Pair
from featherweight.engine.reconstructing.reconstruction import reconstruct
from featherweight.engine.reconstructing.reconstruction import steps_of as rebuilding_steps
from featherweight.engine.recovering.activations import (
    check_roundable,
    put_roundings,
    rounds,
    settle_roundings,
)
from featherweight.engine.recovering.augmenting import check_augmentation
from featherweight.engine.recovering.controls import Controls, without_compression
from featherweight.engine.recovering.fine_tuning import fine_tune, steps_of
from featherweight.engine.recovering.gradual import at_once, soften
from featherweight.engine.recovering.holding_out import check_held_out
from featherweight.engine.recovering.rate_finding import STEPS as RATE_STEPS
from featherweight.engine.recovering.rate_finding import Rates, find_rate
from featherweight.engine.recovering.starting import started
from featherweight.engine.results import Control, Result
from featherweight.engine.settled_norms import settle_norms
from featherweight.engine.weight_forms import densified, settle
from featherweight.engine.writing.archive import storable_graph, write_archive
from featherweight.engine.writing.files import make_folder

FIXED_STEPS = 4


def run_recipe(opened: OpenedNetwork, recipe: Recipe, name: str, place: Path, job: Job) -> Result:
    """Run a recipe and write the result's archive into a folder.

    The same recipe on the same network and task in the same folder goes on from its last
    checkpoint where it was cancelled or killed. Raises UserError, CancelledError.
    """
    check_trainable(opened.network, recipe)
    _check_recovery(opened.network, recipe)
    chosen, task = opened.chosen(recipe, job.check), opened.any_task()
    check_roundable(opened.network, chosen, recipe.recovery)
    identity = opened.identity(recipe)
    predicted = opened.predictor.predict(recipe, chosen).after
    make_folder(place)
    archive, checkpoints = place / f"{identity}.fwz", place / f"{identity}.checkpoint"
    storable_graph(opened.network, archive)
    training = steps_of(recipe.recovery, task) if recipe.recovery else 0
    first = at_once(chosen, recipe.recovery)
    preparing = preparing_steps(recipe.preparation, task) if recipe.preparation else 0
    rebuilding = rebuilding_steps(recipe.reconstruction, opened.network, chosen)
    beside = _controls(opened, recipe, place, checkpoints)
    job.begin(FIXED_STEPS + passes(first) + preparing + rebuilding + training + beside.steps)
    before = opened.measures(job)
    job.advance("Measuring the original")
    made, chosen = _compressed(opened, recipe, chosen, checkpoints, job)
    curve: tuple[tuple[int, float, float], ...] = ()
    controls: tuple[Control, ...] = ()
    if recipe.recovery and recipe.recovery.acts:
        top1 = before.figures.get("top1")
        # Without labels it is compared with itself.
        job.point("source", 0, top1.value / 100 if top1 else 1.0)
        if rounds(recipe.recovery):
            put_roundings(made)
        start = beside.start(made)
        curve = tuple(fine_tune(made, task, recipe.recovery, recipe.seed, checkpoints, job))
        controls = beside.run(opened.network, start, partial(_settle, recipe, chosen), job)
    _settle(recipe, chosen, made)
    quality = task.evaluate(made, job.check)
    job.advance("Measuring the result")
    ledger = write_archive(made, codings(made, chosen), archive)
    shutil.rmtree(checkpoints, ignore_errors=True)
    job.advance("Writing the archive")
    return Result(
        identity=identity,
        name=name,
        parent="",
        recipe=recipe,
        archive=archive.name,
        before=before,
        after=measures_of(quality, cost_of(densified(made)), ledger.bytes),
        predicted=predicted,
        ledger=ledger,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        curve=curve,
        controls=controls,
    )


def _check_recovery(network: Network, recipe: Recipe) -> None:
    """Raise UserError where the recovery asks for what the data or the network has not."""
    if recipe.recovery is not None and recipe.recovery.epochs:
        check_held_out(recipe.recovery)
        check_augmentation(network, recipe.recovery)


def try_rates(opened: OpenedNetwork, recipe: Recipe, job: Job) -> tuple[Rates, float]:
    """Try rising learning rates on the network as a recipe compresses it; see `find_rate`.

    It is neither prepared nor reconstructed for that, and weights that go gradually are all there.
    Raises UserError where the recipe has no recovery, CancelledError.
    """
    if recipe.recovery is None:
        raise UserError(
            "A learning rate is found for a recovery, and the recipe has none.",
            "Add a recovery to the recipe.",
        )
    settings = msgspec.structs.replace(recipe.recovery, epochs=max(1, recipe.recovery.epochs))
    recipe = msgspec.structs.replace(recipe, recovery=settings)
    check_trainable(opened.network, recipe)
    check_augmentation(opened.network, settings)
    chosen = opened.chosen(recipe, job.check)
    job.begin(1 + passes(at_once(chosen, settings)) + RATE_STEPS)
    task = opened.any_task()
    made = _changed(opened, started(opened.network, task, settings), recipe, chosen, job)
    return find_rate(made, task, settings, recipe.seed, job)


def _compressed(
    opened: OpenedNetwork, recipe: Recipe, chosen: dict[str, Chosen], checkpoints: Path, job: Job
) -> tuple[Network, dict[str, Chosen]]:
    """Prepare, compress and reconstruct; return the network and the methods carried out."""
    task = opened.any_task()
    network = started(opened.network, task, recipe.recovery)
    if recipe.preparation:
        ground = Ground(network, opened.coupling, chosen, task)
        found = prepared(ground, recipe.preparation, recipe.seed, checkpoints, job)
        network, chosen = found.network, found.chosen
        job.shift_points(preparing_steps(recipe.preparation, task))
    made = _changed(opened, network, recipe, chosen, job)
    if recipe.reconstruction:
        pair = Pair(made, network, chosen)
        reconstruct(pair, task, recipe.reconstruction, recipe.seed, checkpoints, job)
        job.shift_points(rebuilding_steps(recipe.reconstruction, network, chosen))
    return made, chosen


def _changed(
    opened: OpenedNetwork, network: Network, recipe: Recipe, chosen: dict[str, Chosen], job: Job
) -> Network:
    """Return the network as the methods make it, before anything of it is trained."""
    collect = Collector(opened.any_task(), recipe.calibration, job).collect
    made = restructured(network, opened.coupling, chosen, job.check, collect)
    constrain(made, at_once(chosen, recipe.recovery), job.check, collect)
    soften(made, chosen, recipe.recovery)
    halve_biases(made, chosen)
    job.advance("Compressing the layers")
    return made


def _settle(recipe: Recipe, chosen: dict[str, Chosen], made: Network) -> None:
    """Give a recovered network its final form, in place."""
    settle(made)
    settle_roundings(made)
    if recipe.side_bits == 16:
        settle_norms(made, chosen)


def _controls(opened: OpenedNetwork, recipe: Recipe, place: Path, checkpoints: Path) -> Controls:
    """Return what is trained beside a recovery; the dense one is kept beside the results."""
    task, recovery = opened.any_task(), recipe.recovery
    alone = without_compression(recovery) if recovery else None
    name = opened.identity(Recipe(recovery=alone, seed=recipe.seed))
    if recovery and recovery.control in ("dense", "both"):
        # A file of data may hold other samples by now.
        name += f".{samples_digest(task)[:12]}"
    return Controls(recovery, task, recipe.seed, place / f"{name}.dense.json", checkpoints)
