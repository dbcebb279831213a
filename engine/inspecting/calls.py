"""One run of a network, with every call of every layer noted: shapes and multiply-accumulates."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from featherweight.engine.inspecting.operations import (
    OperationCounter,
    has_formula,
    layer_macs,
)
from featherweight.engine.network import Inputs, Network, plain_attention
from featherweight.engine.opaque_network import OpaqueNetwork
from featherweight.engine.weight_forms import CompactLayer

FUNCTIONS = "(functions)"
# What torch raises where a computation needs numbers and fake tensors have none.
_NEEDS_NUMBERS = (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclass
class Calls:
    """What was seen of one layer, or of the functions that one module calls beside its layers.

    Shapes are of the first call, whole tensors; `macs` and `elements` (of results) are summed over
    all calls and all samples. `products` counts the products of functions by kind, `uncounted` the
    calls of operations that nobody could count. A layer is `hidden` where its calls cannot be seen.
    """

    count: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    macs: int = 0
    elements: int = 0
    products: dict[str, int] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    hidden: bool = False


@dataclass(frozen=True)
class Run:
    """All calls of a run by name of layer in order of first call, and the shapes of the outputs.

    What no layer computes stands under `a.b.(functions)`, where `a.b` is the module that called.
    """

    calls: dict[str, Calls]
    output_shapes: tuple[tuple[int, ...], ...]


def run_of(network: Network) -> Run:
    """Run a network once on its example, on tensors without numbers where that can be done.

    Layers on the meta device take part; then no run on real numbers is possible, and what torch
    raises comes through where fake tensors fail. Weights in other forms are decoded for real.
    """
    layers = {name for name, _ in network.layers()}
    decodes = any(isinstance(part, CompactLayer) for part in network.module.modules())
    on_meta = any(parameter.is_meta for parameter in network.module.parameters())
    with torch.no_grad(), evaluating(network.module), plain_attention():
        # Decoding may read memory, which a fake tensor has none of.
        if isinstance(network.module, fx.GraphModule) and not decodes:
            try:
                return _fake_run(network.module, network.example, layers)
            except _NEEDS_NUMBERS:
                if on_meta:
                    raise
        return _real_run(network, layers)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode for a while; each part goes back to the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def functions_of(path: str) -> str:
    """Return the name under which the functions of a module stand."""
    return f"{path}.{FUNCTIONS}" if path else FUNCTIONS


def _fake_run(module: fx.GraphModule, example: Inputs, layers: set[str]) -> Run:
    watcher = _Watcher(module, layers)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, watcher:
        inputs = [_stand_in(t) if t.is_meta else mode.from_tensor(t) for t in example]
        result = _Tracer(module, watcher).run(*inputs)
    return watcher.seen(result)


def _real_run(network: Network, layers: set[str]) -> Run:
    watcher = _Watcher(network.module, layers)
    with watcher:
        if isinstance(network.module, fx.GraphModule):
            result = _Tracer(network.module, watcher).run(*network.example)
        else:
            result = network.module(*network.example)
    return watcher.seen(result)


class _Watcher:
    """Hooks on all modules that tell the counter whose operations it sees."""

    def __init__(self, module: nn.Module, layers: set[str]) -> None:
        self.module = module
        self.layers = layers
        self.calls: dict[str, Calls] = {}
        self.counter = OperationCounter(getattr(module, "owners", dict))
        self._places: list[str] = []
        self._exits = ExitStack()

    def __enter__(self) -> "_Watcher":
        for name, module in self.module.named_modules():
            before = module.register_forward_pre_hook(self._entering(name))
            after = module.register_forward_hook(self._leaving(name), with_kwargs=True)
            self._exits.callback(before.remove)
            self._exits.callback(after.remove)
        self.place("")
        self._exits.enter_context(self.counter)
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def place(self, path: str) -> None:
        """Say which module calls what is called next."""
        self.counter.place = path if path in self.layers else functions_of(path)

    def seen(self, result: Any) -> Run:
        for name, macs in self.counter.macs.items():
            calls = self.calls.setdefault(name, Calls())
            calls.macs += macs
            if not calls.count:
                calls.elements += self.counter.elements[name]
        for (name, kind), count in self.counter.products.items():
            self.calls[name].products[kind] = count
        for (name, operation), count in self.counter.uncounted.items():
            self.calls.setdefault(name, Calls()).uncounted[operation] = count
        if isinstance(self.module, OpaqueNetwork):
            names = [name for name, _ in self.module.named_modules() if name in self.layers]
            self.calls = {name: Calls(hidden=True) for name in names}
            self.calls[FUNCTIONS] = Calls(uncounted={self.module.uncounted: 1})
        return Run(self.calls, tuple(tuple(tensor.shape) for tensor in _tensors(result)))

    def _entering(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, _: Any) -> None:
            self._places.append(self.counter.place)
            self.place(name)
            if name in self.layers:
                self.calls.setdefault(name, Calls())
                self.counter.paused = has_formula(module)

        return enter

    def _leaving(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, inputs: Any, named: dict[str, Any], result: Any) -> None:
            self.counter.place = self._places.pop()
            if name in self.layers:
                self.counter.paused = False
                self._note(name, module, (*inputs, *named.values()), result)

        return leave

    def _note(self, name: str, module: nn.Module, inputs: Any, result: Any) -> None:
        calls, given, made = self.calls[name], _shape(inputs), _shape(result)
        if not calls.count:
            calls.input_shape, calls.output_shape = given, made
        calls.count += 1
        calls.macs += layer_macs(module, given, made) or 0
        calls.elements += sum(tensor.numel() for tensor in _tensors(result))


class _Tracer(fx.Interpreter):
    """Runs a graph node by node, so that functions are known by the module that called them."""

    def __init__(self, module: fx.GraphModule, watcher: _Watcher) -> None:
        super().__init__(module)
        self._watcher = watcher

    def run_node(self, n: fx.Node) -> Any:
        self._watcher.place(str(n.meta.get("path", "")))
        return super().run_node(n)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return _stand_in(value) if isinstance(value, Tensor) and value.is_meta else value

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer = self.fetch_attr(target)
        held = dict(layer.named_parameters()) | dict(layer.named_buffers())
        if not any(tensor.is_meta for tensor in held.values()):
            return super().call_module(target, args, kwargs)
        stand_ins = {name: _stand_in(tensor) for name, tensor in held.items()}
        return functional_call(layer, stand_ins, args, kwargs)


def _stand_in(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _shape(value: Any) -> tuple[int, ...]:
    first = next(_tensors(value), None)
    return () if first is None else tuple(first.shape)
