"""ONNX files whose sizes and settings are absurd: crafted to fill memory, to divide by zero."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from bad_onnx import floats, huge, ints, model, node
from onnx import ModelProto, numpy_helper

HUGE = 1 << 40


def models() -> Iterator[tuple[str, ModelProto]]:
    """Give the models by name."""
    yield from (*_sizes(), *_products(), *_chains(), *_convolutions(), *_pools(), *_operators())


def _sizes() -> Iterator[tuple[str, ModelProto]]:
    square = (1, 1, 64, 64)
    yield "weight-of-a-tebibyte", model([node("Add", "x w")], [huge("w", 1 << 20, 1 << 18)])
    yield "weight-of-negative-size", model([node("Add", "x w")], [huge("w", -1, 4)])
    yield "weight-of-overflowing-size", model([node("Add", "x w")], [huge("w", *[HUGE] * 4)])
    yield "weight-of-no-bytes", model([node("MatMul", "x w")], [huge("w", 4, 4)])
    yield "input-of-a-tebibyte", model([node("Relu", "x")], shape=(1, 3, 1 << 19, 1 << 19))
    yield "input-of-negative-size", model([node("Relu", "x")], shape=(1, -7))
    yield (
        "fill-of-a-tebibyte",
        model(
            [node("ConstantOfShape", "s", "c"), node("Add", "x c")], [ints("s", 1 << 20, 1 << 18)]
        ),
    )
    yield (
        "expanded-to-a-tebibyte",
        model([node("Expand", "x s", "e"), node("Exp", "e")], [ints("s", 1 << 20, 1 << 16, 4)]),
    )
    yield "tiled-to-a-tebibyte", model([node("Tile", "x s")], [ints("s", 1 << 20, 1 << 16)])
    yield (
        "range-without-end",
        model(
            [node("Range", "a b c", "r"), node("Add", "x r")],
            [
                numpy_helper.from_array(np.array(v, np.float32), n)
                for n, v in zip("abc", (0, 1e12, 1e-3), strict=True)
            ],
        ),
    )
    yield (
        "range-with-step-zero",
        model(
            [node("Range", "a b c", "r"), node("Add", "x r")],
            [
                numpy_helper.from_array(np.array(v, np.int64), n)
                for n, v in zip("abc", (0, 9, 0), strict=True)
            ],
        ),
    )
    yield "padded-to-a-tebibyte", model([node("Pad", "x p")], [ints("p", 0, 0, 1 << 20, 1 << 19)])
    yield (
        "resized-to-a-tebibyte",
        model(
            [node("Resize", "x  s")],
            [numpy_helper.from_array(np.array([1, 1, 1e4, 1e4], np.float32), "s")],
            square,
        ),
    )


def _products() -> Iterator[tuple[str, ModelProto]]:
    wide = (1, 100_000)
    yield (
        "one-hot-of-a-tebibyte",
        model(
            [node("Cast", "x", "i", to=7), node("OneHot", "i d v")],
            [ints("d", 1 << 38), ints("v", 0, 1)],
        ),
    )
    yield "outer-product", model([node("Transpose", "x", "t"), node("MatMul", "t x")], shape=wide)
    yield (
        "outer-product-of-constants",
        model(
            [node("Mul", "a b", "c"), node("ReduceMax", "c", "d", keepdims=0), node("Add", "x d")],
            [floats("a", 100_000, 1), floats("b", 1, 100_000)],
        ),
    )
    yield (
        "outer-sum-of-indices",
        model(
            [node("Add", "a b", "c"), node("Gather", "x c")],
            [
                numpy_helper.from_array(np.zeros(s, np.int64), n)
                for n, s in (("a", (200_000, 1)), ("b", (1, 200_000)))
            ],
        ),
    )
    yield (
        "gather-of-gathers",
        model(
            [
                node("Gather", "a b", "c"),
                node("Gather", "c b", "d", axis=1),
                node("Gather", "d b", "e", axis=2),
                node("Add", "x e"),
            ],
            [floats("a", 2, 2, 2), numpy_helper.from_array(np.zeros(20_000, np.int64), "b")],
        ),
    )
    yield (
        "einsum-of-everything",
        model([node("Einsum", "x x x", equation="ai,bj,ck->ijk")], shape=(1, 20_000)),
    )


def _chains() -> Iterator[tuple[str, ModelProto]]:
    square = (1, 1, 64, 64)
    yield (
        "doubling-forty-times",
        model([node("Concat", f"{a} {a}", b, axis=1) for a, b in _chain(40)]),
    )
    yield (
        "doubling-a-constant",
        model(
            [
                *(node("Concat", f"{a} {a}", b, axis=0) for a, b in _chain(40, "w")),
                node("Add", "x y", "z"),
            ],
            [floats("w", 4)],
            output="z",
        ),
    )
    yield (
        "squaring-forty-times",
        model(
            [node("Expand", "x s", "a0")]
            + [node("Einsum", f"a{at}", f"a{at + 1}", equation="bi->bi") for at in range(3)],
            [ints("s", 1 << 15, 1 << 20)],
            output="a3",
        ),
    )
    yield (
        "padding-of-a-convolution",
        model([node("Conv", "x w", pads=[1 << 19] * 4)], [floats("w", 1, 1, 3, 3)], square),
    )
    yield (
        "stride-of-a-transposed-convolution",
        model(
            [node("ConvTranspose", "x w", strides=[1 << 14] * 2)], [floats("w", 1, 1, 3, 3)], square
        ),
    )
    yield (
        "blocks-of-a-quantized-weight",
        model(
            [node("DequantizeLinear", "w s", "d", block_size=1 << 40), node("Add", "x d")],
            [numpy_helper.from_array(np.ones((4, 4), np.int8), "w"), floats("s", 4, 4)],
        ),
    )


def _chain(count: int, start: str = "x") -> Iterator[tuple[str, str]]:
    names = [start, *(f"m{at}" for at in range(count - 1)), "y"]
    yield from pairwise(names)


def _convolutions() -> Iterator[tuple[str, ModelProto]]:
    square, kernel = (1, 1, 8, 8), [floats("w", 1, 1, 3, 3)]
    for name, attributes in {
        "stride-zero": {"strides": [0, 0]},
        "negative-stride": {"strides": [-1, -1]},
        "no-groups": {"group": 0},
        "negative-groups": {"group": -3},
        "huge-groups": {"group": HUGE},
        "negative-dilation": {"dilations": [-1, 1]},
        "pads-too-few": {"pads": [1]},
        "pads-negative": {"pads": [-9, -9, -9, -9]},
        "pad-words": {"auto_pad": "SOMEHOW"},
        "pads-text": {"pads": "abcd"},
        "group-list": {"group": [1, 2]},
        "stride-float": {"strides": [1.5, 2.5]},
    }.items():
        yield f"convolution-with-{name}", model([node("Conv", "x w", **attributes)], kernel, square)


def _pools() -> Iterator[tuple[str, ModelProto]]:
    square = (1, 1, 8, 8)
    for op in ("MaxPool", "AveragePool"):
        yield f"{op}-without-a-kernel", model([node(op, "x", kernel_shape=[])], shape=square)
        yield f"{op}-kernel-zero", model([node(op, "x", kernel_shape=[0, 0])], shape=square)
        yield f"{op}-kernel-missing", model([node(op, "x")], shape=square)
        yield (
            f"{op}-huge-pads",
            model([node(op, "x", kernel_shape=[2, 2], pads=[1 << 20] * 4)], shape=square),
        )


def _operators() -> Iterator[tuple[str, ModelProto]]:
    square = (1, 1, 8, 8)
    for op, attributes in (
        ("Concat", {"axis": HUGE}),
        ("Flatten", {"axis": -HUGE}),
        ("Softmax", {"axis": 99}),
        ("Transpose", {"perm": [9, 9]}),
        ("Split", {"axis": 5, "num_outputs": HUGE}),
        ("TopK", {"axis": 1}),
        ("ArgMax", {"axis": 70}),
        ("CumSum", {}),
        ("Cast", {"to": 99}),
        ("Cast", {}),
        ("LRN", {"size": -1}),
        ("LRN", {"size": 1 << 40, "bias": 1.0}),
        ("DepthToSpace", {"blocksize": 0}),
        ("SpaceToDepth", {"blocksize": 0}),
        ("Gelu", {"approximate": "no"}),
        ("GroupNormalization", {"num_groups": 0}),
        ("Attention", {"q_num_heads": 0, "kv_num_heads": 0}),
        ("LSTM", {"hidden_size": HUGE}),
        ("Constant", {}),
        ("If", {}),
        ("Nonsense", {}),
    ):
        yield (
            f"{op}-with-{'-'.join(attributes) or 'nothing'}",
            model([node(op, "x", **attributes)], shape=square),
        )
