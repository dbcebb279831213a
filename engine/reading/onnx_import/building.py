"""From the nodes of an ONNX graph to a module: run once on the example while it is built."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import GraphProto, NodeProto
from torch import Tensor

from featherweight.engine.errors import UserError, running_reason
from featherweight.engine.lifting import container, place
from featherweight.engine.network import CAPTURE_ERRORS, Inputs
from featherweight.engine.reading.bounds import largest_bytes
from featherweight.engine.reading.onnx_import import (
    arithmetic,
    fused,
    integers,
    neural,
    recurrent,
    resizing,
    selecting,
    shapes,
)
from featherweight.engine.reading.onnx_import.channels_last import without_turns
from featherweight.engine.reading.onnx_import.layers import Operands, Parameters, builders
from featherweight.engine.reading.onnx_import.model import OnnxFile
from featherweight.engine.reading.onnx_import.module import OnnxNetwork, Step, network_of
from featherweight.engine.reading.onnx_import.naming import (
    MADE_UP,
    free_name,
    layer_names,
    plain_name,
    scope_of,
)
from featherweight.engine.reading.onnx_import.rewriting import rewrite
from featherweight.engine.reading.onnx_import.values import (
    Call,
    Host,
    UnsupportedError,
    Value,
    is_host,
    operators,
)

# These fill `operators`, `builders` and `rewriters` as they are imported.
OPERATOR_MODULES = (*(arithmetic, fused, integers, neural, recurrent, resizing, selecting, shapes),)

# What an operator that lacks something, or has it of another kind, raises speaks of our code.
OURS = (ArithmeticError, AttributeError, LookupError, TypeError)
ODD = "one of its inputs or settings is missing or impossible"
# Inputs that say how, not what: they stay numbers and never become tensors of the network.
SETTINGS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 2, 3),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Tile": (1,),
    "Clip": (1, 2),
    "Split": (1,),
    "TopK": (1,),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "CumSum": (1,),
    "Trilu": (1,),
    "OneHot": (1, 2),
    "CastLike": (1,),
    "Gather": (1,),
    "NonMaxSuppression": (2, 3, 4),
    **dict.fromkeys((*arithmetic.REDUCTIONS, "ReduceProd"), (1,)),
}
# Layers of these may share a weight, like the first and the last of a language model. For others
# exporters write one tensor where two layers, of which neither was trained, are equal.
TIED = ("Gather", "Gemm", "MatMul")
LONGEST_NAME = 80
# Numpy computes with constants up to this size: three of them can ask for no more than memory.
SMALL_HOST = 1 << 8
KEEPING = ("Identity", "Transpose", "Cast", "DequantizeLinear", "Reshape", "Unsqueeze", "Squeeze")


class UntranslatableError(UserError):
    """A file has something that is no layer and no function here; `lock` says what, and where."""

    def __init__(self, path: object, lock: str) -> None:
        super().__init__(f"{path}: {lock}.", "Export the network again without it.")
        self.lock = lock


class Builder:
    """Builds the module of an ONNX file. `batch` is 1 where the file's fixed batch is set free."""

    def __init__(self, file: OnnxFile, example: Inputs, batch: int = 0) -> None:
        self.file = file
        self.batch = batch
        names = [given.name for given in file.inputs]
        self.module = network_of(len(names))(names, file.outputs)
        self.parameters = Parameters(file.constants)
        self.values: dict[str, Any] = dict(zip(self.module.inputs, example, strict=True))
        self.origins: dict[str, str] = {}
        self.layers: dict[str, str] = {}
        self.biased: set[str] = set()
        self.quantized = self.rounded = self.folded = 0
        self.nodes = self._rewritten(file.nodes)
        uses = [name for node in self.nodes for name in node.input]
        self.uses = Counter([*uses, *file.outputs])
        self.left = Counter([*file.outputs])
        for node in self.nodes:
            self.left.update(_read_by(node))
        self.users = {name: node for node in self.nodes for name in node.input}

    @property
    def constants(self) -> dict[str, Host]:
        """What is known without any input, by name."""
        return self.parameters.constants

    def build(self) -> OnnxNetwork:
        """Return the module, in eval mode.

        Raises UntranslatableError naming the operator, the node and the file where one is not read,
        and UserError where the file makes no sense.
        """
        with torch.no_grad():
            for node in self.nodes:
                self._take(node)
                self._release(node)
        for name in self.file.outputs:
            if name in self.constants:
                self.module.known[name] = self.constants[name]
                self.values[name] = torch.tensor(self.constants[name])
            if not isinstance(self.values.get(name), Tensor):
                raise UserError(
                    f"{self.file.path}: its output {name} does not depend on its inputs.",
                    "Export the network again.",
                )
        return self.module.eval()

    def _take(self, node: NodeProto) -> None:
        if node.output and node.output[0] in self.biased:
            return
        try:
            if node.op_type == "If":
                self._take_branch(node)
            else:
                self._take_operator(node)
        except UnsupportedError as error:
            lock = f"{self._described(node)} cannot be read: its {error}"
            raise UntranslatableError(self.file.path, lock) from error
        except CAPTURE_ERRORS as error:
            reason = ODD if isinstance(error, OURS) else running_reason(error)
            raise UserError(
                f"{self.file.path}: {self._described(node)} does not fit its inputs: {reason}.",
                "The file is damaged, or --input gives a shape that it does not take.",
            ) from error

    def _release(self, node: NodeProto) -> None:
        """Let go of what no later node reads: weights are parameters by then."""
        self.left.subtract(_read_by(node))
        for name in node.input:
            if not self.left[name]:
                self.values.pop(name, None)
                if name not in self.parameters.turned.values():
                    self.constants.pop(name, None)

    def _rewritten(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        try:
            return without_turns(rewrite(self.file, nodes))
        except UnsupportedError as error:
            raise UserError(
                f"{self.file.path} cannot be read: the {error} in one of its quantized or fused "
                "operators.",
                "Export the network again without them.",
            ) from error

    def _described(self, node: NodeProto) -> str:
        where = f" of {_told(node.domain)}" if node.domain not in ("", "ai.onnx") else ""
        name = node.name or next(iter(node.output), "")
        return f"operator {_told(node.op_type)}{where} at node {_told(name)!r}"

    def _take_branch(self, node: NodeProto) -> None:
        chosen = self._example(node.input[0])
        if not is_host(chosen):
            # Shapes, and what follows from them, are known; the numbers of a tensor are not.
            raise UnsupportedError("condition depends on the input (--value name=1 fixes one)")
        graphs = self.file.attributes(node)
        taken = bool(np.asarray(chosen).reshape(-1)[0])
        graph: GraphProto = graphs["then_branch" if taken else "else_branch"]
        for tensor in graph.initializer:
            self.constants[tensor.name] = self.file.array(tensor)
        for inner in self._rewritten(graph.node):
            self._take(inner)
        for name, result in zip(node.output, graph.output, strict=True):
            if result.name in self.constants:
                self.constants[name] = self.constants[result.name]
            else:
                self._add(Step(lambda value: value, (result.name,), (name,)))

    def _take_operator(self, node: NodeProto) -> None:
        known = node.op_type in operators or node.op_type in builders
        if node.domain not in ("", "ai.onnx") or not known:
            raise UntranslatableError(
                self.file.path, f"{self._described(node)} is none that can be read"
            )
        while node.output and not node.output[-1]:
            node.output.pop()
        call = Call(
            node.op_type,
            node.name,
            self.file.version,
            len(node.output),
            self.batch,
            self._leads(node),
            self.file.attributes(node),
        )
        like = node.op_type == "CastLike" and node.input[0] in self.constants
        if like or all(not name or name in self.constants for name in node.input):
            self._fold(node, call)
        elif not self._add_layer(node, call):
            self._add_function(node, call)

    def _leads(self, node: NodeProto) -> bool:
        first = self.values.get(node.input[0]) if node.input else None
        return isinstance(first, Tensor) and first.ndim > 0 and first.shape[0] == self.batch

    def _fold(self, node: NodeProto, call: Call) -> None:
        if node.op_type not in operators:
            raise UnsupportedError("inputs are all constants")
        settings = SETTINGS.get(node.op_type, ())
        arguments = [self._constant(name, at in settings) for at, name in enumerate(node.input)]
        result = operators[node.op_type](call, *arguments)
        results = result if isinstance(result, tuple) else (result,)
        for name, value in zip(node.output, results, strict=False):
            array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
            self.constants[name] = array
            self.folded += array.nbytes
        if self.folded > largest_bytes(self.file.path):
            raise UnsupportedError("constants grow out of all proportion to the file")
        if node.op_type in KEEPING and node.input:
            source = node.input[0]
            if MADE_UP.fullmatch(node.output[0]) or node.op_type == "DequantizeLinear":
                self.origins[node.output[0]] = self.origins.get(source, source)
            self.quantized += node.op_type == "DequantizeLinear"
            if node.op_type == "Transpose" and self.constants[source].ndim == 2:
                self.parameters.turned[node.output[0]] = source
            if node.op_type == "Identity" and source in self.parameters.turned:
                self.parameters.turned[node.output[0]] = self.parameters.turned[source]

    def _constant(self, name: str, setting: bool) -> Value:
        """Return a constant to compute with: as a tensor, whose results are bounded, if large."""
        array = self.constants.get(name)
        if setting or array is None or array.dtype == object or array.size <= SMALL_HOST:
            return self._example(name)
        return torch.from_numpy(array if array.flags.writeable else np.array(array))

    def _add_layer(self, node: NodeProto, call: Call) -> bool:
        build = builders.get(node.op_type)
        if build is None:
            return False
        names, outputs = list(node.input), list(node.output)
        addition = self._bias_behind(node)
        if addition is not None:
            bias = next(name for name in addition.input if name != node.output[0])
            names, outputs = [*names[:2], self._flat(bias)], list(addition.output)
        values = [self._example(name) for name in names]
        parameters = self.parameters
        if node.op_type not in TIED:
            parameters = Parameters(self.constants, parameters.turned, taken=parameters.taken)
        built = build(call, Operands(names, values, parameters))
        if built is None:
            return False
        if addition is not None:
            self.biased.add(addition.output[0])
        tensors = [name for name in names if name in self.constants]
        same = f"{call.op} {tensors} {sorted(call.attributes.items())} {scope_of(node)}"
        if same not in self.layers:
            sources = [self.origins.get(name, name) for name in tensors]
            wanted = layer_names(node, sources)
            self.layers[same] = free_name(self.module, wanted)
            place(self.module, self.layers[same], built.module)
        inputs = tuple("" if name in tensors else name for name in names)
        self._add(Step(built.apply, inputs, tuple(outputs), self.layers[same]))
        return True

    def _bias_behind(self, node: NodeProto) -> NodeProto | None:
        """Return the addition that gives a product with a matrix, or a convolution, its bias."""
        if node.op_type not in ("MatMul", "Conv") or len(node.input) != 2:
            return None
        product = node.output[0]
        user = self.users.get(product)
        weight = self.constants.get(node.input[1])
        if user is None or self.uses[product] != 1 or user.op_type != "Add" or weight is None:
            return None
        shapes = [self.constants[name].shape for name in user.input if name in self.constants]
        if node.op_type == "MatMul":
            return user if weight.ndim == 2 and shapes == [weight.shape[1:]] else None
        around = (weight.shape[0], *(1 for _ in weight.shape[2:]))
        return user if shapes in ([around], [(1, *around)]) else None

    def _flat(self, name: str) -> str:
        """Return the name of a constant, or of its copy with one axis."""
        array = self.constants[name]
        if array.ndim == 1:
            return name
        self.constants[f"{name}.flat"] = array.reshape(-1)
        return f"{name}.flat"

    def _add_function(self, node: NodeProto, call: Call) -> None:
        settings = SETTINGS.get(node.op_type, ())
        flows = any(isinstance(self._example(name), Tensor) for name in node.input)
        for position, name in enumerate(node.input):
            array = self.constants.get(name)
            if array is None:
                continue
            setting = position in settings or array.size == 1
            if not setting and (flows or array.dtype.kind == "f"):
                self._hold(name, array)
            else:
                self.module.known[name] = array
        self.rounded += node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
        run = operators[node.op_type]
        step = Step(lambda *values: run(call, *values), tuple(node.input), tuple(node.output))
        self._add(step)

    def _hold(self, name: str, array: Host) -> None:
        """Make a constant a tensor of the module: a parameter if the file's own, else a buffer."""
        if name in self.module.held:
            return
        source = self.origins.get(name, name)
        wanted = "constant" if MADE_UP.fullmatch(source) else plain_name(source)
        self.module.held[name] = free_name(self.module, [wanted])
        parent, _, leaf = self.module.held[name].rpartition(".")
        owner = container(self.module, parent)
        if array.dtype == np.float32 and name in self.file.constants:
            owner.register_parameter(leaf, self.parameters.get(name))
        else:
            owner.register_buffer(leaf, torch.tensor(array))

    def _example(self, name: str) -> Value:
        if name in self.values or not name:
            return self.values.get(name)
        if name not in self.constants:
            raise UnsupportedError(f"input {name!r} is computed nowhere before it")
        return self.constants[name]

    def _add(self, step: Step) -> None:
        self.values.update(self.module.outcome(step, self.values))
        self.module.steps.append(step)


def _read_by(node: NodeProto) -> list[str]:
    """Return the names that a node reads, inside its branches too."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner = [name for graph in graphs for one in graph.node for name in _read_by(one)]
    inner += [output.name for graph in graphs for output in graph.output]
    return [*filter(None, node.input), *inner]


def _told(name: str) -> str:
    """Return a name of the file as it can stand in a sentence."""
    return " ".join(name.split())[:LONGEST_NAME]
