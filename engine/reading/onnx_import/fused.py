"""Operators that ONNX Runtime's optimizer makes of several, taken apart again."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from featherweight.engine.reading.onnx_import.rewriting import Rewriting, rewrites
from featherweight.engine.reading.onnx_import.values import UnsupportedError

Nodes = Iterator[NodeProto]
MICROSOFT = "com.microsoft"
# What is added to the scores of positions that a mask hides.
HIDDEN = -10000.0


@rewrites("FusedConv", "FusedGemm", domain=MICROSOFT)
def _with_activation(node: NodeProto, to: Rewriting) -> Nodes:
    settings = to.attributes(node)
    extra = [name for name in settings if name.startswith("activation")]
    inputs, addend = list(node.input), ""
    if node.op_type == "FusedConv" and len(inputs) > 3:
        addend = inputs.pop()
    kind = node.op_type.removeprefix("Fused")
    plain, summed = to.name(node, "plain"), to.name(node, "summed")
    yield to.like(node, kind, inputs, plain, without=extra)
    if addend:
        yield to.node("Add", (plain, addend), summed)
    activation = settings.get("activation", "Identity")
    numbers = settings.get("activation_params", [])
    if kind == "Gemm":
        numbers = [
            settings[f"activation_{name}"]
            for name in ("alpha", "beta", "gamma")
            if f"activation_{name}" in settings
        ]
    result = summed if addend else plain
    if activation == "Clip":
        bounds = [to.constant(node, f"bound{at}", np.float32(n)) for at, n in enumerate(numbers)]
        yield to.node("Clip", (result, *bounds), node.output[0])
    else:
        named = dict(zip(("alpha", "beta"), numbers, strict=False))
        yield to.node(activation, (result,), node.output[0], **named)


@rewrites("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def _scaled_product(node: NodeProto, to: Rewriting) -> Nodes:
    settings = to.attributes(node)
    if settings.get("transBatchA", 0) or settings.get("transBatchB", 0):
        raise UnsupportedError("order of the batch is not read")
    inputs = []
    for name, letter in zip(node.input, "AB", strict=True):
        if settings.get(f"trans{letter}", 0):
            turned = to.name(node, f"turned{letter}")
            two = to.is_known(name) and to.known(name).ndim == 2
            yield to.node("Transpose" if two else "SwapLastAxes", (name,), turned)
            name = turned
        inputs.append(name)
    alpha = settings.get("alpha", 1.0)
    product = to.name(node, "product") if alpha != 1 else node.output[0]
    yield to.node("MatMul", inputs, product)
    if alpha != 1:
        factor = to.constant(node, "factor", np.float32(alpha))
        yield to.node("Mul", (product, factor), node.output[0])


@rewrites("Gelu", "FastGelu", "BiasGelu", domain=MICROSOFT)
def _gelu(node: NodeProto, to: Rewriting) -> Nodes:
    data = node.input[0]
    if len(node.input) > 1 and node.input[1]:
        data = to.name(node, "biased")
        yield to.node("Add", node.input[:2], data)
    kind = "tanh" if node.op_type == "FastGelu" else "none"
    yield to.node("Gelu", (data,), node.output[0], approximate=kind)


@rewrites("QuickGelu", domain=MICROSOFT)
def _quick_gelu(node: NodeProto, to: Rewriting) -> Nodes:
    alpha = to.attributes(node).get("alpha", 1.702)
    yield to.node("Swish", node.input, node.output[0], alpha=alpha)


@rewrites("SimplifiedLayerNormalization")
def _rms_norm(node: NodeProto, to: Rewriting) -> Nodes:
    yield to.like(node, "RMSNormalization", node.input, node.output[0], without=("stash_type",))


@rewrites("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _norm_of_sum(node: NodeProto, to: Rewriting) -> Nodes:
    rms = "Simplified" in node.op_type
    x, skip, *parts = node.input
    weights, bias = (parts[:1], parts[1:]) if rms else (parts[:2], parts[2:])
    outputs = [*node.output, *[""] * 4]
    total = outputs[3] or to.name(node, "total")
    if bias and bias[0]:
        first = to.name(node, "first")
        yield to.node("Add", (x, bias[0]), first)
        x = first
    yield to.node("Add", (x, skip), total)
    kind = "RMSNormalization" if rms else "LayerNormalization"
    yield to.like(node, kind, (total, *weights), outputs[0])


@rewrites("EmbedLayerNormalization", domain=MICROSOFT)
def _embedding_norm(node: NodeProto, to: Rewriting) -> Nodes:
    tokens, segments, words, places, kinds, scale, shift, mask, given = [*node.input, *[""] * 9][:9]
    names = {hint: to.name(node, hint) for hint in ("word", "place", "kind", "sum1", "sum2")}
    yield to.node("Gather", (words, tokens), names["word"])
    if not given:
        given = to.name(node, "positions")
        yield to.node("PositionsLike", (tokens,), given)
    yield to.node("Gather", (places, given), names["place"])
    yield to.node("Add", (names["word"], names["place"]), names["sum1"])
    total = names["sum1"]
    if segments and kinds:
        yield to.node("Gather", (kinds, segments), names["kind"])
        yield to.node("Add", (total, names["kind"]), names["sum2"])
        total = names["sum2"]
    if mask and len(node.output) > 1 and node.output[1]:
        yield to.node(
            "ReduceSum",
            (mask, to.constant(node, "last", np.array([1]))),
            node.output[1],
            keepdims=0,
        )
    yield to.like(
        node,
        "LayerNormalization",
        (total, scale, shift),
        node.output[0],
        without=("mask_index_type",),
    )


@rewrites("Attention", domain=MICROSOFT)
def _attention(node: NodeProto, to: Rewriting) -> Nodes:
    x, weight, bias, mask, past, extra = [*node.input, *[""] * 6][:6]
    settings = to.attributes(node)
    if past or len([name for name in node.output if name]) > 1:
        raise UnsupportedError("past keys and values are not read")
    sizes = settings.get("qkv_hidden_sizes") or [to.known(weight).shape[1] // 3] * 3
    product, joined = to.name(node, "product"), to.name(node, "joined")
    yield to.node("MatMul", (x, weight), product)
    if bias:
        yield to.node("Add", (product, bias), joined)
    three = tuple(to.name(node, hint) for hint in ("query", "key", "value"))
    cuts = to.constant(node, "sizes", np.array(sizes))
    yield to.node("Split", (joined if bias else product, cuts), *three, axis=-1)
    yield from _attended(node, to, three, mask, extra)


@rewrites("MultiHeadAttention", domain=MICROSOFT)
def _multi_head_attention(node: NodeProto, to: Rewriting) -> Nodes:
    *three, bias, mask, extra = [*node.input, *[""] * 6][:6]
    if any([*node.input][6:]) or len([name for name in node.output if name]) > 1:
        raise UnsupportedError("past keys and values are not read")
    if not all(three):
        raise UnsupportedError("packed queries, keys and values are not read")
    if bias:
        parts = np.split(to.known(bias), 3)
        for at, hint in enumerate(("query", "key", "value")):
            biased = to.name(node, hint)
            shift = to.constant(node, f"{hint}_bias", parts[at])
            yield to.node("Add", (three[at], shift), biased)
            three[at] = biased
    yield from _attended(node, to, tuple(three), mask, extra)


def _attended(
    node: NodeProto, to: Rewriting, three: tuple[str, ...], mask: str, extra: str
) -> Nodes:
    settings = to.attributes(node)
    heads = settings["num_heads"]
    if mask and extra:
        raise UnsupportedError("mask beside a bias of the scores is not read")
    if mask:
        extra = to.name(node, "mask")
        hidden = settings.get("mask_filter_value", HIDDEN)
        yield to.node("ScoresOfMask", (mask,), extra, hidden=hidden)
    given = {"scale": settings["scale"]} if settings.get("scale") else {}
    yield to.node(
        "Attention",
        (*three, extra),
        node.output[0],
        q_num_heads=heads,
        kv_num_heads=heads,
        is_causal=int(settings.get("unidirectional", 0)),
        **given,
    )
