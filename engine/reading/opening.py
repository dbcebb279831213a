"""The last step of every format: a module from a file becomes a network."""

import re
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.free_sizes import Place
from featherweight.engine.network import Inputs, Network, Origin, capture
from featherweight.engine.reading.bounds import check_weights
from featherweight.engine.reading.calling import flattened
from featherweight.engine.reading.examples import check_runs, example_of

CLOSE = 1e-3
# Names become Python source when a graph is compiled: any other character could be code.
PLAIN_NAME = re.compile(r"\w+", re.ASCII)


def opened(
    module: nn.Module,
    source: Source,
    kind: str,
    example: Inputs | None = None,
    notes: tuple[str, ...] = (),
    may_vary: tuple[Place, ...] = (),
) -> Network:
    """Return the network of a module that was read from `source`, with its example inputs.

    Where the file tells no example it is made from `source.input_shapes`, and any size beside the
    batch may turn out to be free. Files with an example were made for it: in them only the
    dimensions `may_vary` (position of the input, dimension) may.
    A graph that gives other outputs (noise, say) is not kept: the network opens with the reason.
    Raises UserError where a name in the module is no plain name, or it does not run.
    """
    check_whole(module, source.path)
    notes += in_float32(module) if example is None else ()
    names, places = source.input_names, None if example is None else may_vary
    if example is None:
        example = example_of(module, source)
        module = flattened(module, names, len(example), source.path)
    expected = check_runs(module, example, source.path)
    network = capture(module, example, Origin(source.path, kind), places)
    network.notes += notes
    network.given_names = names
    if not network.graph_lock and not same_outputs(expected, network, example):
        lock = "its graph gives other outputs than the network itself"
        return replace(network, module=module, graph_lock=lock, free=(), parts={})
    return network


def same_outputs(expected: tuple[Tensor, ...], network: Network, example: Inputs) -> bool:
    """Say whether a network gives, but for rounding, the tensors that it should."""
    with torch.no_grad():
        given = network.outputs(*example)
    return len(given) == len(expected) and all(
        one.shape == other.shape
        and torch.allclose(one.double(), other.double(), CLOSE, CLOSE, equal_nan=True)
        for one, other in zip(given, expected, strict=True)
    )


def check_whole(module: nn.Module, path: str) -> None:
    """Raise UserError where a module is no tree of modules and tensors with plain names."""
    try:
        _check_part(module, path, set())
    except (AttributeError, RecursionError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: it holds a layer that lacks its parts.", "Save it again."
        ) from error
    check_weights(module, path)


def _check_part(part: nn.Module, path: str, above: set[int]) -> None:
    if id(part) in above:
        raise UserError(f"{path} is refused: a layer of it holds itself.", "Save it again.")
    for name in (*part._modules, *part._parameters, *part._buffers):
        check_name(name, path)
    held = [*part._modules.values(), *part._parameters.values(), *part._buffers.values()]
    parts = len(part._modules)
    if not all(
        value is None or isinstance(value, nn.Module if at < parts else Tensor)
        for at, value in enumerate(held)
    ):
        raise TypeError("a part is of another kind")
    for inner in part._modules.values():
        if inner is not None:
            _check_part(inner, path, {*above, id(part)})


def check_name(name: str, path: str) -> None:
    """Raise UserError where a dotted name is not made of letters, digits and underscores."""
    plain = isinstance(name, str) and all(map(PLAIN_NAME.fullmatch, name.split(".")))
    if not plain:
        raise UserError(
            f"{path} is refused: it names a part of the network {str(name)[:60]!r}.",
            "Names of layers and tensors are letters, digits, underscores and dots.",
        )


def in_float32(network: nn.Module) -> tuple[str, ...]:
    """Turn other float weights into float32, with a sentence that says so."""
    others = sorted({_dtype(tensor) for tensor in _floats(network)} - {"float32"})
    if not others:
        return ()
    network.float()
    return (f"The file holds {' and '.join(others)}; the weights were opened as float32.",)


def _floats(network: nn.Module) -> Iterable[Tensor]:
    tensors = [*network.parameters(), *network.buffers()]
    return (tensor for tensor in tensors if tensor.is_floating_point())


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
