"""What is checked of every network of the zoo, in its small size and in its published one.

Each check returns nothing where it holds and raises AssertionError, or the engine's UserError,
with the reason where it does not.
"""

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from architectures.zoo import Architecture, Size
from safetensors.torch import save_model
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from featherweight.engine.channel_removal import remove_channels
from featherweight.engine.events import Source
from featherweight.engine.inspecting.channel_flow import tensor_at
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Inputs, Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.traced_sizes import follow_sizes

SAME = 1e-5
OPSET = 17

Outputs = tuple[Tensor, ...]


def module_of(size: Size) -> nn.Module:
    """Build a network whose norms are as after training: no mean is 0 and no variance 1."""
    module = size.build()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0.0, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.1)
    return module


def outputs_of(module: nn.Module, inputs: Inputs) -> Outputs:
    """Run a network; always a tuple of tensors."""
    with torch.no_grad():
        result = module(*inputs)
    if isinstance(result, dict):
        result = tuple(result.values())
    return result if isinstance(result, tuple) else (result,)


def paired(inputs: Inputs) -> Inputs:
    """Return a batch of two: torch takes a batch of one for fixed."""
    return tuple(torch.cat([tensor, tensor.flip(-1)]) for tensor in inputs)


def assert_same(found: Outputs, expected: Outputs) -> None:
    """Assert that the relative error of every output is small."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape, f"shape {tuple(one.shape)} is not {tuple(other.shape)}"
        error = float(((one - other).abs().max() / other.abs().max()).detach())
        assert error < SAME, f"relative error {error:.1g}"


class Files:
    """A network of the zoo saved in every format that can hold it."""

    def __init__(self, entry: Architecture, size: Size, module: nn.Module, folder: Path) -> None:
        self.entry, self.size, self.module, self.folder = entry, size, module, folder
        self.inputs = entry.inputs(size.shapes)
        which = "small" if size is entry.small else "full"
        self.factory = folder / f"factory_of_{entry.name}.py"
        lines = ("from architectures.zoo import ZOO", "", "", "def build():")
        body = f"    return ZOO[{entry.name!r}].{which}.build()"
        self.factory.write_text("\n".join((*lines, body, "")))

    def pickle(self) -> Network:
        """Save the whole module."""
        path = self.folder / "whole.pt"
        torch.save(self.module, path)
        return self._opened(path, trust=("architectures",))

    def state_dict(self) -> Network:
        """Save the weights, under a key as training scripts do, with the factory."""
        path = self.folder / "weights.pth"
        torch.save({"state_dict": self.module.state_dict(), "epoch": 3}, path)
        return self.from_factory(path)

    def safetensors(self) -> Network:
        """Save the weights without a pickle, with the factory."""
        path = self.folder / "weights.safetensors"
        save_model(self.module, str(path))
        return self.from_factory(path)

    def exported_program(self) -> Network:
        """Save what torch.export draws."""
        path = self.folder / "program.pt2"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            shapes = tuple({0: Dim.AUTO} for _ in self.inputs)
            program = torch.export.export(
                self.module, paired(self.inputs), dynamic_shapes=shapes, strict=False
            )
            torch.export.save(program, path)
        return read_network(Source(path=str(path)))

    def traced_onnx(self) -> Network:
        """Save with torch's older ONNX exporter."""
        path = self.folder / "traced.onnx"
        write_traced(self.module, paired(self.inputs), path)
        return self._opened_onnx(path)

    def graph_onnx(self) -> Network:
        """Save with torch's newer ONNX exporter."""
        path = self.folder / "graph.onnx"
        write_drawn(self.module, paired(self.inputs), path)
        return self._opened_onnx(path)

    def archive(self, network: Network) -> Network:
        """Save an open network as ours."""
        path = self.folder / "network.fwz"
        write_archive(network, {}, path)
        return read_network(Source(path=str(path)))

    def from_factory(self, path: Path) -> Network:
        """Open a file that holds weights only."""
        return self._opened(path, (str(self.factory),), f"{self.factory}:build")

    def _opened(self, path: Path, trust: tuple[str, ...], factory: str = "") -> Network:
        dtypes = ["int64" if self.entry.words else "float32"] * len(self.inputs)
        source = Source(
            path=str(path),
            factory=factory,
            trust=trust,
            input_shapes=self.size.shapes,
            input_dtypes=tuple(dtypes),
        )
        return read_network(source)

    def _opened_onnx(self, path: Path) -> Network:
        return read_network(Source(path=str(path), input_shapes=self.size.shapes))


