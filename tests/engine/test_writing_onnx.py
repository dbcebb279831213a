"""ONNX files: the same outputs in ONNX Runtime, really smaller, and honestly measured."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from safetensors.torch import load_file
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import PrecisionMethod, stored_weights
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.float16 import Float16
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Inputs, Network, capture
from featherweight.engine.results import Export
from featherweight.engine.task import Task, read_task
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.onnx import write_onnx
from featherweight.resources.demo import network as demo


def quantized(network: Network, method: PrecisionMethod) -> Network:
    made = network.copy()
    for name, layer in list(made.layers()):
        if not method.lock(layer):
            forms = {
                tensor: method.trainable(layer.get_parameter(tensor), None)
                for tensor in stored_weights(layer)
            }
            made.replace(name, CompactLayer(layer, dict(forms)))
    settle(made)
    return made


def session(path: Path, level: str = "ORT_ENABLE_ALL") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(str(path), options)


def run(path: Path, inputs: Inputs, level: str = "ORT_ENABLE_ALL") -> list[Tensor]:
    runtime = session(path, level)
    names = [value.name for value in runtime.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in runtime.run(None, feed)]


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())


@pytest.fixture(scope="module")
def network() -> Network:
    module = demo.build()
    module.load_state_dict(load_file(Path(demo.__file__).parent / "network.safetensors"))
    return capture(module, (torch.zeros(1, 1, 28, 28),))


@pytest.fixture(scope="module")
def task(network: Network) -> Task:
    return read_task(TaskSource(data=str(Path(demo.__file__).parent / "data.npz")), network)


@pytest.fixture(scope="module")
def eight_bit(network: Network) -> Network:
    return quantized(network, Integer(bits=8))


@pytest.fixture(scope="module")
def eight_bit_export(
    network: Network, eight_bit: Network, task: Task, tmp_path_factory: pytest.TempPathFactory
) -> Export:
    path = tmp_path_factory.mktemp("eight") / "demo.onnx"
    return write_onnx(eight_bit, path, task, network, Job())


@pytest.fixture(scope="module")
def eight_bit_file(eight_bit_export: Export) -> Path:
    return Path(eight_bit_export.path)


def test_that_the_file_gives_the_outputs_of_torch_at_any_batch(
    network: Network, task: Task, tmp_path: Path
) -> None:
    export = write_onnx(network, tmp_path / "demo.onnx", task, network, Job())
    inputs, _ = task.measure.batch(range(7))
    for count in (1, 7):
        found = run(tmp_path / "demo.onnx", (inputs[0][:count],))[0]
        with torch.no_grad():
            assert relative_error(found, network.outputs(inputs[0][:count])[0]) < 1e-5
    assert export.checks["relative_error"].value < 1e-5
    assert export.checks["label_agreement"].value == 100.0


def test_that_sizes_speeds_and_shares_are_those_of_the_file(
    network: Network, task: Task, tmp_path: Path
) -> None:
    path = tmp_path / "demo.onnx"
    export = write_onnx(quantized(network, Integer(bits=4)), path, task, network, Job())
    checks = export.checks
    assert checks["bytes"].value == path.stat().st_size
    assert sum(share.bytes for share in export.shares) == path.stat().st_size
    assert checks["bytes"].value < checks["bytes_before"].value / 6
    assert checks["speedup"].value == pytest.approx(
        checks["latency_before"].value / checks["latency"].value
    )
    assert {figure.basis for figure in checks.values()} == {"measured"}
    shares = {share.layer: share.bytes for share in export.shares}
    assert shares["block2.conv2"] > 96 * 96 * 9 / 2
    assert shares["block2.conv2"] < 96 * 96 * 9 / 2 + 1500


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        (Integer(bits=8), 8),
        (Integer(bits=2), 2),
        (Codebook(clusters=16), 4),
    ],
)
def test_that_small_weights_are_unpacked_to_the_floats_that_torch_uses(
    network: Network, tmp_path: Path, method: PrecisionMethod, bits: int
) -> None:
    small, path = quantized(network, method), tmp_path / "demo.onnx"
    export = write_onnx(small, path, None, None, Job())
    inputs = (torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)),)
    with torch.no_grad():
        assert relative_error(run(path, inputs)[0], small.outputs(*inputs)[0]) < 1e-5
    weights = 152_746 * bits / 8
    assert weights < path.stat().st_size < weights + 24_000
    assert any("not faster" in note for note in export.notes)
    assert "speedup" not in export.checks


def test_that_eight_bit_layers_are_computed_in_integers_where_data_calibrates_them(
    eight_bit_file: Path, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(eight_bit_file), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 8
    assert "Conv" not in kinds


def test_that_integer_computation_keeps_the_labels_and_gains_speed(
    eight_bit_export: Export,
) -> None:
    assert eight_bit_export.checks["label_agreement"].value >= 99.0
    assert eight_bit_export.checks["speedup"].value > 1.2
    (note,) = [note for note in eight_bit_export.notes if "9 layers run in 8-bit" in note]
    assert "Ranges of activations: least squared error." in note
    assert "on this processor" in note or "because this processor" in note


def test_that_integers_in_the_file_are_those_of_the_layer(
    eight_bit_file: Path, eight_bit: Network
) -> None:
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(eight_bit_file).graph.initializer
        if tensor.data_type == TensorProto.INT8
    }
    levels = eight_bit.layer("classifier").forms["weight"].levels().numpy()
    assert np.array_equal(stored["classifier.weight.integers"], levels)
    assert len(stored) == 9


def test_that_fast_integer_sums_do_not_saturate_on_this_processor(
    eight_bit_file: Path, task: Task
) -> None:
    inputs, _ = task.measure.batch(range(64))
    fast = run(eight_bit_file, inputs)[0]
    exact = run(eight_bit_file, inputs, "ORT_DISABLE_ALL")[0]
    assert relative_error(fast, exact) < 0.02


def test_that_batch_norm_with_negative_and_zero_factors_goes_into_the_integers(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 3))
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-1.0, 0.0, 2.0, -0.5, 1.0, 3.0]))
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    small = quantized(capture(module, (torch.zeros(1, 3, 9, 9),)), Integer(bits=8))
    write_onnx(small, tmp_path / "norm.onnx", None, None, Job())
    kinds = {node.op_type for node in onnx.load(tmp_path / "norm.onnx").graph.node}
    assert "BatchNormalization" not in kinds
    inputs = (torch.randn(4, 3, 9, 9),)
    with torch.no_grad():
        assert (
            relative_error(run(tmp_path / "norm.onnx", inputs)[0], small.outputs(*inputs)[0]) < 1e-5
        )


def test_that_batch_norm_over_tokens_stays_apart(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)).eval()
    nn.init.uniform_(module[1].get_buffer("running_var"), 0.5, 2.0)
    small = quantized(capture(module, (torch.randn(2, 8, 4),)), Integer(bits=8))
    export = write_onnx(small, tmp_path / "norm.onnx", None, None, Job())
    assert export.checks["relative_error"].value < 1e-5


class Words(nn.Module):
    """Embedding, LSTM, and a linear layer on every step."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.memory = nn.LSTM(8, 12, batch_first=True, bidirectional=True)
        self.wide = nn.Linear(24, 10)
        self.score = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.wide(self.memory(self.words(x))[0]).relu()
        result: Tensor = self.score(steps.mean(1))
        return result


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.score = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.score(self.inner(x)).mean(1)
        return result


