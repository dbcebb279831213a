"""A network: a graph of real nn layers with example inputs, whatever format it came from."""

import copy
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from featherweight.engine.errors import CAPTURE_ERRORS as CAPTURE_ERRORS
from featherweight.engine.free_sizes import (
    FreeSize,
    Place,
    batch_is_free,
    free_sizes,
)
from featherweight.engine.length_trials import keeps_up, tensors_of, varying_groups
from featherweight.engine.lifting import UnliftableError, lift, output_names, place
from featherweight.engine.recurrent_shapes import whole_recurrence

# Where torch.export names the line that it could not follow.
PLACE = re.compile(r'File "(.+)", line (\d+), in (\w+)')

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Origin:
    """Where a network came from, in the words of a person: its path and its format.

    `beside` are the other files that hold weights of it.
    """

    path: str = ""
    format: str = "module"
    beside: tuple[str, ...] = ()


class Leaf(nn.Module):
    """A layer whose inner modules are parts of it and no layers of their own."""


@dataclass
class Network:
    """A network that can be looked at, changed, trained and written.

    `module` is a `torch.fx.GraphModule` whose graph calls leaf layers by dotted name, or, where
    the network could not be captured (`graph_lock` is the reason), the module as it came.
    `example` are its inputs, batch first. `parts` maps every layer of the source to the layers
    that stand in its place now: itself, or the factors that a method made of it. `free` are the
    sizes of inputs that may vary beside the batch. `output_names` are the names that the network
    gives its outputs, one each (empty where it has none for one), or nothing; `given_names` those
    by which its inputs were asked for (`Source.input_names`).
    """

    module: nn.Module
    example: Inputs
    origin: Origin = Origin()
    graph_lock: str = ""
    dynamic_batch: bool = True
    notes: tuple[str, ...] = ()
    free: tuple[FreeSize, ...] = ()
    output_names: tuple[str, ...] = ()
    given_names: tuple[str, ...] = ()
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            self.parts = {name: (name,) for name, _ in self.layers()}

    @property
    def graph(self) -> fx.Graph:
        """The graph of calls. Raises ValueError with the reason where there is none."""
        if not isinstance(self.module, fx.GraphModule):
            raise ValueError(f"the network has no graph: {self.graph_lock}")
        return self.module.graph

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Give every layer that holds parameters by dotted name, in the order of its first call."""
        if isinstance(self.module, fx.GraphModule):
            names = dict.fromkeys(
                str(node.target) for node in self.module.graph.nodes if node.op == "call_module"
            )
            found = [(name, self.module.get_submodule(name)) for name in names]
        else:
            found = _leaves(self.module)
        for name, layer in found:
            if any(True for _ in layer.parameters()) or any(True for _ in layer.buffers()):
                yield name, layer

    def layer(self, name: str) -> nn.Module:
        """Return the module at a dotted name."""
        return self.module.get_submodule(name)

    def outputs(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the network; always a tuple, one Tensor per output."""
        return tensors_of(self.module(*inputs))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        if isinstance(self.module, fx.GraphModule):
            return tuple(node.name for node in self.graph.nodes if node.op == "placeholder")
        names = [name for name in signature(self.module.forward).parameters if name.isidentifier()]
        if len(names) != len(self.example):
            names = [f"input_{position}" for position in range(len(self.example))]
        return tuple(names)

    def replace(self, name: str, layer: nn.Module) -> None:
        """Put a layer in the place of another; an `nn.Sequential` is spliced in as its parts.

        The parts of a Sequential at `fc` become the layers `fc.0`, `fc.1` … What the layer was
        called with beside its input, as a recurrent one is with states, goes to the last of them.
        """
        source = next(source for source, parts in self.parts.items() if name in parts)
        names = [name]
        if isinstance(layer, nn.Sequential):
            names = [f"{name}.{position}" for position in range(len(layer))]
        if isinstance(layer, nn.Sequential) and isinstance(self.module, fx.GraphModule):
            place(self.module, name, nn.Module())
            for part_name, part in zip(names, layer, strict=True):
                place(self.module, part_name, part)
            self._splice(name, names)
        elif isinstance(self.module, fx.GraphModule):
            place(self.module, name, layer)
        else:
            _become(self.module.get_submodule(name), layer)
        standing = self.parts[source]
        position = standing.index(name)
        self.parts[source] = (*standing[:position], *names, *standing[position + 1 :])

    def copy(self) -> "Network":
        """Return a deep copy; nothing is shared with this one."""
        module = copy.deepcopy(self.module)
        return replace(self, module=module, parts=dict(self.parts))

    def shell(self) -> "Network":
        """Return a copy with modules of its own, to hook, and the tensors of this one."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        module = copy.deepcopy(self.module, {id(tensor): tensor for tensor in tensors})
        return replace(self, module=module, parts=dict(self.parts))

    def skeleton(self) -> "Network":
        """Return a copy on the meta device: every shape, no numbers, next to no memory."""
        tensors = [*self.module.parameters(), *self.module.buffers(), *self.example]
        meta = {id(tensor): _on_meta(tensor) for tensor in tensors}
        module = copy.deepcopy(self.module, dict(meta))
        example = tuple(meta[id(tensor)] for tensor in self.example)
        return replace(self, module=module, example=example, parts=dict(self.parts))

    def _splice(self, name: str, names: list[str]) -> None:
        graph = self.graph
        for node in list(graph.nodes):
            if node.op != "call_module" or node.target != name:
                continue
            node.target = names[0]
            last, others, named = node, node.args[1:], node.kwargs
            node.args, node.kwargs = node.args[:1], {}
            for following in names[1:]:
                with graph.inserting_after(last):
                    made = graph.call_module(following)
                made.meta.update(node.meta)
                last.replace_all_uses_with(made)
                made.args = (last,)
                last = made
            last.args, last.kwargs = (*last.args, *others), named
        if isinstance(self.module, fx.GraphModule):
            self.module.recompile()


def capture(
    module: nn.Module,
    example: Inputs,
    origin: Origin | None = None,
    may_vary: Sequence[Place] | None = None,
) -> Network:
    """Capture a module as a network; one that cannot be captured opens with the reason.

    `example` are inputs, batch first. The graph works on the module's own parameters, in eval
    mode. A batch of 1 is doubled for the capture, so that the batch stays free where it can.
    Other sizes stay free where the network takes others and the graph then gives the same; with
    `may_vary` only those dimensions (position of the input, dimension) are tried.
    """
    origin = origin or Origin()
    module.eval()
    try:
        graph, batch, free, names = _captured(module, example, may_vary)
    except UnliftableError as error:
        return Network(module, example, origin, graph_lock=str(error))
    return Network(graph, example, origin, dynamic_batch=batch, free=free, output_names=names)


def fingerprint(network: Network) -> str:
    """Return a digest of every tensor of the network with its name and type."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


