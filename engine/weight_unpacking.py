"""Weights of few bits, as a safetensors file holds them, back to float32 with plain torch.

Such files are read by other people's Python too: the functions stand in the source that is written
beside a file, word for word. So each needs nothing but torch, math and the ones it is listed with.
"""

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


def unpacked(tensors: Tensors, packed: dict[str, dict[str, Any]]) -> Tensors:
    """Return the weights by name, those that are packed as float32.

    `packed` tells for each of them its form, shape, bits, and of which tensors it is made.
    """
    weights = dict(tensors)
    for name, told in packed.items():
        parts = {kind: weights.pop(f"{name}.{kind}") for kind in told["parts"]}
        weights[name] = FORMS[told["form"]](told, parts).reshape(told["shape"])
    return weights


def numbers(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Return `count` whole numbers of `bits` bits each, packed with the lowest bit first."""
    single = (packed.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
    columns = single.reshape(-1)[: count * bits].reshape(count, bits)
    result = torch.zeros(count, dtype=torch.int32)
    for place in range(bits):
        result |= columns[:, place].int() << place
    return result


def scattered(values: torch.Tensor, told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return the values where the mask has a bit, and what stands for 0.0 elsewhere."""
    count = math.prod(told["shape"])
    result = torch.full((count,), told["zero"], dtype=values.dtype)
    result[numbers(parts["mask"], 1, count).bool()] = values
    return result


def codes(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return the code of every weight. With a mask the file has no codes of the weight 0.0."""
    if "mask" not in parts:
        return numbers(parts["codes"], told["bits"], math.prod(told["shape"]))
    return scattered(numbers(parts["codes"], told["bits"], told["kept"]), told, parts)


def sparse_floats(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return weights of which only those that are not 0.0 are kept."""
    return scattered(parts["values"].float(), told, parts)


def integers(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return integers times a scale: one in all, one for each row, or for each group in a row."""
    scales = parts["scales"].float()
    levels = codes(told, parts).reshape(scales.shape[0], -1).sub(told["zero"]).float()
    if scales.ndim == 1:
        return levels.mul(scales.unsqueeze(1))
    size = math.ceil(levels.shape[1] / scales.shape[1])
    return levels.mul(scales.repeat_interleave(size, dim=1)[:, : levels.shape[1]])


def shared_values(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return weights that are each one of the values of a codebook, in 16 bits after its unit."""
    values = parts["codebooks"]
    if values.dtype == torch.float16:
        values = values[1:].float() * values[0].float()
    return values[codes(told, parts)]


def signs(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return sums of signs, each times a scale of its row; bit k of a code is the k-th sign."""
    scales = parts["scales"]
    rows = codes(told, parts).reshape(scales.shape[0], -1)
    terms = [((rows >> at & 1).float() * 2 - 1) * scales[:, at : at + 1]
             for at in range(scales.shape[1])]  # fmt: skip
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def words_of(count: int, seed: int) -> torch.Tensor:
    """Return the hashes of places 0 to count - 1, int64 in 32 bits."""
    mixed = (torch.arange(count) * 0x61C88647 + seed) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x2C1B3C6D)):
        mixed = ((mixed ^ mixed >> shift) * factor) & 0xFFFFFFFF
    return mixed ^ mixed >> 16


def hashed_values(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return weights that share values, with a sign, by a hash of their place and the seed."""
    mixed, values = words_of(math.prod(told["shape"]), told["seed"]), parts["values"]
    return values[(mixed >> 1) % values.numel()].mul((1 - 2 * (mixed & 1)).float())


def frequency_bands(sides: list[int]) -> torch.Tensor:
    """Return for every coefficient of a kernel the sum of its frequencies, int64."""
    bands = torch.zeros(1, dtype=torch.int64)
    for side in sides:
        bands = (bands.unsqueeze(1) + torch.arange(side)).reshape(-1)
    return bands


def cosines(sides: list[int]) -> torch.Tensor:
    """Return the orthonormal cosine basis of a kernel: (coefficients, places), float32."""
    basis = torch.ones(1, 1, dtype=torch.float64)
    for side in sides:
        steps = torch.arange(side, dtype=torch.float64)
        rows = (math.pi / side * steps.unsqueeze(1) * (steps + 0.5)).cos() * math.sqrt(2 / side)
        rows[0] = math.sqrt(1 / side)
        basis = torch.kron(basis, rows)
    return basis.float()


def frequency_places(
    shape: list[int], seed: int, buckets: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which value each coefficient has, int64, and its sign: (kernels, coefficients)."""
    bands, held = frequency_bands(shape[2:]), torch.tensor(buckets)
    mixed = words_of(math.prod(shape), seed).reshape(-1, bands.numel())
    places = (mixed >> 1) % held[bands] + (held.cumsum(0) - held)[bands]
    return places, (1 - 2 * (mixed & 1)).float()


def hashed_frequencies(told: dict[str, Any], parts: Tensors) -> torch.Tensor:
    """Return kernels whose cosine coefficients share values by a hash of their place."""
    places, signs = frequency_places(told["shape"], told["seed"], told["buckets"])
    return (parts["values"][places] * signs) @ cosines(told["shape"][2:])


# The names of forms in files; float32 and the 16-bit floats are packed only where they are sparse.
FORMS = {
    "integer": integers,
    "codebook": shared_values,
    "binary": signs,
    "hashed": hashed_values,
    "frequency": hashed_frequencies,
    "float32": sparse_floats,
    "float16": sparse_floats,
    "bfloat16": sparse_floats,
}
NEEDED = {
    integers: (numbers, scattered, codes),
    shared_values: (numbers, scattered, codes),
    signs: (numbers, scattered, codes),
    hashed_values: (words_of,),
    hashed_frequencies: (words_of, frequency_bands, cosines, frequency_places),
    sparse_floats: (numbers, scattered),
}


def unpacking_source(forms: Iterable[str]) -> str:
    """Return Python source of `unpacked` and of what it needs for these forms, in few lines."""
    wanted = {name: function for name, function in FORMS.items() if name in set(forms)}
    functions = dict.fromkeys(
        [unpacked, *(part for one in wanted.values() for part in (*NEEDED[one], one))]
    )
    table = [f'    "{name}": {function.__name__},' for name, function in wanted.items()]
    parts = [inspect.getsource(function).rstrip() for function in functions]
    return "\n\n\n".join([*parts, "\n".join(["FORMS = {", *table, "}"])])
