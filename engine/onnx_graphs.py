"""The graphs inside an ONNX graph, and the names of the values that flow in them."""

from collections.abc import Iterator

from onnx import GraphProto, NodeProto


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """Give a graph, and those of its nodes: bodies of loops, branches, and what is inside them."""
    yield graph
    for node in graph.node:
        for inner in bodies_of(node):
            yield from graphs_of(inner)


def bodies_of(node: NodeProto) -> Iterator[GraphProto]:
    """Give the graphs that a node itself has."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def value_names(graph: GraphProto) -> set[str]:
    """Return the name of every value of a graph and of those inside it."""
    names: set[str] = set()
    for one in graphs_of(graph):
        names.update(tensor.name for tensor in one.initializer)
        names.update(given.name for given in one.input)
        for node in one.node:
            names.update(node.output)
    return names


def free_value(name: str, taken: set[str]) -> str:
    """Return a name that no value has, and take it."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}.{count}"
    taken.add(free)
    return free
