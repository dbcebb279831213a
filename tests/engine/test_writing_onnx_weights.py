"""Small weights in an ONNX graph: ONNX Runtime unpacks exactly what the forms hold."""

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor

from featherweight.engine.methods.precision.binary import BinaryForm
from featherweight.engine.methods.precision.codebook import CodebookForm
from featherweight.engine.methods.precision.float16 import BFloat16Form, Float16Form
from featherweight.engine.methods.precision.hashed import HashedForm
from featherweight.engine.methods.precision.integer import IntegerForm, group_count
from featherweight.engine.weight_forms import FloatForm, StoredForm
from featherweight.engine.writing.onnx_weights import multiply_out, put_weights


def graph(form: StoredForm, opset: int, turned: bool) -> onnx.ModelProto:
    """Return a model that gives its weight input `w`, turned or as it is."""
    shape = form.shape[::-1] if turned else form.shape
    kind = "Transpose" if turned else "Identity"
    made = helper.make_graph(
        [helper.make_node(kind, ["w"], ["seen"]), helper.make_node("Identity", ["seen"], ["y"])],
        "weight",
        [helper.make_tensor_value_info("w", TensorProto.FLOAT, form.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def unpacked(model: onnx.ModelProto) -> npt.NDArray[np.float32]:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found: npt.NDArray[np.float32] = session.run(None, {})[0]
    return found


@st.composite
def forms(draw: st.DrawFn) -> StoredForm:
    rows, columns = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    kind = draw(
        st.sampled_from(
            ["integer", "codebook", "binary", "hashed", "float16", "bfloat16", "float32"]
        )
    )
    if kind == "integer":
        bits = draw(st.integers(2, 8))
        most = 2 ** (bits - 1) - 1
        levels = random.integers(-most, most, (rows, columns), endpoint=True).astype(np.int8)
        groups = (rows, group_count(columns, draw(st.integers(1, columns))))
        shape = draw(st.sampled_from([(1,), (rows,), groups]))
        scales = random.uniform(0.001, 2, shape).astype(draw(st.sampled_from(["f2", "f4"])))
        return IntegerForm(torch.from_numpy(levels), torch.from_numpy(scales), bits)
    if kind == "codebook":
        values = random.normal(size=draw(st.integers(2, 256))).astype(np.float32)
        indices = random.integers(0, values.size, (rows, columns)).astype(np.int32)
        return CodebookForm(torch.from_numpy(indices), torch.from_numpy(values), zero=False)
    if kind == "hashed":
        count = draw(st.integers(1, rows * columns))
        values = torch.from_numpy(random.normal(size=count).astype(np.float32))
        return HashedForm((rows, columns), values, draw(st.integers(0, 65535)))
    if kind == "binary":
        terms = draw(st.integers(1, 3))
        signs = random.integers(0, 2**terms, (rows, columns)).astype(np.uint8)
        scales = random.uniform(0.001, 2, (rows, terms)).astype(np.float32)
        return BinaryForm(torch.from_numpy(signs), torch.from_numpy(scales))
    weight = torch.from_numpy(random.normal(size=(rows, columns)).astype(np.float32))
    made = {"float16": Float16Form, "bfloat16": BFloat16Form, "float32": FloatForm}
    return made[kind](weight)


@settings(max_examples=60, deadline=None)
@given(forms(), st.sampled_from([17, 20, 21]), st.booleans(), st.booleans())
def test_that_the_runtime_unpacks_the_weight_that_the_form_holds(
    form: StoredForm, opset: int, turned: bool, multiplied: bool
) -> None:
    model = graph(form, opset, turned)
    put_weights(model, {"w": form})
    if multiplied:
        multiply_out(model, set())
    weight = form().numpy()
    assert np.array_equal(unpacked(model), weight.T if turned else weight)
    assert not model.graph.input


@pytest.mark.parametrize("bits", [8, 6, 5, 4, 3, 2])
@pytest.mark.parametrize("scales", [torch.ones(64), torch.ones(64, 4)], ids=["rows", "groups"])
def test_that_integers_take_only_their_bits_in_the_file(bits: int, scales: Tensor) -> None:
    form = IntegerForm(torch.ones(64, 64, dtype=torch.int8), scales, bits)
    model = graph(form, 21, turned=False)
    put_weights(model, {"w": form})
    stored = [
        len(tensor.raw_data)
        for tensor in model.graph.initializer
        if tensor.name.startswith("w.integers") and not tensor.name.endswith("shape")
    ]
    assert sum(stored) == 64 * 64 * bits // 8


def test_that_old_operators_hold_few_bits_in_whole_bytes() -> None:
    form = IntegerForm(torch.ones(64, 64, dtype=torch.int8), torch.ones(64), 2)
    model = graph(form, 17, turned=False)
    put_weights(model, {"w": form})
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert stored["w.integers"].data_type == TensorProto.INT8
    assert np.array_equal(unpacked(model), form().numpy())


def test_that_binary_weights_take_one_bit_each_in_the_file() -> None:
    form = BinaryForm(torch.ones(64, 64, dtype=torch.uint8), torch.ones(64, 1))
    model = graph(form, 20, turned=False)
    put_weights(model, {"w": form})
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert len(stored["w.0.signs"].raw_data) == 64 * 64 // 8
