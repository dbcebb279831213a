"""Parts of a graph that run alone and share the layers of the whole."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import fx


def piece(
    module: fx.GraphModule, given: Sequence[fx.Node], wanted: Sequence[fx.Node]
) -> fx.GraphModule:
    """Return the part of a graph that makes the values of nodes out of those of given ones.

    It takes the given values in their order and returns a tuple; its layers are those of `module`.
    """
    needed = upstream(wanted, given)
    graph, made = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in given:
        made[node] = graph.placeholder(node.name)
    for node in module.graph.nodes:
        if node in needed and node not in made:
            made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(tuple(made[node] for node in wanted))
    return fx.GraphModule(module, graph)


def upstream(nodes: Iterable[fx.Node], stop: Collection[fx.Node] = ()) -> set[fx.Node]:
    """Return the nodes and all that they depend on, no further than `stop`."""
    pending, found = list(nodes), set[fx.Node]()
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            if node not in stop:
                pending += node.all_input_nodes
    return found


def downstream(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the nodes and all that depends on them."""
    pending, found = list(nodes), set[fx.Node]()
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.users
    return found


def calls(graph: fx.Graph, layers: Collection[str]) -> list[fx.Node]:
    """Return the calls of layers, in the order of the graph."""
    return [node for node in graph.nodes if node.op == "call_module" and node.target in layers]


def inputs_of(graph: fx.Graph) -> list[fx.Node]:
    """Return the inputs of a graph in their order."""
    return [node for node in graph.nodes if node.op == "placeholder"]


def entrances(wanted: Sequence[fx.Node], changing: Collection[fx.Node]) -> list[fx.Node]:
    """Return what flows into the nodes that change, of those that `wanted` depends on."""
    inside = upstream(wanted) & set(changing)
    flowing = {value for node in inside for value in node.all_input_nodes} - inside
    order: Any = next(iter(wanted)).graph.nodes
    # Constants stay where they are read.
    return [node for node in order if node in flowing and node.op != "get_attr"]
