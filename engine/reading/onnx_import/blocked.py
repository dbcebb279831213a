"""The layout for one processor that ONNX Runtime's optimizer writes, as plain operators again.

It keeps values in blocks of 8 or 16 channels (NCHWc), with channels of zeros that fill the last
block, and lays weights out to match: a value in blocks is opened as the plain one that it is.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from featherweight.engine.reading.onnx_import.model import OnnxFile
from featherweight.engine.reading.onnx_import.values import Host, UnsupportedError

DOMAIN = "com.microsoft.nchwc"
SMALL, LARGE = 8, 16
POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclass(frozen=True)
class _Conv:
    """A convolution in blocks: its weight as it lies, and whether its input has blocks too."""

    node: NodeProto
    weight: Host
    bias: Host | None
    groups: int
    inside: bool

    @property
    def outputs(self) -> int:
        return len(self.weight)

    @property
    def depthwise(self) -> bool:
        return self.groups == self.outputs and self.weight.shape[1] == 1

    def plain(self, block: int) -> Host:
        """Return the weight in the order of ONNX, channels that fill blocks included."""
        outputs, inputs, *kernel = self.weight.shape
        around = range(2, 2 + len(kernel))
        fits = outputs % block == 0
        if self.depthwise or not self.inside:
            shape, order = (-1, inputs, *kernel, block), (0, len(kernel) + 2, 1, *around)
        else:
            fits = fits and inputs % block == 0
            shape = (-1, inputs // block, *kernel, block, block)
            spatial = tuple(range(2, 2 + len(kernel)))
            order = (0, len(kernel) + 3, 1, len(kernel) + 2, *spatial)
        if not fits:
            raise UnsupportedError("blocks of channels do not fit their weights")
        return self.weight.reshape(shape).transpose(order).reshape(self.weight.shape)


class _Plain:
    """Finds how many channels every value in blocks has, and puts plain nodes in their place.

    `same` joins values that have the same channels; `least` is how many they have at least.
    """

    def __init__(self, file: OnnxFile, nodes: Sequence[NodeProto]) -> None:
        self.file = file
        self.same: dict[str, str] = {}
        self.least: dict[str, int] = {}
        self.convs: dict[str, _Conv] = {}
        self.weights: dict[str, Host] = {}
        for node in nodes:
            self._follow(node)
        self.widths = self._widths()
        self.block = (self._known_block(nodes) or _block_here()) if self.convs else 0
        for name, conv in self.convs.items():
            self._count(name, conv)
        for node in nodes:
            if node.domain == DOMAIN and node.op_type == "ReorderOutput":
                self._at_least(node.input[0], _settings(file, node)["channels"])
            elif node.op_type == "Concat" and node.output[0] in self.same:
                # Only whole blocks are put behind one another.
                for name in (*node.input, *node.output):
                    self._at_least(name, self.widths.get(self._root(name), 0))

    def _follow(self, node: NodeProto) -> None:
        """Note which values are in blocks, and which of them have the same channels."""
        blocked = [name for name in node.input if name in self.same]
        if node.domain == DOMAIN and node.op_type == "Conv":
            conv = self._conv(node)
            self.convs[node.output[0]] = conv
            blocked = [node.input[0]] if conv.inside and conv.depthwise else []
            blocked += [name for name in node.input[3:4] if name]
        elif node.domain == DOMAIN and node.op_type == "ReorderInput":
            blocked = []
        elif (node.domain == DOMAIN and node.op_type == "ReorderOutput") or not blocked:
            return
        for name in node.output:
            self.same.setdefault(name, name)
            if node.op_type != "Concat":
                for other in blocked:
                    self.same[self._root(other)] = self._root(name)

    def _conv(self, node: NodeProto) -> _Conv:
        names = [name for name in node.input[1:3] if name]
        if any(name not in self.file.constants for name in names):
            raise UnsupportedError("weights in blocks are computed, not constants")
        weight, *bias = (self.file.constants[name] for name in names)
        groups = _settings(self.file, node).get("group", 1)
        inside = node.input[0] in self.same
        return _Conv(node, weight, bias[0] if bias else None, groups, inside)

    def _root(self, name: str) -> str:
        while self.same.setdefault(name, name) != name:
            self.same[name] = self.same[self.same[name]]
            name = self.same[name]
        return name

    def _at_least(self, name: str, count: int) -> None:
        root = self._root(name)
        self.least[root] = max(self.least.get(root, 0), count)

    def channels(self, name: str) -> int:
        """Return how many channels a value has without those that only fill its last block."""
        return self.least.get(self._root(name), 0)

    def _widths(self) -> dict[str, int]:
        """Return how many channels values have in all, as far as weights tell."""
        widths: dict[str, int] = {}
        for name, conv in self.convs.items():
            widths[self._root(name)] = conv.outputs
            if conv.inside and not conv.depthwise:
                inputs = conv.weight.shape[1] * conv.groups
                widths[self._root(conv.node.input[0])] = inputs
        return widths

    def _known_block(self, nodes: Sequence[NodeProto]) -> int:
        """Return the size of a block where the sizes of weights allow only one, else 0."""
        small = large = False
        for conv in self.convs.values():
            outputs, inputs = conv.weight.shape[:2]
            small |= outputs % LARGE != 0
            if conv.inside and not conv.depthwise:
                small |= inputs % LARGE != 0
            # Only an input that has fewer channels than a block is taken without blocks.
            large |= not conv.inside and inputs >= SMALL
        for node in nodes:
            if node.domain == DOMAIN and node.op_type == "ReorderOutput":
                width = self.widths.get(self._root(node.input[0]), 0)
                large |= width - _settings(self.file, node)["channels"] >= SMALL
        if small and large:
            raise UnsupportedError("blocks of channels have several sizes")
        return SMALL if small else LARGE if large else 0

    def _count(self, name: str, conv: _Conv) -> None:
        """Count channels up to the last that has a number other than zero."""
        weight = conv.plain(self.block)
        self.weights[name] = weight
        used = np.abs(weight).max(axis=tuple(range(1, weight.ndim))) > 0
        if conv.bias is not None:
            used |= conv.bias != 0
        whole = conv.groups > 1 and not conv.depthwise
        self._at_least(name, len(used) if whole else _last(used))
        if conv.inside and not conv.depthwise:
            read = np.abs(weight).max(axis=(0, *range(2, weight.ndim))) > 0
            count = weight.shape[1] * conv.groups if whole else _last(read)
            self._at_least(conv.node.input[0], count)

    def nodes(self, nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
        """Give the nodes in their order, without blocks."""
        for node in nodes:
            if node.domain != DOMAIN:
                yield node
            elif node.op_type == "Conv":
                yield self._plain_conv(node)
            elif node.op_type in ("ReorderInput", "ReorderOutput"):
                yield from self._reordered(node)
            elif node.op_type == "Upsample":
                yield self._upsampled(node)
            elif node.op_type in POOLS:
                made = NodeProto()
                made.CopyFrom(node)
                made.domain = ""
                yield made
            else:
                yield node

    def _plain_conv(self, node: NodeProto) -> NodeProto:
        name = node.output[0]
        conv, count = self.convs[name], self.channels(name)
        weight = self.weights.pop(name)[:count]
        if conv.inside and conv.groups == 1:
            weight = weight[:, : self.channels(node.input[0])]
        # An output's name is no other constant's.
        inputs = [node.input[0], self._constant(f"_{name}_weight", weight)]
        if conv.bias is not None:
            kept = node.input[2] if count == len(conv.bias) else f"_{name}_bias"
            inputs.append(self._constant(kept, conv.bias[:count]))
        settings = _settings(self.file, node)
        if conv.depthwise:
            settings["group"] = count
        fused = "activation" in settings or len(node.input) > 3
        if len(node.input) > 3:
            inputs += [""] * (3 - len(inputs)) + [node.input[3]]
        domain = "com.microsoft" if fused else ""
        kind = "FusedConv" if fused else "Conv"
        return helper.make_node(kind, inputs, [name], node.name, domain=domain, **settings)

    def _constant(self, name: str, value: Host) -> str:
        self.file.constants[name] = np.ascontiguousarray(value)
        return name

    def _reordered(self, node: NodeProto) -> Iterator[NodeProto]:
        settings, (source,), (output,) = _settings(self.file, node), node.input, node.output
        turned = bool(settings.get("channels_last", 0))
        inwards = node.op_type == "ReorderInput"
        count = self.channels(output) if inwards else settings["channels"]
        middle = f"_{output}_turned"
        if turned and inwards:
            yield helper.make_node("Transpose", [source], [middle], middle, perm=FIRST)
            source = middle
        last = middle if turned and not inwards else output
        yield helper.make_node("FirstChannels", [source], [last], node.name, count=count)
        if turned and not inwards:
            yield helper.make_node("Transpose", [middle], [output], middle, perm=LAST)

    def _upsampled(self, node: NodeProto) -> NodeProto:
        settings = _settings(self.file, node)
        scales = np.array(settings["scales"], np.float32)
        name = self._constant(f"_{node.output[0]}_scales", scales)
        mode = settings.get("mode", "nearest")
        place = settings.get("coordinate_transformation_mode", "asymmetric")
        if place == "asymmetric":
            inputs = [node.input[0], name]
            return helper.make_node("Upsample", inputs, list(node.output), node.name, mode=mode)
        return helper.make_node(
            "Resize",
            [node.input[0], "", name],
            list(node.output),
            node.name,
            mode=mode,
            coordinate_transformation_mode=place,
        )


def without_blocks(file: OnnxFile, nodes: Sequence[NodeProto]) -> Sequence[NodeProto]:
    """Return the nodes of a graph with none in blocks of channels; weights lie as in ONNX.

    Raises UnsupportedError where blocks and weights do not fit.
    """
    if not any(node.domain == DOMAIN for node in nodes):
        return nodes
    plain = _Plain(file, nodes)
    file.block = file.block or plain.block
    made = list(plain.nodes(nodes))
    read = {name for node in made for name in node.input}
    for conv in plain.convs.values():
        for name in conv.node.input[1:3]:
            if name not in read:
                file.constants.pop(name, None)
    return made


@cache
def _block_here() -> int:
    """Return the size of a block of ONNX Runtime on this machine, by letting it lay one out."""
    weight = numpy_helper.from_array(np.ones((SMALL, 1, 1, 1), np.float32), "w")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 2, 2])
        for name, channels in (("x", 1), ("y", SMALL))
    )
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "block", [x], [y], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        laid = onnx.load(path).graph
    blocked = any(node.domain == DOMAIN for node in laid.node)
    sizes = [tensor.dims[0] for tensor in laid.initializer if len(tensor.dims) == 4]
    return sizes[0] if blocked and sizes else LARGE


def _settings(file: OnnxFile, node: NodeProto) -> dict[str, Any]:
    return file.attributes(node)


def _last(used: Host) -> int:
    """Return how many there are up to the last that is used."""
    places = np.flatnonzero(used)
    return int(places[-1]) + 1 if places.size else 1
