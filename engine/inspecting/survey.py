"""Every layer of a network as plain data, and what the whole network holds and computes."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from featherweight.engine.inspecting.calls import FUNCTIONS, Calls, Run, functions_of, run_of
from featherweight.engine.inspecting.parameters import (
    count,
    describe_layer,
    held_bits,
    kind_of,
    loose_parameters,
    total_parameters,
    weights_of,
)
from featherweight.engine.layer import Layer, NetworkSummary
from featherweight.engine.network import Network
from featherweight.engine.opaque_network import OpaqueNetwork

WITHOUT_GRAPH: tuple[str, ...] = ("safetensors", "archive")
FUNCTIONS_KIND = "Functions"
FUNCTIONS_LOCK = "It is computed by plain functions, not by a layer that could be replaced."


def survey(network: Network) -> NetworkSummary:
    """Run a network once on its example and count; the network is unchanged.

    Layers are as `layers_of` gives them. `parameters` counts shared tensors once, so it may be less
    than the sum over layers. Where the network has a graph no numbers are computed, so that size
    costs nothing.
    """
    run = run_of(network)
    return NetworkSummary(
        path=network.origin.path,
        format=network.origin.format,
        layers=tuple(_layers(network, run)),
        parameters=total_parameters(network.module),
        macs=_macs(network, run),
        input_shapes=tuple(tuple(tensor.shape) for tensor in network.example),
        output_shapes=run.output_shapes,
        file_bytes=_file_bytes(network),
        uncounted=tuple(_uncounted(run.calls)),
        graph_lock=network.graph_lock,
        forms=_forms(network),
        notes=network.notes,
    )


def layers_of(network: Network) -> tuple[Layer, ...]:
    """Return every layer in the order of its first call, without couplings, locks and latency.

    What modules compute or hold beside their layers follows, as kind `Functions`. Layers may be on
    the meta device, as the skeletons of methods are.
    """
    return tuple(_layers(network, run_of(network)))


def _forms(network: Network) -> tuple[str, ...]:
    if not network.graph_lock:
        return ()
    opaque = isinstance(network.module, OpaqueNetwork)
    return ("onnx", *WITHOUT_GRAPH) if opaque else WITHOUT_GRAPH


def _macs(network: Network, run: Run) -> int:
    return _each(sum(calls.macs for calls in run.calls.values()), _batch(network))


def _layers(network: Network, run: Run) -> Iterator[Layer]:
    batch, layers = _batch(network), dict(network.layers())
    loose = {functions_of(owner): shapes for owner, shapes in loose_parameters(network).items()}
    for name in dict.fromkeys([*(name for name in run.calls if name in layers), *layers]):
        yield _layer(name, layers[name], run.calls.get(name, Calls()), batch)
    for name in dict.fromkeys([*loose, *run.calls]):
        if name not in layers:
            calls = run.calls.get(name, Calls())
            yield _functions(name, loose.get(name, {}), calls, batch)


def _layer(name: str, layer: nn.Module, calls: Calls, batch: int) -> Layer:
    weights = weights_of(layer)
    return Layer(
        name=name,
        kind=kind_of(layer),
        summary=describe_layer(layer),
        weights=weights,
        parameters=count(weights),
        macs=_counted(calls, batch),
        activations=_each(calls.elements, batch),
        bits=held_bits(layer),
        input_shape=calls.input_shape,
        output_shape=calls.output_shape,
        calls=calls.count,
    )


def _functions(name: str, weights: dict[str, tuple[int, ...]], calls: Calls, batch: int) -> Layer:
    return Layer(
        name=name,
        kind=FUNCTIONS_KIND,
        summary=", ".join(f"{times} {kind}" for kind, times in calls.products.items()),
        weights=weights,
        parameters=count(weights),
        macs=_counted(calls, batch),
        activations=_each(calls.elements, batch),
        bits=32 * count(weights),
        input_shape=(),
        output_shape=(),
        calls=sum(calls.products.values()),
    )


def _counted(calls: Calls, batch: int) -> int | None:
    unknown = calls.hidden or (calls.uncounted and not calls.macs)
    return None if unknown else _each(calls.macs, batch)


def _batch(network: Network) -> int:
    first = network.example[0] if network.example else None
    return first.shape[0] if first is not None and first.ndim else 1


def _each(total: int, batch: int) -> int:
    """Share a total out to the samples; what does not depend on the batch is rounded up."""
    return -(-total // batch)


def _uncounted(calls: dict[str, Calls]) -> Iterator[str]:
    for name, seen in calls.items():
        place = name.removesuffix(FUNCTIONS).rstrip(".") or "the network itself"
        for operation, times in seen.uncounted.items():
            yield f"{operation} in {place}" + (f" ({times} calls)" if times > 1 else "")


def _file_bytes(network: Network) -> int:
    """Return the size on disk of all files of a network; 0 where it came from none."""
    files = [Path(name) for name in (network.origin.path, *network.origin.beside)]
    return sum(file.stat().st_size for file in files if file.is_file())