class Traceable(nn.Module):
    """A copy of a graph as the older exporter needs it, inside a module that is none."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = copy.deepcopy(module)
        follow_sizes(self.module)

    def forward(self, *inputs: Tensor) -> object:
        """Run the other."""
        return self.module(*inputs)


def write_traced(
    module: nn.Module, inputs: Inputs, path: Path, free: Mapping[int, str] | None = None
) -> None:
    """Export to ONNX with the older exporter, the batch free, or these dimensions of all inputs."""
    names = [f"input_{position}" for position in range(len(inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Traceable(module).eval() if isinstance(module, fx.GraphModule) else module,
            inputs,
            path,
            dynamo=False,
            input_names=names,
            dynamic_axes={name: free or {0: "batch"} for name in names},
            opset_version=OPSET,
        )


def write_drawn(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """Export to ONNX with the newer exporter, the batch free."""
    batch = Dim("batch")
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )


def run_onnx(path: Path, inputs: Inputs) -> Outputs:
    """Run an ONNX file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return tuple(torch.from_numpy(value) for value in session.run(None, feed))


def expected_macs(module: nn.Module, inputs: Inputs) -> int:
    """Return MACs by torch's own count; those of recurrent layers by their formula instead."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    total = counter.get_total_flops() // 2
    for name, layer in module.named_modules():
        if isinstance(layer, nn.RNNBase):
            counted = counter.get_flop_counts().get(f"{type(module).__name__}.{name}", {})
            matrices = sum(value.numel() for value in layer.parameters() if value.ndim == 2)
            total += matrices * inputs[0].shape[1] - sum(counted.values()) // 2
    return total


def parameters_of(module: nn.Module) -> int:
    """Count parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def assert_counts(network: Network, module: nn.Module, inputs: Inputs) -> None:
    """Assert that parameters and MACs per sample are those that torch itself counts.

    An ONNX file holds norms folded into convolutions, and weights that are used twice twice.
    """
    summary = survey(network)
    folded = network.origin.format == "ONNX"
    parameters = parameters_of(network.module if folded else module)
    assert summary.parameters == parameters, f"{summary.parameters} parameters, not {parameters}"
    macs = expected_macs(module, inputs)
    assert summary.macs == macs, f"{summary.macs} MACs, not {macs}"
    assert not summary.uncounted, f"not counted: {summary.uncounted}"


def everywhere(network: Network, coupling: Coupling, ratio: float) -> Plan:
    """Plan to remove a share of the channels of every set."""
    setting = ChannelPruning(ratio=ratio)
    return plan(network, coupling, {found.layers[0]: setting for found in coupling.sets})


def pruned_of(network: Network, removal: Plan) -> Network:
    """Return a copy of a network without the channels of a plan."""
    pruned = network.copy()
    remove_channels(pruned, removal)
    return pruned


def zeroed(network: Network, removal: Plan) -> Network:
    """Return a copy whose slices that a plan cuts away are zero instead.

    With its columns zero, what a channel's value is does not matter; that lets activations in that
    are not 0 at 0. Where channels are summed without weights (queries with keys), they are 0.
    """
    made = network.copy()
    with torch.no_grad():
        for name, axes in removal.coupling.weights.items():
            for axis in axes:
                gone = torch.from_numpy(np.flatnonzero(~removal.stays(axis.atoms)))
                if "running_var" not in name:
                    tensor_at(made.module, name).index_fill_(axis.dimension, gone, 0.0)
    return made


def assert_removed(network: Network, pruned: Network, removal: Plan, inputs: Inputs) -> None:
    """Assert that a network without channels is smaller and computes what zeros would."""
    assert len(removal.atoms), f"nothing can be removed: {removal.coupling.locks}"
    assert survey(pruned).parameters < survey(network).parameters
    assert_same(
        outputs_of(pruned.module, inputs), outputs_of(zeroed(network, removal).module, inputs)
    )


def assert_trains(network: Network, inputs: Inputs) -> None:
    """Assert that one step of training changes every output."""
    trained = network.copy()
    before = outputs_of(trained.module, inputs)
    trained.module.train()
    optimizer = torch.optim.SGD(trained.module.parameters(), 0.01)
    results = trained.outputs(*paired(inputs))
    sum((result.square().mean() for result in results), torch.zeros(())).backward()
    optimizer.step()
    after = outputs_of(trained.module.eval(), inputs)
    for one, other in zip(before, after, strict=True):
        assert not torch.equal(one, other), "a step of training changes nothing"


def analysed(network: Network) -> Coupling:
    """Return the coupling of a network. Raises AssertionError with the reason without a graph."""
    assert not network.graph_lock, network.graph_lock
    return analyse(network)
