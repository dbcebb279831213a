"""A budget from its readings to a recipe, through the session and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.engine.command_line import main
from featherweight.engine.errors import UserError
from featherweight.engine.events import Event, JobStarted, Progress, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.readings import AllocationRules, Limits, Reading, SweepPlan
from featherweight.engine.recipe import Choice, Recipe, Setting, read_recipe
from featherweight.engine.session import Session

PLAN = SweepPlan(
    choices=(
        *(Choice(precision=Setting("integer", {"bits": bits})) for bits in (8, 4, 2)),
        *(Choice(sparsity=Setting("magnitude", {"sparsity": share})) for share in (0.5, 0.8)),
        Choice(structure=Setting("channel_pruning", {"ratio": 0.5})),
    ),
    samples=64,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a small network that tells two kinds of images apart, and its data."""
    folder = tmp_path_factory.mktemp("allocating")
    torch.manual_seed(0)
    images = torch.randn(256, 1, 8, 8)
    labels = (images.mean((1, 2, 3)) > 0).long()
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU())
    net.append(nn.Flatten()).append(nn.Linear(12 * 16, 2))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    program = torch.export.export(net, (images[:2],), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, folder / "net.pt2")
    half = {"x_train": images[:128], "y_train": labels[:128], "x_test": images[128:]}
    np.savez(folder / "data.npz", **{k: v.numpy() for k, v in half.items()}, y_test=labels[128:])
    return folder / "net.pt2", folder / "data.npz"


@pytest.fixture(scope="module")
def swept(files: tuple[Path, Path]) -> tuple[Session, Path]:
    """Return a session that has read the plan, and the folder that keeps it."""
    session = Session()
    session.open(Source(path=str(files[0])))
    session.set_task(TaskSource(data=str(files[1])))
    store = files[0].parent / "store"
    told: list[Event] = []
    session.sweep(PLAN, str(store), Job(told.append), lambda _: None)
    # Combinations and whole networks are parts of the same job.
    assert sum(isinstance(event, JobStarted) for event in told) == 1
    last = [event for event in told if isinstance(event, Progress)][-1]
    assert last.step == last.steps
    return session, store


def test_that_an_allocation_keeps_its_budget_by_the_exact_prediction(
    swept: tuple[Session, Path],
) -> None:
    session, _ = swept
    for share in (3, 5, 8):
        limit = session.cost.bits / share
        found = session.allocate(Limits(bits=limit))
        assert session.predict(found.recipe).after.bits <= limit
    tighter = session.allocate(Limits(bits=limit, macs=0.6 * session.cost.macs))
    assert session.predict(tighter.recipe).after.macs <= 0.6 * session.cost.macs
    assert tighter.damage >= found.damage


def test_that_a_frontier_falls_and_its_points_can_be_had(swept: tuple[Session, Path]) -> None:
    session, _ = swept
    frontier = session.frontier("bits")
    damages = [point.damage for point in frontier.points]
    assert damages == sorted(damages, reverse=True)
    assert frontier.source == session.cost.bits
    assert frontier.basis == "measured"


def test_that_no_more_points_are_lost_than_chance_leaves(swept: tuple[Session, Path]) -> None:
    session, _ = swept
    drops = [point.drop for point in session.frontier("bits").points]
    assert all(drop is not None and drop <= 50 for drop in drops)
    ruined = Recipe(layers=dict.fromkeys(("0", "2", "5"), PLAN.choices[2]))
    loss = session.predict_loss(ruined)
    assert loss.damage > 0
    assert loss.drop is not None
    assert loss.drop.value <= 50
    assert not loss.unread


def test_that_the_file_is_within_a_limit_on_its_size(swept: tuple[Session, Path]) -> None:
    session, store = swept
    for limit in (3000, 2500):
        found = session.allocate(Limits(bytes=limit))
        run = session.compress(found.recipe, "run", str(store.parent / "runs"), Job())
        assert run.ledger.bytes == found.bytes
        assert found.bytes <= limit
    with pytest.raises(UserError, match="No choice"):
        session.allocate(Limits(bytes=100))


