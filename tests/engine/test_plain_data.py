"""Figures, options, the ledger and the frames that carry them."""

import io
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import (
    AnyEvent,
    Cancelled,
    Event,
    Failed,
    JobStarted,
    Point,
    Progress,
    frame,
    read_frame,
)
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.jobs import Job
from featherweight.engine.ledger import Entry, Ledger
from featherweight.engine.options import build, describe, number, words


class Sample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    share: Annotated[float, number("Share", "How much goes.", 0.0, 0.9, "share")] = 0.5
    bits: Annotated[Literal[8, 4], words("Bits", "Per weight.")] = 8
    coupled: Annotated[bool, words("Coupled", "Together.")] = True


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"share": 0.95}, "field share"),
        ({"share": "much"}, "field share"),
        ({"bits": 5}, "field bits"),
        ({"coupled": 1}, "field coupled"),
        ({"sahre": 0.5}, "sahre"),
    ],
)
def test_that_wrong_options_are_refused_with_path_and_what_is_allowed(
    options: dict[str, float | str], word: str
) -> None:
    with pytest.raises(UserError) as caught:
        build(Sample, options, "layers.conv1.structure")
    assert caught.value.message.startswith("layers.conv1.structure")
    assert word in caught.value.message
    assert "share is between 0 and 0.9; bits is one of 8, 4" in caught.value.hint


def test_that_options_are_described_with_range_unit_and_default() -> None:
    share, bits, coupled = describe(Sample)
    assert (share.kind, share.minimum, share.maximum, share.unit) == ("number", 0.0, 0.9, "share")
    assert (bits.kind, bits.choices, bits.default) == ("choice", (8, 4), 8)
    assert (coupled.kind, coupled.default) == ("switch", True)


def test_that_a_rate_of_figures_is_as_uncertain_as_the_weaker_one() -> None:
    measured, estimated = Figure(10.0, "ms", "measured"), Figure(4.0, "ms", "estimated")
    assert ratio(measured, estimated) == Figure(2.5, "×", "estimated")


@given(
    st.lists(
        st.builds(
            Entry,
            layer=st.just("a"),
            tensor=st.just("w"),
            original=st.just(32),
            values=st.integers(0, 10**9),
            indices=st.integers(0, 10**9),
            tables=st.integers(0, 10**6),
        ),
        max_size=5,
    ),
    st.integers(0, 10**6),
)
def test_that_a_ledger_adds_up_every_kind_of_bit(entries: list[Entry], container: int) -> None:
    ledger = Ledger(entries=tuple(entries), container=container)
    kinds = sum(entry.values + entry.indices + entry.tables for entry in entries)
    assert ledger.bits == kinds + container
    assert ledger.of_layer("a") == kinds
    assert (ledger.bytes - 1) * 8 < ledger.bits <= ledger.bytes * 8


@given(st.integers(0, 2**40), st.text(max_size=50))
def test_that_an_event_survives_its_frame(identity: int, message: str) -> None:
    sent = Failed(id=identity, message=message)
    stream = io.BytesIO(frame(sent) + frame(Cancelled(id=1, step=2)))
    decoder = msgspec.msgpack.Decoder(AnyEvent)
    bodies = [read_frame(stream), read_frame(stream)]
    assert [decoder.decode(body) for body in bodies if body] == [sent, Cancelled(id=1, step=2)]
    assert read_frame(stream) is None


def test_that_a_frame_cut_short_ends_the_stream() -> None:
    assert read_frame(io.BytesIO(frame(Cancelled(step=1))[:-1])) is None


def test_that_a_frame_of_absurd_size_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="larger than any message"):
        read_frame(io.BytesIO(b"\xff\xff\xff\xff"))


def test_that_a_job_tells_its_first_and_last_step_and_its_points() -> None:
    events: list[Event] = []
    job = Job(events.append, id=7)
    job.begin(3)
    for _ in range(3):
        job.advance("Counting")
    job.point("loss", 3, 0.5)
    progress = [event for event in events if isinstance(event, Progress)]
    assert events[0] == JobStarted(id=7, steps=3)
    assert (progress[0].step, progress[-1].step) == (1, 3)
    assert events[-1] == Point(id=7, series="loss", step=3, value=0.5)


def test_that_a_cancelled_job_stops_at_its_next_step() -> None:
    job = Job()
    job.begin(2)
    job.advance("Counting")
    job.cancel()
    with pytest.raises(CancelledError):
        job.advance("Counting")
    assert job.step == 1
