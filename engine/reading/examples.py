"""Example inputs for a network: of the shapes that the person gave, always the same numbers."""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError, running_reason
from featherweight.engine.events import Source
from featherweight.engine.network import CAPTURE_ERRORS, Inputs, Network
from featherweight.engine.reading.bounds import BoundedMemory, check_shapes, largest_bytes

SEED = 20260101
SMALLEST_VOCABULARY = 2

Shape = tuple[int, ...]


def random_inputs(shapes: Sequence[Shape], dtypes: Sequence[str], rows: int) -> Inputs:
    """Return tensors of these shapes; integers are below `rows`, floats normally distributed.

    A missing dtype is float32. The numbers depend on the shapes and dtypes only.
    """
    generator = torch.Generator().manual_seed(SEED)
    padded = [*dtypes, *["float32"] * (len(shapes) - len(dtypes))]
    return tuple(
        _random(shape, dtype, rows, generator) for shape, dtype in zip(shapes, padded, strict=False)
    )


def ordered(source: Source, names: Sequence[str]) -> Source:
    """Return a source with its inputs in the order of a file that names them.

    Raises UserError where the person named an input that the file does not have, or not all.
    """
    if not any(source.input_names):
        return source
    given = source.input_names
    if sorted(given) != sorted(names):
        raise UserError(
            f"{source.path} takes the inputs {', '.join(names)}, not {', '.join(given)}.",
            "Give --input once for each, with these names or without any.",
        )
    at = [given.index(name) for name in names]
    dtypes = tuple(source.input_dtypes[position] for position in at if source.input_dtypes)
    return msgspec.structs.replace(
        source,
        input_shapes=tuple(source.input_shapes[position] for position in at),
        input_dtypes=dtypes,
        input_names=(),
    )


def example_of(module: nn.Module, source: Source) -> Inputs:
    """Return inputs of `source.input_shapes`, indices where the first layer is an embedding.

    Raises UserError where there are none, with a guess from the first layer.
    """
    dtypes: tuple[str, ...] = source.input_dtypes or _guessed_dtypes(module)
    if not source.input_shapes:
        raise UserError(
            f"{source.path} does not tell the shape of its input.", _hint(module) or "Give --input."
        )
    check_shapes(source.input_shapes, source.path)
    return random_inputs(source.input_shapes, dtypes, vocabulary(module))


def check_runs(module: nn.Module, example: Inputs, path: str) -> Inputs:
    """Return what a module gives in eval mode. Raises UserError with its reason where it fails."""
    module.eval()
    try:
        with torch.no_grad(), BoundedMemory(largest_bytes(path)):
            return Network(module, example).outputs(*example)
    except CAPTURE_ERRORS as error:
        given = ", ".join("x".join(map(str, tensor.shape)) for tensor in example)
        raise UserError(
            f"{path} does not run on an input of {given}: {running_reason(error)}.",
            _hint(module) or "Give another shape with --input, or save the network again.",
        ) from error


def vocabulary(module: nn.Module) -> int:
    """Return how many rows the smallest embedding has: every index below it is valid."""
    rows = [layer.num_embeddings for layer in module.modules() if isinstance(layer, nn.Embedding)]
    return min(rows, default=SMALLEST_VOCABULARY)


def _random(shape: Shape, dtype: str, rows: int, generator: torch.Generator) -> Tensor:
    if dtype == "bool":
        return torch.ones(shape, dtype=torch.bool)
    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=kind)
    return torch.randint(0, rows, shape, generator=generator, dtype=kind)


def _guessed_dtypes(module: nn.Module) -> tuple[str, ...]:
    return ("int64",) if isinstance(_first_layer(module), nn.Embedding) else ()


def _first_layer(module: nn.Module) -> nn.Module | None:
    leaves = (layer for layer in module.modules() if not any(layer.children()))
    return next((layer for layer in leaves if list(layer.parameters())), None)


def _hint(module: nn.Module) -> str:
    """Say what to try, from what the first layer takes."""
    match _first_layer(module):
        case nn.Conv1d(in_channels=channels) | nn.ConvTranspose1d(in_channels=channels):
            return f"The first layer takes {channels} channels: try --input 1x{channels}x1024."
        case nn.Conv2d(in_channels=channels) | nn.ConvTranspose2d(in_channels=channels):
            side = 28 if channels == 1 else 224
            wanted = f"1x{channels}x{side}x{side}"
            plural = "channel" if channels == 1 else "channels"
            return f"The first layer takes {channels} {plural}: try --input {wanted}."
        case nn.Conv3d(in_channels=channels) | nn.ConvTranspose3d(in_channels=channels):
            return f"The first layer takes {channels} channels: try --input 1x{channels}x16x64x64."
        case nn.Linear(in_features=width):
            return f"The first layer takes {width} features: try --input 1x{width}."
        case nn.Embedding(num_embeddings=rows):
            return f"The first layer takes indices below {rows}: try --input 1x16."
        case nn.RNNBase(input_size=width):
            return f"The first layer takes {width} features a step: try --input 1x16x{width}."
    return ""
