"""What is the same for every reading of a network on a task: the source, the samples, the changes.

Changed networks are kept while they are small, so that each is made once.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from featherweight.engine.atlas.changes import Change, Changes
from featherweight.engine.atlas.damage import Meter, Sums, sample_order
from featherweight.engine.atlas.replay import Replay, Tail
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.network import Inputs, Network
from featherweight.engine.task import Outputs, Task

MOST_SAMPLES = 256
LIVE_BYTES, KEPT_BYTES = 1 << 28, 1 << 29
# What a copied module, or a node of a copied graph, takes beside its tensors, about.
OBJECT_BYTES = 1 << 12


class Ground:
    """Reads what changes do on the samples of a task, many changes in one run of the source."""

    def __init__(self, changes: Changes, task: Task) -> None:
        self.changes, self.task, self.meter = changes, task, Meter(task)
        # Hooks and modes of its own: questions are asked of the network at the same time.
        self.source = changes.network.shell()
        self.source.module.eval()
        self.replay = Replay(self.source)
        self.order = sample_order(len(task.recovery))
        self._sources = {id(value) for value in _held(self.source)}
        self._kept: dict[str, Tail] = {}
        self._kept_bytes = 0
        self._live: int | None = None

    @property
    def live_bytes(self) -> int:
        """How many bytes of activations of one sample are alive at most; measured by one run."""
        if self._live is None:
            with torch.no_grad():
                sizes = self.replay.sizes(self.task.reference.example)
            self._live = max(sizes, default=0) // len(self.task.reference.example[0])
        return self._live

    @property
    def chunk(self) -> int:
        """How many samples are read at once."""
        if self.task.fixed_batch:
            return self.task.fixed_batch
        # The source's values and those of the changed network are alive at the same time.
        most = min(MOST_SAMPLES, LIVE_BYTES // max(2 * self.live_bytes, 1))
        bearable = len(next(iter(self.task.ranges(len(self.order), max(most, 1))), [0]))
        return 1 << (bearable.bit_length() - 1)

    def read(
        self, places: range, wanted: Sequence[Change], job: Job
    ) -> Iterator[tuple[Change, Sums | str]]:
        """Give for each change its sums over samples of the order, or why there are none.

        Raises CancelledError, and UserError where a sample cannot be read or the source itself
        gives numbers that are not finite.
        """
        batches = [places[at : at + self.chunk] for at in range(0, len(places), self.chunk)]
        total: dict[Change, Sums] = {}
        failed: set[Change] = set()
        for batch in batches:
            left = [change for change in wanted if change not in failed]
            for change, found in self._read(batch, left, job):
                if isinstance(found, str):
                    failed.add(change)
                    yield change, found
                    continue
                total[change] = total.get(change, Sums()).plus(found)
                if batch is batches[-1]:
                    yield change, total[change]

    def _read(
        self, batch: range, wanted: Sequence[Change], job: Job
    ) -> Iterator[tuple[Change, Sums | str]]:
        indices = [self.order[place] for place in batch]
        inputs, labels = self._batch(indices)
        given, source = self._source_outputs(inputs)
        at: dict[int, list[Change]] = {}
        for change in wanted:
            at.setdefault(self.replay.position(change.layers), []).append(change)
        for place, values in self.replay.walk(given, at):
            for change in at[place]:
                job.check()
                try:
                    tail = self._tail(change, place, job)
                except UserError as error:
                    yield change, str(error)
                    continue
                with torch.no_grad():
                    made = tail.outputs(given, values)
                outputs = tuple(output[: len(indices)] for output in made)
                yield change, self.meter.sums(source, outputs, labels)

    def made(self, change: Change, job: Job) -> Network:
        """Return a changed network. Raises UserError where it cannot be, CancelledError."""
        return self._tail(change, self.replay.position(change.layers), job).network

    def forget(self, changes: Iterable[Change]) -> None:
        """Let go of changed networks that are read no more."""
        for change in changes:
            if tail := self._kept.pop(change.key, None):
                self._kept_bytes -= self._bytes(tail.network)

    def _tail(self, change: Change, place: int, job: Job) -> Tail:
        key = change.key
        if key in self._kept:
            return self._kept[key]
        made = self.changes.made(change, self.task, job)
        tail = self.replay.tail(made, place)
        size = self._bytes(made)
        if self._kept_bytes + size <= KEPT_BYTES:
            self._kept[key] = tail
            self._kept_bytes += size
        return tail

    def _bytes(self, made: Network) -> int:
        own = sum(value.nbytes for value in _held(made) if id(value) not in self._sources)
        objects = sum(1 for _ in made.module.modules()) + self.replay.end
        return own + objects * OBJECT_BYTES

    def _batch(self, indices: Sequence[int]) -> tuple[Inputs, Tensor | None]:
        if self.task.kind == "classification":
            inputs, (labels,) = self.task.batch(self.task.recovery, indices)
            return inputs, labels
        return self.task.recovery.batch(indices)[0], None

    def _source_outputs(self, inputs: Inputs) -> tuple[Inputs, Outputs]:
        """Return the inputs as the network takes them, a fixed batch filled up, and its outputs."""
        given: list[Inputs] = []

        def run(*filled: Tensor) -> Outputs:
            given.append(filled)
            return self.source.outputs(*filled)

        with torch.no_grad():
            outputs = self.task.outputs_of(run, inputs)
        if not all(bool(output.isfinite().all()) for output in outputs):
            raise UserError(
                "The original network gives numbers that are not finite on this data.",
                "Look for weights or samples that are not finite or very large.",
            )
        return given[0], outputs


def _held(network: Network) -> Iterator[Tensor]:
    yield from network.module.parameters()
    yield from network.module.buffers()
