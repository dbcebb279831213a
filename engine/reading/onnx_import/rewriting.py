"""Operators that stand for several others, taken apart before the graph is built."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from featherweight.engine.reading.onnx_import.blocked import without_blocks
from featherweight.engine.reading.onnx_import.model import OnnxFile
from featherweight.engine.reading.onnx_import.values import Host, UnsupportedError

Rewrite = Callable[[NodeProto, "Rewriting"], Iterator[NodeProto]]
rewriters: dict[tuple[str, str], Rewrite] = {}
STANDARD = ("", "ai.onnx")


def rewrites(*names: str, domain: str = "") -> Callable[[Rewrite], Rewrite]:
    """Register what takes operators of these names and this domain apart."""

    def register(rewrite: Rewrite) -> Rewrite:
        rewriters.update(dict.fromkeys(((domain, name) for name in names), rewrite))
        return rewrite

    return register


class Rewriting:
    """Makes the nodes and constants that stand for those of a file."""

    def __init__(self, file: OnnxFile, nodes: Sequence[NodeProto]) -> None:
        self.file = file
        self.makers = {name: node for node in nodes for name in node.output}
        self.users: dict[str, list[NodeProto]] = {}
        self.taken: set[tuple[str, str]] = set()
        for node in nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def run(self, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        """Give the nodes, with those apart that a rewriter is registered for."""
        for node in nodes:
            domain = "" if node.domain in STANDARD else node.domain
            rewrite = rewriters.get((domain, node.op_type))
            if node.output and (node.op_type, node.output[0]) in self.taken:
                continue
            if rewrite is None:
                yield node
            else:
                yield from self.run(rewrite(node, self))

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        """Return the attributes of a node as plain values."""
        return self.file.attributes(node)

    def name(self, node: NodeProto, hint: str) -> str:
        """Return a name for a value between the parts of a node."""
        return f"_{node.output[0]}_{hint}"

    def node(self, op: str, inputs: Sequence[str], *outputs: str, **settings: Any) -> NodeProto:
        """Return a node of the standard's own operators."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        return helper.make_node(op, inputs, outputs, name=outputs[0], **settings)

    def like(
        self,
        node: NodeProto,
        op: str,
        inputs: Sequence[str],
        *outputs: str,
        without: Sequence[str] = (),
    ) -> NodeProto:
        """Return a node with the attributes and the name of another."""
        made = self.node(op, inputs, *outputs)
        made.name = node.name
        made.attribute.extend(one for one in node.attribute if one.name not in without)
        made.metadata_props.extend(node.metadata_props)
        return made

    def known(self, name: str) -> Host:
        """Return a constant; one computed from constants by Constant nodes or Identity too."""
        maker = self.makers.get(name)
        if name not in self.file.constants and maker is not None:
            if maker.op_type == "Identity":
                return self.known(maker.input[0])
            if maker.op_type == "Constant" and "value" in self.attributes(maker):
                return np.asarray(self.attributes(maker)["value"])
        if name not in self.file.constants:
            raise UnsupportedError("weights or scales are computed, not constants")
        return self.file.constants[name]

    def is_known(self, name: str) -> bool:
        """Say whether a value is a constant of the file."""
        return name in self.file.constants

    def constant(self, node: NodeProto, hint: str, array: Any, of: str = "") -> str:
        """Add a constant and return its name, which is like that of the one it is made `of`."""
        name = f"{of}.unpacked" if of else self.name(node, hint)
        value = np.asarray(array)
        kept = value.astype(np.float32) if value.dtype.kind == "f" else value
        self.file.constants[name] = kept
        return name

    def scaled(self, node: NodeProto) -> tuple[str, str, str] | None:
        """Find the scaling behind a product of integers, and take it along.

        Returns the names of the data's scale, of the weight's and of the result, or None.
        """
        chain = [node]
        for op in ("Cast", "Mul"):
            users = self.users.get(chain[-1].output[0], [])
            if len(users) != 1 or users[0].op_type != op:
                return None
            chain.append(users[0])
        cast, product = chain[1:]
        scale = next((name for name in product.input if name != cast.output[0]), "")
        maker = self.makers.get(scale)
        if maker is None or maker.op_type != "Mul":
            return None
        parts = sorted(maker.input, key=self.is_known)
        if [self.is_known(name) for name in parts] != [False, True]:
            return None
        self.taken |= {(one.op_type, one.output[0]) for one in (cast, product)}
        return parts[0], parts[1], product.output[0]


def rewrite(file: OnnxFile, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Return nodes of the standard's own float operators that stand for these."""
    plain = without_blocks(file, nodes)
    return list(Rewriting(file, plain).run(plain))