_Captured = tuple[fx.GraphModule, bool, tuple[FreeSize, ...], tuple[str, ...]]


def _captured(module: nn.Module, example: Inputs, may_vary: Sequence[Place] | None) -> _Captured:
    batched = all(tensor.ndim > 0 for tensor in example)
    single = batched and all(tensor.shape[0] == 1 for tensor in example)
    wide = tuple(torch.cat([tensor, tensor]) for tensor in example) if single else example
    if batched and (found := _with_free_sizes(module, wide, may_vary)):
        return found
    try:
        program = _exported(module, wide, _open(wide, batched))
        if not single or batch_is_free(program):
            return lift(program), batch_is_free(program), (), output_names(program)
    except UnliftableError:
        if not single:
            raise
    program = _exported(module, example, _open(example, False))
    return lift(program), False, (), output_names(program)


def _with_free_sizes(
    module: nn.Module, example: Inputs, may_vary: Sequence[Place] | None
) -> _Captured | None:
    """Capture with more than the batch free; None where that cannot be, or nothing varies."""
    with plain_attention(), _quiet():
        groups = varying_groups(module, example, may_vary)
    places = [place for group in groups for place in group.places]
    if not places:
        return None
    shapes = _open(example, True)
    for position, dimension in places:
        shapes[position][dimension] = Dim.AUTO
    try:
        program = _exported(module, example, shapes)
        graph, free = lift(program), free_sizes(program)
    except UnliftableError:
        return None
    with plain_attention():
        sound = batch_is_free(program) and bool(free) and keeps_up(module, graph, example, free)
    return (graph, True, free, output_names(program)) if sound else None


def _open(example: Inputs, batch: bool) -> list[dict[int, Any]]:
    return [{0: Dim.AUTO} if batch else {} for _ in example]


def _exported(module: nn.Module, example: Inputs, shapes: list[dict[int, Any]]) -> ExportedProgram:
    try:
        with torch.no_grad(), plain_attention(), whole_recurrence(), _quiet():
            return torch.export.export(module, example, dynamic_shapes=tuple(shapes), strict=False)
    except CAPTURE_ERRORS as error:
        raise UnliftableError(_reason(error)) from error


@contextmanager
def plain_attention() -> Iterator[None]:
    """Keep torch's transformer layers from one fused call that nothing can look into."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what torch.export says to programmers, on failure the whole program."""
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            # Recurrent layers keep a list of their weights beside them, which export remarks on.
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            yield
    finally:
        log.setLevel(level)


def _reason(error: Exception) -> str:
    """Say why torch.export failed, without its advice to programmers."""
    text = str(error).strip()
    if isinstance(error, GuardOnDataDependentSymNode):
        places = PLACE.findall(text)
        where = ""
        if places:
            file, line, function = places[-1]
            where = f" in {function} ({Path(file).name}:{line})"
        return f"it decides by its data which way to go{where}"
    first = next(iter(text.splitlines()), type(error).__name__)
    return f"torch.export could not follow it: {first.strip().rstrip('.')}"


def _leaves(module: nn.Module) -> list[tuple[str, nn.Module]]:
    leaves = [part for part in module.modules() if isinstance(part, Leaf)]
    inside = {id(inner) for leaf in leaves for inner in leaf.modules() if inner is not leaf}
    return [
        (name, part)
        for name, part in module.named_modules()
        if id(part) not in inside and (isinstance(part, Leaf) or not any(part.children()))
    ]


def _become(layer: nn.Module, other: nn.Module) -> None:
    """Make one layer into another where it stands.

    Code that no graph could hold may keep it under several names, in a list, or as a bound method.
    """
    object.__setattr__(layer, "__class__", other.__class__)
    object.__setattr__(layer, "__dict__", other.__dict__)


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
