"""Whether ONNX Runtime sums products of 8-bit integers exactly on this processor."""

from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

ROWS, INNER, COLUMNS = 8, 64, 32
LARGEST, LARGEST_WEIGHT = 255, 127


@cache
def sums_exactly() -> bool:
    """Say whether 255 times 127, summed, comes out right.

    Without 8-bit dot products a processor adds pairs of products in 16 bits, where two of these
    overflow.
    """
    sides = {"a": (ROWS, INNER), "b": (INNER, COLUMNS)}
    kinds = {"a": TensorProto.UINT8, "b": TensorProto.INT8}
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["sums"])],
        "sums",
        [helper.make_tensor_value_info(name, kinds[name], sides[name]) for name in sides],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, (ROWS, COLUMNS))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    left = np.full(sides["a"], LARGEST, np.uint8)
    right = np.full(sides["b"], LARGEST_WEIGHT, np.int8)
    (sums,) = session.run(None, {"a": left, "b": right})
    return bool((sums == INNER * LARGEST * LARGEST_WEIGHT).all())
