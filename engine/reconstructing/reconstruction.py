"""Layers of a compressed network trained one after the other to give the original's outputs.

Asymmetric: Zhang, Zou, He, Sun: Accelerating Very Deep Convolutional Networks (2016, arXiv
1505.06798, 3.3). What flows into a layer is what the compressed network gives, what is wanted is
what the original gives.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor, fx, nn
from torch.optim import AdamW

from featherweight.engine.applicability import Chosen
from featherweight.engine.datasets.samples import shuffled
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import stored_weights
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.network import Network, fingerprint
from featherweight.engine.reconstructing.feeding import Feed
from featherweight.engine.reconstructing.pieces import calls, downstream, entrances, piece
from featherweight.engine.reconstructing.places import Pair, first_tensor
from featherweight.engine.recovering.batches import Batches, batch_size
from featherweight.engine.recovering.checkpoint import (
    Progressed,
    load_checkpoint,
    save_checkpoint,
)
from featherweight.engine.recovering.measuring import charted
from featherweight.engine.recovering.optimizing import cosine, set_rate
from featherweight.engine.recovering.soundness import sound
from featherweight.engine.task import Task
from featherweight.engine.trainings import Reconstruction

FILE = "reconstruction.safetensors"


def reconstruct(
    pair: Pair, task: Task, settings: Reconstruction, seed: int, folder: Path | None, job: Job
) -> None:
    """Train the changed layers of the pair's compressed network, in place; no labels are needed.

    One after the other in the order of the graph: with `changed` each learns to give what the
    original gives in its place, with `following` the layers that read it do so in theirs, with
    `both` all of them learn what the following ones should give. Where shapes differ, for channels
    went, the next layers after it are compared; what nothing can be compared for stays as it is.
    The loss is the relative squared error, the optimizer AdamW. A layer that got no nearer keeps
    the weights it had. Batch norms keep their statistics, and forms their masks, grids and tables.
    Layers whose sparsity is to come gradually in the recovery still compute what the original's
    do: the others train, and if there are none that is an error.

    The same pair, task, settings and seed give the same weights, bit for bit, also where the run
    was cancelled and goes on from the last layer's checkpoint in `folder`. Advances `job` by
    `steps_of` steps, sends points `loss` of batches.
    Raises CancelledError, and UserError where nothing can be compared, the loss is no number any
    more or a checkpoint cannot be written.
    """
    _Reconstruction(pair, task, settings, seed, job).run(folder)


def steps_of(
    settings: Reconstruction | None, network: Network, chosen: Mapping[str, Chosen]
) -> int:
    """Return how many steps there are at most; where channels go, other layers change too."""
    if settings is None:
        return 0
    spreads = any(isinstance(methods.structure, ChannelPruning) for methods in chosen.values())
    layers = [name for name, layer in network.layers() if stored_weights(layer)]
    return settings.steps * len(layers if spreads else chosen)


class _Reconstruction:
    def __init__(
        self, pair: Pair, task: Task, settings: Reconstruction, seed: int, job: Job
    ) -> None:
        self.pair, self.task, self.settings = pair, task, settings
        self.seed, self.job = seed, job
        self.stages = pair.stages(settings.trains)
        count = min(settings.samples, len(task.recovery))
        order = shuffled(len(task.recovery), seed)[:count]
        size = batch_size(min(settings.batch_size, count), task)
        # A batch is always of the same samples: what flows in need not have them along an axis.
        each = Batches(count, size, seed)
        self.batches = [
            [order[position] for position in each.indices(number)] for number in range(each.steps)
        ]
        self.progressed = Progressed()

    def run(self, folder: Path | None) -> None:
        module = self.pair.network.module
        path = folder / FILE if folder else None
        flags = [(value, value.requires_grad) for value in module.parameters()]
        module.eval()
        try:
            with evaluating(self.pair.original.module):
                name = self._fingerprint() if path else ""
                self._resume(path, name)
                for number in range(self.progressed.step, len(self.stages)):
                    self._train(number)
                    self.progressed.step = number + 1
                    if path:
                        save_checkpoint(path, name, self.progressed, module)
        finally:
            for value, flag in flags:
                value.requires_grad_(flag)
        if not self.progressed.curve:
            raise UserError(
                "No layer that was changed can be compared with the original's.",
                "Take the reconstruction out of the recipe, or train other layers in it.",
            )
        told = steps_of(self.settings, self.pair.original, self.pair.chosen)
        self.job.advance("Reconstructing", max(0, told - len(self.stages) * self.settings.steps))

    def _resume(self, path: Path | None, name: str) -> None:
        found = load_checkpoint(path, name, self.pair.network.module) if path else None
        if found is not None:
            self.progressed = found
            self.job.advance("Reconstructing, going on", found.step * self.settings.steps)

    def _train(self, number: int) -> None:
        stage, module = self.stages[number], self.pair.network.module
        assert isinstance(module, fx.GraphModule)
        parts = {part for name in stage.trained for part in self.pair.network.parts[name]}
        weights = self._weights(parts)
        given = entrances(stage.made, downstream(calls(module.graph, parts)))
        inner = piece(module, given, stage.made)
        feed = Feed(self.pair, stage, given, self.task, self.batches)
        feed.prepare(self.job.check)
        with torch.enable_grad():
            learns = bool(weights) and self._loss(inner, feed, 0).requires_grad
        if not learns:
            self.job.advance(f"Passing over {stage.layer}", self.settings.steps)
            return
        before, start = self._error(inner, feed), [value.detach().clone() for value in weights]
        self._optimize(number, inner, feed, weights)
        after = self._error(inner, feed)
        self.progressed.curve.append((number, before, after))
        if not after < before:
            with torch.no_grad():
                for value, old in zip(weights, start, strict=True):
                    value.copy_(old)

    def _optimize(
        self, number: int, inner: nn.Module, feed: Feed, weights: list[nn.Parameter]
    ) -> None:
        steps, layer = self.settings.steps, self.stages[number].layer
        optimizer = AdamW(weights, lr=self.settings.learning_rate, weight_decay=0.0)
        order = Batches(len(self.batches), 1, self.seed + number)
        for step in range(steps):
            at = number * steps + step
            torch.manual_seed(self.seed + at)
            with torch.enable_grad():
                loss = self._loss(inner, feed, order.indices(step)[0])
                rate = self.settings.learning_rate
                value = sound(loss, step, rate, f"reconstruction of layer {layer}")
                optimizer.zero_grad()
                torch.autograd.backward(loss)
            set_rate(optimizer, rate * cosine(step, steps))
            optimizer.step()
            if charted(at, len(self.stages) * steps):
                self.job.point("loss", at + 1, value)
            self.job.advance(f"Reconstructing {layer}")

    def _weights(self, parts: set[str]) -> list[nn.Parameter]:
        """Let nothing but these layers train; return what trains."""
        for value in self.pair.network.module.parameters():
            value.requires_grad_(False)
        layers = [self.pair.network.layer(part) for part in sorted(parts)]
        weights = [value for layer in layers for value in layer.parameters()]
        trained = [value for value in dict.fromkeys(weights) if value.is_floating_point()]
        for value in trained:
            value.requires_grad_()
        return trained

    def _loss(self, inner: nn.Module, feed: Feed, number: int) -> Tensor:
        """Return the mean relative squared error of the places on a batch."""
        given, wanted = feed.batch(number)
        made = [first_tensor(value) for value in inner(*given)]
        errors = [
            (own - target).square().sum() / target.square().sum().clamp_min(1e-12)
            for own, target in zip(made, wanted, strict=True)
        ]
        return torch.stack(errors).mean()

    @torch.no_grad()
    def _error(self, inner: nn.Module, feed: Feed) -> float:
        total = 0.0
        for number in range(len(self.batches)):
            self.job.check()
            total += float(self._loss(inner, feed, number))
        return total

    def _fingerprint(self) -> str:
        """Return what tells this run from any other: settings, weights, outputs, data."""
        source = self.task.source
        digest = hashlib.sha256(msgspec.json.encode((self.settings, self.seed, source)))
        digest.update(fingerprint(self.pair.network).encode())
        digest.update(fingerprint(self.pair.original).encode())
        inputs, _ = self.task.recovery.batch(self.batches[0])
        # A grid is no weight, and two grids may start from the same weights.
        with torch.no_grad():
            for output in self.pair.network.outputs(*inputs):
                digest.update(output.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
