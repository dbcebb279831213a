"""A network: a graph of real nn layers with example inputs, whatever format it came from."""

import copy
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from featherweight.engine.lifting import UnliftableError, lift, place

# What torch.export raises where it meets code that it cannot follow.
CAPTURE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

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
    that stand in its place now: itself, or the factors that a method made of it.
    """

    module: nn.Module
    example: Inputs
    origin: Origin = Origin()
    graph_lock: str = ""
    dynamic_batch: bool = True
    notes: tuple[str, ...] = ()
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
        result = self.module(*inputs)
        return _tensors(result)

    def replace(self, name: str, layer: nn.Module) -> None:
        """Put a layer in the place of another; an `nn.Sequential` is spliced in as its parts.

        The parts of a Sequential at `fc` become the layers `fc.0`, `fc.1` …
        """
        source = next(source for source, parts in self.parts.items() if name in parts)
        names = [name]
        if isinstance(layer, nn.Sequential) and isinstance(self.module, fx.GraphModule):
            names = [f"{name}.{position}" for position in range(len(layer))]
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
            last = node
            for following in names[1:]:
                with graph.inserting_after(last):
                    made = graph.call_module(following)
                made.meta.update(node.meta)
                last.replace_all_uses_with(made)
                made.args = (last,)
                last = made
        if isinstance(self.module, fx.GraphModule):
            self.module.recompile()


def capture(module: nn.Module, example: Inputs, origin: Origin | None = None) -> Network:
    """Capture a module as a network; one that cannot be captured opens with the reason.

    `example` are inputs, batch first. The graph works on the module's own parameters, in eval
    mode. A batch of 1 is doubled for the capture, so that the batch stays free where it can.
    """
    origin = origin or Origin()
    module.eval()
    try:
        graph, free = _captured(module, example)
    except UnliftableError as error:
        return Network(module, example, origin, graph_lock=str(error))
    return Network(graph, example, origin, dynamic_batch=free)


def fingerprint(network: Network) -> str:
    """Return a digest of every tensor of the network with its name and type."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _captured(module: nn.Module, example: Inputs) -> tuple[fx.GraphModule, bool]:
    batched = all(tensor.ndim > 0 for tensor in example)
    single = batched and all(tensor.shape[0] == 1 for tensor in example)
    wide = tuple(torch.cat([tensor, tensor]) for tensor in example) if single else example
    try:
        program = _exported(module, wide, free=batched)
        if not single or _batch_is_free(program):
            return lift(program), _batch_is_free(program)
    except UnliftableError:
        if not single:
            raise
    return lift(_exported(module, example, free=False)), False


def _exported(module: nn.Module, example: Inputs, free: bool) -> ExportedProgram:
    dimensions = {0: Dim.AUTO} if free else None
    shapes = tuple(dimensions for _ in example)
    try:
        with torch.no_grad(), plain_attention(), _quiet():
            return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
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


def _batch_is_free(program: ExportedProgram) -> bool:
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    values = [node.meta["val"] for node in nodes if node.name in names]
    return any(_is_free(size) for value in values for size in value.shape[:1])


def _is_free(size: int | torch.SymInt) -> bool:
    # A size that the program turned out to need stays symbolic, with one number as its expression.
    return isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None


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


def _tensors(result: object) -> tuple[Tensor, ...]:
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, dict):
        result = tuple(result.values())
    if isinstance(result, list | tuple):
        return tuple(tensor for part in result for tensor in _tensors(part))
    return ()