class Pictures(nn.Module):
    """Grouped and transposed convolutions with a shortcut by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 8, 3, 2, 1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.up(self.norm(self.down(x)).relu())
        result: Tensor = self.out(torch.cat([x, inner], 1))
        return result


class Pair(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 5), nn.Linear(4, 5)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x) * self.right(y), self.left(x)


@pytest.mark.parametrize(
    ("kind", "example", "method"),
    [
        (Words, (torch.zeros(1, 5, dtype=torch.long),), Integer(bits=8)),
        (Attention, (torch.zeros(1, 5, 16),), Integer(bits=4)),
        (Pictures, (torch.zeros(1, 4, 8, 8),), Integer(bits=2)),
        (Pair, (torch.zeros(1, 6), torch.zeros(1, 4)), Float16()),
    ],
)
def test_that_other_architectures_keep_their_outputs_in_small_weights(
    tmp_path: Path, kind: Callable[[], nn.Module], example: Inputs, method: PrecisionMethod
) -> None:
    torch.manual_seed(0)
    source = capture(kind(), example)
    export = write_onnx(quantized(source, method), tmp_path / "a.onnx", None, source, Job())
    assert export.checks["relative_error"].value < 1e-5
    assert not any("older exporter" in note for note in export.notes)


def test_that_a_matrix_which_the_exporter_turns_still_counts_for_its_layer(
    tmp_path: Path,
) -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.score = nn.Linear(16, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.score(self.wide(x).relu()).mean(1)
            return result

    network = capture(Steps(), (torch.zeros(1, 5, 16),))
    export = write_onnx(network, tmp_path / "a.onnx", None, None, Job())
    shares = {share.layer: share.bytes for share in export.shares}
    assert shares["wide"] > 16 * 32 * 4
    assert shares["score"] > 32 * 3 * 4


class Typed(nn.Module):
    """Follows only real tensors, so that torch.export cannot capture it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is not Tensor:
            raise TypeError("only tensors")
        result: Tensor = self.layer(x)
        return result


class Branching(Typed):
    """Goes one way or the other by its data."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) if x.sum() > 0 else self.layer(-x)
        return result


class Noisy(Typed):
    """Never gives the same twice."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) + torch.rand_like(x[:, :1])
        return result


def test_that_the_older_exporter_writes_what_the_newer_one_cannot_follow(tmp_path: Path) -> None:
    network = capture(Typed(), (torch.zeros(2, 4),))
    export = write_onnx(
        quantized(network, Integer(bits=4)), tmp_path / "typed.onnx", None, network, Job()
    )
    assert export.checks["relative_error"].value < 1e-5
    assert any("older exporter wrote the file" in note for note in export.notes)


@pytest.mark.parametrize(
    ("kind", "said"), [(Branching, "branches on its data"), (Noisy, "would differ")]
)
def test_that_a_file_that_would_not_be_the_network_is_never_written(
    tmp_path: Path, kind: Callable[[], nn.Module], said: str
) -> None:
    path = tmp_path / "old.onnx"
    path.write_bytes(b"what was there")
    with pytest.raises(UserError, match=said):
        write_onnx(capture(kind(), (torch.zeros(2, 4),)), path, None, None, Job())
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_that_a_cancelled_export_leaves_no_file(network: Network, tmp_path: Path) -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        write_onnx(network, tmp_path / "demo.onnx", None, None, job)
    assert not list(tmp_path.iterdir())


def test_that_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    network = capture(nn.Linear(4, 3), (torch.zeros(2, 4),))
    with pytest.raises(UserError, match=r"missing/a\.onnx cannot be written: No such file"):
        write_onnx(network, tmp_path / "missing" / "a.onnx", None, None, Job())


def test_that_exporting_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = capture(Pictures(), (torch.zeros(1, 4, 8, 8),))
    write_onnx(network, tmp_path / "a.onnx", None, network, Job())
    assert capfd.readouterr().out == ""
