"""What function calls do with channels: carry, unite, mix or sum over them."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from featherweight.engine.inspecting.channel_calls import FunctionCall, Tracks
from featherweight.engine.inspecting.channel_ids import Constraints, IdTensor
from featherweight.engine.inspecting.channel_products import contract, elementwise


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAME = _names(
    "alias detach clone contiguous to _to_copy lift_fresh_copy dropout feature_dropout hardswish"
    " zeros_like ones_like full_like empty_like rand_like randn_like native_dropout log_sigmoid"
    " fill fill_ bernoulli nan_to_num"
)
MOVES = _names(
    "view _unsafe_view reshape view_as reshape_as permute transpose t numpy_T movedim moveaxis"
    " swapaxes flatten unflatten squeeze unsqueeze expand expand_as broadcast_to select slice"
    " narrow split split_with_sizes chunk unbind repeat repeat_interleave tile flip"
    " pixel_unshuffle"
)
REDUCTIONS = _names(
    "sum mean amax amin max min var std var_mean std_mean norm linalg_vector_norm logsumexp prod"
    " any all argmax argmin nansum median"
)
ALONG = _names(
    "softmax log_softmax _softmax _log_softmax cumsum cumprod logcumsumexp sort argsort"
    " roll index_select"
)
POINTWISE = _names("where masked_fill rsub floor_divide hardtanh relu6")
POOL = re.compile(r"_?(adaptive_)?(max_pool|avg_pool|upsample|reflection_pad|replication_pad)")


Rule = Callable[[Constraints, FunctionCall], Tracks]


def function_tracks(flow: Constraints, call: FunctionCall) -> Tracks:
    """Return the ids of what a function gives, after saying what it asks of its arguments' ids."""
    if all(track.blank for track in call.tensors()):
        return call.results(IdTensor.empty)
    if call.name in _RULES:
        return _RULES[call.name](flow, call)
    if call.name in SAME:
        return call.results(lambda _: call.main())
    if call.pointwise or call.name in POINTWISE:
        tensors = call.tensors()
        return call.results(lambda shape: elementwise(flow, tensors, shape, call.words))
    if POOL.match(call.name):
        return _over_space(flow, call, int(re.findall(r"\dd", call.name)[0][0]))
    return _unknown(flow, call)


def _unknown(flow: Constraints, call: FunctionCall) -> Tracks:
    for track in call.tensors():
        lost = f"its channels go through {call.words}, which cannot be followed"
        flow.channels.lock(track.ids, lost)
    return call.results(IdTensor.empty)


def _move(flow: Constraints, call: FunctionCall) -> Tracks:
    if call.name == "slice" and call.value("step", 1) != 1:
        # Every second channel is another set once a channel is gone.
        flow.freeze(call.main(), [_dimension(call)], _fixed(call))
    try:
        given = call.run_on_ids()
    except (NotImplementedError, RuntimeError, TypeError):
        return _unknown(flow, call)
    if isinstance(given, Tensor):
        return flow.now(IdTensor.compact(given))
    return tuple(flow.now(IdTensor.compact(part)) for part in given)


def _cat(flow: Constraints, call: FunctionCall) -> Tracks:
    parts = [part for part in call.listed("tensors") if part.shape != (0,)]
    dimension = call.value("dim", 0) % len(call.shape)
    if call.name == "stack":
        parts = [
            IdTensor(
                np.expand_dims(part.ids, dimension),
                (*part.shape[:dimension], 1, *part.shape[dimension:]),
            )
            for part in parts
        ]
    needed = {dimension}.union(*(part.varying() for part in parts))
    wide = [
        np.broadcast_to(part.ids, [size if d in needed else 1 for d, size in enumerate(part.shape)])
        for part in parts
    ]
    joined = IdTensor(np.concatenate(wide, dimension), call.shape)
    if needed > {dimension} and not any(dimension in part.varying() for part in parts):
        # Parts whose channels lie along another dimension fit together only with equal channels.
        joined = flow.level(joined, [dimension])
    return flow.now(joined)


