"""ONNX files that no graph of layers can hold open with the layers that hold their weights."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper
from opaque_files import BOOL, FILES, FLOAT, INT64, loop, node, saved, scan, value, whole
from torch import Tensor, nn

from featherweight.engine.bounded_runtime import BoundedRuntime, Bounds
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning

SMALL = Choice(
    sparsity=Setting("magnitude", {"sparsity": 0.5}),
    precision=Setting("codebook", {"clusters": 16}),
    coding=Setting("huffman"),
)


LAYERS = {
    "loop": {
        "words": ("Embedding", 3600),
        "rnn.input": ("Linear", 1920),
        "fc": ("Linear", 980),
        "inner": ("Linear", 2304),
    },
    "scan": {"first": ("Linear", 768), "inner": ("Linear", 1024)},
    "branch": {"w": ("Conv2d", 1152), "the_Conv_o": ("Conv2d", 1152)},
    "several": {"W": ("LSTM", 2688), "out": ("Linear", 192)},
    "decoder": dict.fromkeys("qkvo", ("Linear", 1024)),
}


def other_inputs(network: Network) -> tuple[Tensor, ...]:
    return tuple(-one if one.is_floating_point() else one.flip(-1) for one in network.example)


def of_runtime(path: Path, inputs: tuple[Tensor, ...]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options)
    names = [given.name for given in session.get_inputs()]
    feed = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
    return list(session.run(None, feed))


def check(network: Network, path: Path) -> None:
    for inputs in (network.example, other_inputs(network)):
        pairs = zip(network.outputs(*inputs), of_runtime(path, inputs), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_that_a_file_without_a_graph_opens_with_its_layers_and_the_reason(
    name: str, tmp_path: Path
) -> None:
    path = FILES[name](tmp_path / "net.onnx")
    network = read_network(Source(path=str(path)))
    summary = survey(network)
    layers = {layer.name: (layer.kind, layer.parameters) for layer in summary.layers}
    assert layers.pop("(functions)") == ("Functions", 0)
    assert layers == LAYERS[name]
    assert "ONNX Runtime" in network.graph_lock
    assert "at node 'the_" in network.graph_lock
    assert all(layer.macs is None for layer in summary.layers)
    assert summary.uncounted == ("what ONNX Runtime computes in the network itself",)
    assert summary.forms == ("onnx", "safetensors", "archive")
    assert not summary.nodes
    check(network, path)
    check(network.copy(), path)


@pytest.mark.parametrize("name", FILES)
def test_that_it_is_compressed_exported_and_opened_again(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path / "net.onnx")
    session = Session()
    summary = session.open(Source(path=str(path)))
    choices = {layer.name: SMALL for layer in summary.layers if layer.kind != "Functions"}
    recipe = Recipe(layers=choices)
    predicted = session.predict(recipe)
    result = session.compress(recipe, "small", str(tmp_path / "results"), Job())
    archive = tmp_path / "results" / result.archive
    assert archive.stat().st_size < path.stat().st_size / 3
    assert predicted.after.bits == sum(entry.bits for entry in result.ledger.entries)
    session.export(str(archive), "archive", str(tmp_path / "small.fwz"), Job())
    export = session.export(str(archive), "onnx", str(tmp_path / "small.onnx"), Job())
    assert export.checks["relative_error"].value < 1e-3
    assert (tmp_path / "small.onnx").stat().st_size < path.stat().st_size / 1.8
    again = read_network(Source(path=str(archive), factory=str(path)))
    assert again.graph_lock
    check(again, tmp_path / "small.onnx")
    reopened = read_network(Source(path=str(tmp_path / "small.onnx")))
    check(reopened, tmp_path / "small.onnx")


def test_that_what_is_not_compressed_is_written_as_it_was(tmp_path: Path) -> None:
    path = loop(tmp_path / "net.onnx", kind=np.float16)
    session = Session()
    session.open(Source(path=str(path)))
    assert any("float16" in note for note in session.summary.notes)
    session.export("", "onnx", str(tmp_path / "same.onnx"), Job())
    assert abs((tmp_path / "same.onnx").stat().st_size - path.stat().st_size) < 200
    network = read_network(Source(path=str(tmp_path / "same.onnx")))
    check(network, path)
    choices = {"narrow": SMALL}
    result = session.compress(Recipe(layers=choices), "a", str(tmp_path / "r"), Job())
    archive = str(tmp_path / "r" / result.archive)
    session.export(archive, "onnx", str(tmp_path / "small.onnx"), Job())
    check(
        read_network(Source(path=archive, factory=str(path))),
        tmp_path / "small.onnx",
    )


@pytest.mark.parametrize(
    ("setting", "slot", "reason"),
    [
        (Setting("svd"), "structure", "runs in ONNX Runtime with its weights"),
        (Setting("wanda"), "sparsity", "neither inputs nor gradients"),
        (Setting("codebook", {"weighting": "hessian"}), "precision", "neither inputs nor"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.method,
)
def test_that_what_needs_more_than_weights_is_locked_with_the_reason(
    setting: Setting, slot: str, reason: str, tmp_path: Path
) -> None:
    session = Session()
    session.open(Source(path=str(scan(tmp_path / "net.onnx"))))
    recipe = Recipe(layers={"first": Choice(**{slot: setting})})
    with pytest.raises(UserError, match=f"Layer first cannot take .*{reason}"):
        session.compress(recipe, "small", str(tmp_path), Job())
    first = next(layer for layer in session.summary.layers if layer.name == "first")
    assert "magnitude" not in first.locks
    assert "no graph" in first.locks["channel_pruning"]


def test_that_training_and_other_formats_are_refused_with_the_reason(tmp_path: Path) -> None:
    session = Session()
    session.open(Source(path=str(scan(tmp_path / "net.onnx"))))
    recipe = Recipe(layers={"first": SMALL}, recovery=FineTuning(epochs=1))
    with pytest.raises(UserError, match="cannot be trained: it runs in ONNX Runtime"):
        session.compress(recipe, "small", str(tmp_path), Job())
    with pytest.raises(UserError, match=r"small\.pt2 cannot hold the network.*Scan") as caught:
        session.export("", "pt2", str(tmp_path / "small.pt2"), Job())
    assert caught.value.hint.startswith("Export ONNX")


class Stepping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(12, 12)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        for _ in range(int(steps)):
            x = torch.tanh(self.cell(x))
        return self.out(x)


def test_that_a_loop_of_torchs_own_exporter_opens_with_its_layers(tmp_path: Path) -> None:
    net, path = Stepping().eval(), tmp_path / "net.onnx"
    inputs = (torch.randn(2, 12), torch.tensor(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch.jit.script(net), inputs, path, dynamo=False, input_names=["x", "steps"]
        )
    network = read_network(Source(path=str(path), input_shapes=((2, 12), (1,))))
    assert [(name, type(layer).__name__) for name, layer in network.layers()] == [
        ("cell", "Linear"),
        ("out", "Linear"),
    ]
    for steps in (0, 1, 4):
        with torch.no_grad():
            expected = net(inputs[0], torch.tensor(steps))
        given = network.outputs(inputs[0], torch.tensor([steps]))[0]
        assert torch.allclose(given, expected, atol=1e-6)


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(12, 5), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.cond(x.sum() > 0, self.one, self.other, (x,))
        return result


def test_that_a_branch_of_torchs_newer_exporter_opens_with_its_layers(tmp_path: Path) -> None:
    net, path = Deciding().eval(), tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(2, 12),), path, dynamo=True, verbose=False)
    network = read_network(Source(path=str(path)))
    assert [type(layer).__name__ for _, layer in network.layers()] == ["Linear", "Linear"]
    for x in (torch.ones(2, 12), -torch.ones(2, 12)):
        with torch.no_grad():
            assert torch.allclose(network.outputs(x)[0], net(x), atol=1e-6)


def test_that_damage_ends_in_a_sentence(tmp_path: Path) -> None:
    path = loop(tmp_path / "net.onnx")
    content = path.read_bytes()
    for cut in range(1, 20):
        path.write_bytes(content[: len(content) * cut // 20])
        with pytest.raises(UserError, match=r"net\.onnx"):
            read_network(Source(path=str(path)))


def body_of(nodes: list[NodeProto]) -> GraphProto:
    inputs = [value("i", INT64, []), value("go", BOOL, []), value("v")]
    return helper.make_graph(
        [node("Identity", "go", "on"), *nodes], "body", inputs, [value("on", BOOL, []), value("w")]
    )


def looping(path: Path, *nodes: NodeProto) -> Path:
    graph = helper.make_graph(
        [node("Loop", "n - x", "y", body=body_of(list(nodes)))],
        *("net", [value("x", FLOAT, [1, 4])], [value("y")]),
        [whole("n", 1 << 40, alone=True)],
    )
    return saved(path, graph)


def test_that_a_loop_that_fills_memory_is_stopped(tmp_path: Path) -> None:
    path = looping(tmp_path / "net.onnx", node("Concat", "v v", "w", axis=0))
    with pytest.raises(UserError, match=r"net\.onnx does not run .* needs more than 1\d+ MB"):
        read_network(Source(path=str(path)))


def test_that_a_loop_without_an_end_is_stopped(tmp_path: Path) -> None:
    path = looping(tmp_path / "net.onnx", node("Identity", "v", "w"))
    runtime = BoundedRuntime(path.read_bytes(), Bounds(1 << 20, 0.2, 1))
    with pytest.raises(RuntimeError, match="takes more than"):
        runtime.run({"x": np.ones((1, 4), np.float32)})


def test_that_a_file_beside_is_read_from_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 16)
    inside = tmp_path / "inside"
    inside.mkdir()
    outside = TensorProto(name="k", dims=[1, 4], data_type=FLOAT, data_location=1)
    outside.external_data.add(key="location", value="../secret")
    held = helper.make_node("Constant", [], ["k"], value=outside)
    path = looping(inside / "net.onnx", held, node("Add", "v k", "w"))
    with pytest.raises(UserError, match="outside its folder"):
        read_network(Source(path=str(path)))


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize(
    "precision",
    [
        Setting("codebook", {"clusters": 16}),
        Setting("integer", {"bits": 4}),
        Setting("integer", {"bits": 3}),
        Setting("integer", {"bits": 8}),
    ],
    ids=["codebook", "integer-4", "integer-3", "integer-8"],
)
def test_that_weights_are_as_small_as_the_operators_of_the_file_allow(
    precision: Setting, opset: int, tmp_path: Path
) -> None:
    path = loop(tmp_path / "net.onnx", opset)
    session = Session()
    session.open(Source(path=str(path)))
    recipe = Recipe(layers={"words": Choice(precision=precision)})
    result = session.compress(recipe, "small", str(tmp_path), Job())
    export = session.export(
        str(tmp_path / result.archive), "onnx", str(tmp_path / "small.onnx"), Job()
    )
    share = next(share.bytes for share in export.shares if share.layer == "words")
    few = opset >= 18 and precision.options.get("bits", 4) < 8
    assert share < 3600 * (0.5 if few else 1) + 1200
