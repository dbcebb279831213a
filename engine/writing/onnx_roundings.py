"""Rounded activations in an ONNX graph, found in the arithmetic that exporters make of them.

They write a `RoundedActivation` as Div, Round, Clip and Mul, where the first and the last are left
out if the scale is 1.
"""

from dataclasses import dataclass

import onnx
from onnx import NodeProto, numpy_helper

from featherweight.engine.writing.activation_ranges import Range
from featherweight.engine.writing.onnx_weights import set_nodes

LARGEST = 255


@dataclass(frozen=True)
class _Chain:
    """The nodes that round one value, and how."""

    nodes: list[NodeProto]
    range: Range

    @property
    def value(self) -> str:
        name: str = self.nodes[0].input[0]
        return name

    @property
    def rounded(self) -> str:
        name: str = self.nodes[-1].output[0]
        return name


def take_roundings(model: onnx.ModelProto) -> dict[str, Range]:
    """Take what rounds values to 8 bits out of a graph, in place.

    Returns the ranges by the names of the values. Who read them rounded now reads them as they are.
    """
    graph = model.graph
    links = _Links(graph)
    chains = [chain for node in graph.node if (chain := links.chain(node)) is not None]
    if not chains:
        return {}
    instead = {chain.rounded: chain.value for chain in chains}
    gone = {output for chain in chains for node in chain.nodes for output in node.output}
    left = [node for node in graph.node if not gone.intersection(node.output)]
    for node in left:
        node.input[:] = [instead.get(name, name) for name in node.input]
    set_nodes(graph, left)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    return {chain.value: chain.range for chain in chains}


class _Links:
    """Who makes and who reads the values of a graph, and which of them are known numbers."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                # A shape is the same before and after it.
                if node.op_type != "Shape":
                    self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}

    def chain(self, node: NodeProto) -> _Chain | None:
        """Return the chain in which a Round stands, None where it does anything else."""
        clip = self._reader(node.output[0], "Clip") if node.op_type == "Round" else None
        if clip is None or len(clip.input) != 3:
            return None
        low, high = (self.number(name) for name in clip.input[1:])
        if low is None or high is None or not (low <= 0 <= high and high - low <= LARGEST):
            return None
        scale, nodes = 1.0, [node, clip]
        divided, scaled = self.makers.get(node.input[0]), self._reader(clip.output[0], "Mul")
        if divided is not None and divided.op_type == "Div" and scaled is not None:
            scale = self.number(divided.input[1]) or 0.0
            nodes = [divided, node, clip, scaled]
            if scale <= 0 or scale != self.number(scaled.input[1]):
                return None
        found = _Chain(nodes, Range(scale, round(-low), round(high - low)))
        alone = all(self._alone(step.input[0]) for step in nodes)
        return found if alone and found.rounded not in self.outputs else None

    def number(self, name: str) -> float | None:
        """Return a known number, None where it is none or more than one."""
        tensor, maker = self.tensors.get(name), self.makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            tensor = next((each.t for each in maker.attribute if each.name == "value"), None)
        if tensor is None or any(side != 1 for side in tensor.dims):
            return None
        return float(numpy_helper.to_array(tensor).reshape(()))

    def _reader(self, name: str, kind: str) -> NodeProto | None:
        reader = self.readers.get(name, [None])[0]
        return reader if reader is not None and reader.op_type == kind else None

    def _alone(self, name: str) -> bool:
        """Say whether a value has one reader, and is no output."""
        return len(self.readers.get(name, [])) == 1 and name not in self.outputs