def _reduction(flow: Constraints, call: FunctionCall) -> Tracks:
    track = call.main()
    count = len(track.shape)
    dimensions = _dimensions(call, count)
    flow.freeze(track, dimensions, f"{call.words} mixes its channels")
    track = flow.now(track)
    left = track.ids
    for dimension in dimensions:
        left = left.take([0], dimension)
    gone = tuple(dimensions)

    def made(shape: tuple[int, ...]) -> IdTensor:
        ids = left if len(shape) == count else np.squeeze(left, gone)
        return IdTensor(ids, shape)

    return call.results(made)


def _along(flow: Constraints, call: FunctionCall) -> Tracks:
    track = call.main()
    dimensions = _dimensions(call, len(track.shape))
    track = flow.freeze(track, dimensions, f"{call.words} mixes its channels")
    ids = track.ids
    for dimension in dimensions:
        ids = ids.take([0], dimension)
    return call.results(lambda shape: IdTensor(ids, shape))


def _over_space(flow: Constraints, call: FunctionCall, space: int) -> Tracks:
    track = call.main()
    count = len(track.shape)
    dimensions = range(count - space, count)
    track = flow.freeze(track, dimensions, f"{call.words} mixes its channels")
    ids = track.ids
    for dimension in dimensions:
        ids = ids.take([0], dimension)
    return call.results(lambda shape: IdTensor(ids, shape))