def test_that_the_real_network_corrects_an_allocation(swept: tuple[Session, Path]) -> None:
    session, _ = swept
    limits = Limits(bits=session.cost.bits / 8)
    first = session.allocate(limits)
    refined = session.refine_allocation(limits, AllocationRules(), Job())
    assert refined.measured
    assert session.predict(refined.recipe).after.bits <= limits.bits
    again = session.refine_allocation(limits, AllocationRules(), Job())
    assert again == refined
    small = session.refine_allocation(Limits(drop=5.0), AllocationRules(), Job(), "macs")
    assert small.cost.macs <= session.cost.macs
    assert small.drop is not None
    assert small.drop.value <= 5
    assert not first.measured


def test_that_the_layer_that_ruins_a_network_is_named(swept: tuple[Session, Path]) -> None:
    session, _ = swept
    recipe = session.allocate(Limits(bits=session.cost.bits / 3)).recipe
    ruined = recipe.with_choice("0", Choice(sparsity=Setting("magnitude", {"sparsity": 0.99})))
    guilty = session.find_guilty(ruined, Job())
    assert guilty[0].layer == "0"
    assert guilty[0].found > guilty[0].predicted


def test_that_a_second_sweep_reads_nothing_again(swept: tuple[Session, Path]) -> None:
    session, store = swept
    before = {path: path.read_bytes() for path in store.iterdir()}
    told: list[Reading] = []
    session.sweep(PLAN, str(store), Job(), told.extend)
    assert {path: path.read_bytes() for path in store.iterdir()} == before
    assert told
    assert all(reading.basis == "measured" for reading in told)


def test_that_the_command_line_writes_the_recipe_of_the_library(
    swept: tuple[Session, Path],
    files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    session, store = swept
    target = store.parent / "recipe.yaml"
    asked = [str(files[0]), "--data", str(files[1]), "--store", str(store)]
    options = ["--size", "1/5", "--exclude", "0", "--output", str(target), "--json"]
    assert main(["allocate", *asked, *options]) == 0
    told = json.loads(capsys.readouterr().out)
    most = session.cost.bits / 40
    limits = Limits(bytes=most)
    same = session.allocate(limits, AllocationRules(excluded=("0",)))
    assert read_recipe(target) == same.recipe
    assert told["bytes"] == same.bytes
    assert same.bytes is not None
    assert same.bytes <= most
    assert "0" not in same.recipe.layers
    assert told["cost"]["bits"] == same.cost.bits


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--size", "many"], "many is no amount"),
        ([], "No budget was given"),
        (["--size", "1/2", "--exclude", "nothing"], "no layer nothing"),
        (["--size", "1/2", "--method", "magic"], "no method magic"),
        (["--size", "10B"], "No choice"),
    ],
)
def test_that_a_wrong_budget_is_refused_in_one_sentence(
    swept: tuple[Session, Path],
    files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    _, store = swept
    asked = [str(files[0]), "--data", str(files[1]), "--store", str(store), *options]
    assert main(["allocate", *asked, "--output", str(store.parent / "none.yaml")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (store.parent / "none.yaml").exists()


def test_that_a_limit_on_time_needs_times_and_then_holds(
    swept: tuple[Session, Path], files: tuple[Path, Path]
) -> None:
    untimed, store = swept
    with pytest.raises(UserError, match="not timed"):
        untimed.allocate(Limits(latency=1.0))
    with pytest.raises(UserError, match="not timed"):
        untimed.frontier("latency")
    with pytest.raises(UserError, match="not timed"):
        untimed.allocate(Limits(drop=1.0), least="latency")
    session = Session()
    session.open(Source(path=str(files[0])))
    session.set_task(TaskSource(data=str(files[1])))
    timed = SweepPlan(choices=PLAN.choices[:2], samples=64, latency=True)
    session.sweep(timed, str(store / "timed"), Job(), lambda _: None)
    assert session.latency > 0
    found = session.allocate(Limits(latency=session.latency))
    assert found.latency is not None
    assert found.latency <= session.latency * 1.000001
    with pytest.raises(UserError, match="No choice"):
        session.allocate(Limits(latency=1e-9))


def test_that_without_readings_the_sweep_is_named(files: tuple[Path, Path]) -> None:
    session = Session()
    session.open(Source(path=str(files[0])))
    session.set_task(TaskSource(data=str(files[1])))
    with pytest.raises(UserError, match="Run the sweep first"):
        session.allocate(Limits(bits=1e6))
