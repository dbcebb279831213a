"""The learning-rate finder: rising rates, a curve, and the rate that it speaks for."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, JobStarted, Progress
from featherweight.engine.jobs import Job
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.rate_finding import suggested
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning

RECOVERY = FineTuning(epochs=2, batch_size=16)
CHOICES = {"1": Choice(sparsity=Setting("magnitude", {"sparsity": 0.8}))}


@pytest.fixture
def session(marked_session: Session) -> Session:
    return marked_session


def test_that_rates_rise_and_the_found_one_trains_better_than_far_lower_and_higher_ones(
    session: Session, tmp_path: Path
) -> None:
    points, found = session.find_learning_rate(Recipe(layers=CHOICES, recovery=RECOVERY), Job())
    rates = [rate for rate, _ in points]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-6)
    assert rates[0] < found < rates[-1]
    reached = []
    for rate in (found / 300, found, 10.0):
        recovery = FineTuning(epochs=2, batch_size=16, learning_rate=rate, schedule="constant")
        recipe = Recipe(layers=CHOICES, recovery=recovery)
        try:
            result = session.compress(recipe, "one", str(tmp_path / f"{rate}"), Job())
        except UserError:
            reached.append(math.inf)
        else:
            reached.append(result.curve[-1][1])
    assert reached[1] < 0.9 * reached[0]
    assert reached[1] < reached[2]


def test_that_the_same_question_has_the_same_answer_and_leaves_the_network_alone(
    session: Session,
) -> None:
    recipe = Recipe(layers=CHOICES, recovery=RECOVERY)
    before = session.details("1")
    first = session.find_learning_rate(recipe, Job())
    assert session.find_learning_rate(recipe, Job()) == first
    assert session.details("1") == before


def test_that_every_step_is_counted_whether_the_loss_rose_too_much_or_not(session: Session) -> None:
    events: list[Event] = []
    session.find_learning_rate(Recipe(layers=CHOICES, recovery=RECOVERY), Job(events.append))
    (started,) = (event for event in events if isinstance(event, JobStarted))
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.step == last.steps == started.steps


def test_that_it_is_cancelled_at_once(session: Session) -> None:
    job = Job(lambda event: job.cancel() if isinstance(event, Progress) else None)
    with pytest.raises(CancelledError):
        session.find_learning_rate(Recipe(layers=CHOICES, recovery=RECOVERY), job)


def test_that_a_recipe_without_a_recovery_is_told(session: Session) -> None:
    with pytest.raises(UserError, match="the recipe has none"):
        session.find_learning_rate(Recipe(layers=CHOICES), Job())


@settings(max_examples=60, deadline=None)
@given(
    best=st.floats(-3.5, -0.5),
    depth=st.floats(0.1, 0.9),
    start=st.floats(1e-3, 1e3),
    noise=st.floats(0, 0.01),
    seed=st.integers(0, 1000),
)
def test_that_the_steepest_fall_is_found_in_noise(
    best: float, depth: float, start: float, noise: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    decades = np.linspace(-6, 0, 100)
    falls = start * (1 - depth / (1 + np.exp(-4 * (decades - best))))
    losses = falls * (1 + noise * depth * random.normal(size=100))
    found = suggested(list(zip((10.0**decades).tolist(), losses.tolist(), strict=True)))
    assert abs(math.log10(found) - best) < 0.7


@given(harm=st.floats(-5, -0.2), start=st.floats(1e-6, 1e3))
def test_that_without_a_fall_it_stays_a_decade_below_harm(harm: float, start: float) -> None:
    decades = np.linspace(-6, 0, 100)
    losses = start * np.where(decades < harm, 1.0, 3.0)
    found = suggested(list(zip((10.0**decades).tolist(), losses.tolist(), strict=True)))
    assert harm - 1.6 < math.log10(found) < harm - 1