def _padding(flow: Constraints, call: FunctionCall) -> Tracks:
    track = flow.now(call.main())
    amounts = _padding_amounts(call)
    padded = set(amounts) & set(track.varying())
    if not padded:
        return _over_space(flow, call, len(call.value("pad")) // 2)
    written = all(isinstance(amount, int) for amount in call.arguments["pad"])
    if call.value("mode", "constant") != "constant" or len(amounts) > 1 or not written:
        return _unknown(flow, call)
    (dimension,) = padded
    before, after = amounts[dimension]
    if min(before, after) < 0:
        return _unknown(flow, call)
    track = flow.level(track, [other for other in track.varying() if other != dimension])
    # Channels of zeros can go too, by padding with fewer of them.
    front, back = flow.channels.fresh(before), flow.channels.fresh(after)
    ids = np.concatenate([front, track.vector(dimension), back])
    return IdTensor.along(dimension, ids, call.shape)


def _padding_amounts(call: FunctionCall) -> dict[int, tuple[int, int]]:
    """Return by dimension how much a call pads before and after, where it pads at all."""
    pads, last = call.value("pad"), len(call.main().shape) - 1
    pairs = {last - at: (pads[2 * at], pads[2 * at + 1]) for at in range(len(pads) // 2)}
    return {dimension: pair for dimension, pair in pairs.items() if pair != (0, 0)}


def _channel_shuffle(flow: Constraints, call: FunctionCall) -> Tracks:
    track = call.main()
    flow.level(track, [d for d in range(len(track.shape)) if d != 1])
    return _move(flow, call)


def _pixel_shuffle(flow: Constraints, call: FunctionCall) -> Tracks:
    moved = _move(flow, call)
    assert isinstance(moved, IdTensor)
    count = len(moved.shape)
    return flow.level(moved, [count - 2, count - 1])


def _gated(flow: Constraints, call: FunctionCall) -> Tracks:
    dimension = call.value("dim", -1)
    first, second = call.main().full.chunk(2, dimension)
    halves = [IdTensor.compact(first), IdTensor.compact(second)]
    return elementwise(flow, halves, halves[0].shape, call.words)


def _group_norm(flow: Constraints, call: FunctionCall) -> Tracks:
    track = call.main()
    return flow.freeze(track, range(1, len(track.shape)), "group norm mixes its channels")


def _layer_norm(flow: Constraints, call: FunctionCall) -> Tracks:
    track = call.main()
    normalized = call.value("normalized_shape")
    count = len(track.shape)
    dimensions = range(count - len(normalized), count)
    norm = call.words.replace("_", " ")
    return flow.freeze(track, dimensions, f"{norm} mixes its channels")


def _channelwise_norm(flow: Constraints, call: FunctionCall) -> Tracks:
    track = call.main()
    others = [dimension for dimension in range(len(track.shape)) if dimension != 1]
    track = flow.level(track, others)
    for name in ("weight", "bias", "running_mean", "running_var"):
        vector = call.track(name)
        if vector is not None:
            flow.join(track.vector(1), vector.vector(0), _fixed(call))
    return flow.now(track)


def _product(flow: Constraints, call: FunctionCall) -> Tracks:
    names = [name for name in ("self", "input", "mat1", "batch1") if name in call.arguments]
    left = call.track(names[-1])
    right = next(
        track
        for name in ("mat2", "batch2", "other", "weight", "vec2")
        if (track := call.track(name)) is not None
    )
    if left is None or min(len(left.shape), len(right.shape)) < 2:
        return _unknown(flow, call)
    letters, result = _product_letters(len(left.shape), len(right.shape), call.name == "linear")
    shape = call.shape
    track = contract(flow, (left, letters[0]), (right, letters[1]), result, shape, call.words)
    added = call.track("bias") or (call.track("self") if len(names) > 1 else None)
    return elementwise(flow, [track, added], shape, call.words) if added else track


def _product_letters(left: int, right: int, transposed: bool) -> tuple[tuple[str, str], str]:
    batch = "abcdefgh"[: max(left, right) - 2]
    first = batch[len(batch) - left + 2 :] + "nk"
    second = batch[len(batch) - right + 2 :] + ("mk" if transposed else "km")
    return (first, second), batch + "nm"


def _einsum(flow: Constraints, call: FunctionCall) -> Tracks:
    equation = call.value("equation").replace(" ", "")
    operands = call.listed("tensors")
    inputs, _, output = equation.partition("->")
    letters = inputs.split(",")
    simple = "->" in equation and "." not in equation and len(letters) == len(operands) == 2
    if not simple or any(len(set(part)) != len(part) for part in letters):
        return _unknown(flow, call)
    return contract(
        flow,
        (operands[0], letters[0]),
        (operands[1], letters[1]),
        output,
        call.shape,
        call.words,
    )


def _attention(flow: Constraints, call: FunctionCall) -> Tracks:
    mask = call.track("attn_mask")
    if mask is not None:
        flow.channels.lock(mask.ids, "its channels mask an attention")
    query, key, value = (call.track(name) for name in ("query", "key", "value"))
    if query is None or key is None or value is None or len(query.shape) < 2:
        return _unknown(flow, call)
    batch = "abcdefgh"[: len(query.shape) - 2]
    if query.shape[:-2] != key.shape[:-2]:
        # Heads of a group share their keys: none can go alone.
        query, key, value = (
            flow.freeze(track, range(len(track.shape) - 1), "attention mixes its channels")
            for track in (query, key, value)
        )
        key, value = (
            IdTensor(track.ids, query.shape[:-2] + track.shape[-2:]) for track in (key, value)
        )
    left, right = (query, batch + "nk"), (key, batch + "mk")
    size = (*query.shape[:-1], key.shape[-2])
    scores = contract(flow, left, right, batch + "nm", size, "attention")
    left, right = (scores, batch + "nm"), (value, batch + "mv")
    return contract(flow, left, right, batch + "nv", call.shape, "attention")


def _fixed(call: FunctionCall) -> str:
    return f"its channels meet values of fixed size in {call.words}"


def _dimension(call: FunctionCall) -> int:
    return int(call.value("dim", 0)) % len(call.main().shape)


def _dimensions(call: FunctionCall, count: int) -> list[int]:
    given = call.value("dim", call.value("dims"))
    if given is None or given == []:
        return list(range(count))
    listed: Sequence[int] = given if isinstance(given, list | tuple) else [given]
    return [dimension % count for dimension in listed]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(ALONG, _along),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _channel_shuffle),
    "pixel_shuffle": _pixel_shuffle,
    **dict.fromkeys(("cat", "concat", "stack"), _cat),
    **dict.fromkeys(("constant_pad_nd", "pad"), _padding),
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm", "linear"), _product),
    **dict.fromkeys(("batch_norm", "instance_norm"), _channelwise_norm),
    "einsum": _einsum,
    "glu": _gated,
    "group_norm": _group_norm,
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    "scaled_dot_product_attention": _attention,
}
