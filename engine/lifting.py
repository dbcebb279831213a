"""From a captured program to a graph of real nn layers.

torch.export gives aten calls that take parameters as arguments. Here every call that consumes a
parameter as its weight becomes a call of an `nn` layer under the parameter's dotted name, so that
a layer can be named, replaced, trained and exported. What consumes no parameter stays as it was.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import MappingKey, tree_flatten_with_path, tree_unflatten

from featherweight.engine.layer_building import LayerBuilder, builder_of, module_path

ASSERTIONS = ("_assert_", "sym_constrain_range")
# How a program reads a constant. The older ONNX exporter does not know it.
COPY = "aten.lift_fresh_copy.default"


class UnliftableError(Exception):
    """The program holds something that a graph of layers cannot; the text is the reason."""


def lift(program: ExportedProgram) -> fx.GraphModule:
    """Return an equal GraphModule of nn layers in eval mode, its parameters the program's own.

    Inputs are the program's flat user inputs; the output is the one user output, or a tuple of
    several. Node meta `path` is the dotted name of the module that made the call.
    Raises UnliftableError where the program calls sub-programs (control flow).
    """
    lifter = _Lifter(program)
    for node in program.graph.nodes:
        lifter.take(node)
    module = fx.GraphModule(lifter.root, lifter.graph, class_name="Network")
    module.graph.eliminate_dead_code()
    module.recompile()
    return module.eval()


def output_names(program: ExportedProgram) -> tuple[str, ...]:
    """Return the names that a program gives its output tensors: the keys of dictionaries.

    Empty where an output has none; nothing at all where no output has one.
    """
    specs = program.graph_signature.output_specs
    (result,) = program.graph.find_nodes(op="output")
    users: list[Any] = [
        value
        for value, spec in zip(result.args[0], specs, strict=True)
        if spec.kind == OutputKind.USER_OUTPUT
    ]
    whole = tree_unflatten(users, program.call_spec.out_spec)
    paths, _ = tree_flatten_with_path(whole, is_leaf=lambda part: isinstance(part, fx.Node))
    names = [
        "_".join(str(key.key) for key in path if isinstance(key, MappingKey))
        for path, value in paths
        if _is_tensor(value)
    ]
    return tuple(names) if any(names) else ()


def _is_tensor(result: Any) -> bool:
    return isinstance(result, fx.Node) and isinstance(result.meta.get("val"), Tensor)


def place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module at a dotted name, making plain containers on the way."""
    parent, _, leaf = name.rpartition(".")
    container(root, parent).add_module(leaf, module)


def container(root: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path, making plain containers on the way."""
    for part in filter(None, path.split(".")):
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


class _Lifter:
    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[fx.Node, fx.Node | None] = {}
        self.tensors: dict[fx.Node, str] = {}
        self.made: dict[str, str] = {}
        signature = program.graph_signature
        self.inputs = {spec.arg.name: spec for spec in signature.input_specs}
        self.outputs = [
            position
            for position, spec in enumerate(signature.output_specs)
            if spec.kind == OutputKind.USER_OUTPUT
        ]

    def take(self, node: fx.Node) -> None:
        """Take over one node, in the order of the program."""
        if node.op == "placeholder":
            self._take_input(node)
        elif node.op == "call_function" and "higher_order" not in str(node.target):
            self._take_call(node)
        elif node.op == "output":
            results: Any = node.args[0]
            kept = [results[position] for position in self.outputs]
            values = tuple(self._value(result) for result in kept if _is_tensor(result))
            self.graph.output(values[0] if len(values) == 1 else values)
        else:
            raise UnliftableError(f"it calls {node.target}, which is control flow")

    def _take_input(self, node: fx.Node) -> None:
        spec = self.inputs[node.name]
        if spec.kind == InputKind.USER_INPUT:
            self.values[node] = self.graph.placeholder(node.name)
        else:
            self.tensors[node] = str(spec.target)

    def _take_call(self, node: fx.Node) -> None:
        if any(word in str(node.target) for word in ASSERTIONS):
            self.values[node] = None
            return
        if str(node.target) == COPY and self._is_untouched(node):
            self.values[node] = self._value(node.args[0])
            return
        if self._takes_a_state(node):
            self.values[node] = self._state(node)
            return
        builder = builder_of(node, self._name_of)
        made = self._layer(node, builder) if builder else self._function(node)
        made.meta["path"] = module_path(node)[0]
        self.values[node] = made

    def _name_of(self, value: Any) -> str | None:
        return self.tensors.get(value) if isinstance(value, fx.Node) else None

    def _layer(self, node: fx.Node, builder: LayerBuilder) -> fx.Node:
        same = f"{builder.kind} {builder.tensors} {builder.options}"
        name = self.made.get(same) if builder.tensors else None
        if name is None:
            name = self._free(builder.name)
            self.made[same] = name
            place(self.root, name, self._made(builder))
        arguments = self._value(builder.arguments)
        return self.graph.create_node("call_module", name, arguments, name=node.name)

    def _is_untouched(self, node: fx.Node) -> bool:
        """Say whether nothing changes in place what a node gives, so that it need be no copy."""
        schemas = [getattr(user.target, "_schema", None) for user in node.users]
        return not any(schema is None or schema.is_mutable for schema in schemas)

    def _takes_a_state(self, node: fx.Node) -> bool:
        """Say whether a node takes one of the two states out of what an LSTM gives."""
        whole = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        if node.target is not operator.getitem or whole is None or whole.op != "call_module":
            return False
        is_lstm = isinstance(self.root.get_submodule(str(whole.target)), nn.LSTM)
        return is_lstm and node.args[1] in (1, 2)

    def _state(self, node: fx.Node) -> fx.Node:
        # The layer gives its output and a pair of states, the aten call all three side by side.
        whole, position = node.args
        both = self.graph.call_function(operator.getitem, (self._value(whole), 1))
        both.meta["path"] = module_path(node)[0]
        taken = self.graph.call_function(operator.getitem, (both, int(str(position)) - 1))
        taken.meta["path"] = both.meta["path"]
        return taken

    def _made(self, builder: LayerBuilder) -> nn.Module:
        with torch.device("meta"):
            layer = builder.kind(**builder.options)
        for attribute, source in builder.tensors.items():
            value = self._tensor(source)
            is_parameter = attribute in layer._parameters
            if is_parameter and not isinstance(value, nn.Parameter):
                value = nn.Parameter(value, requires_grad=value.is_floating_point())
            setattr(layer, attribute, value)
        if "num_batches_tracked" in layer._buffers:
            layer.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))
        return layer

    def _function(self, node: fx.Node) -> fx.Node:
        target = _out_of_place(node) or node.target
        made = self.graph.create_node(
            "call_function", target, self._value(node.args), self._value(node.kwargs), node.name
        )
        if target is not node.target and isinstance(node.args[0], fx.Node):
            # Whoever reads the operand after an in-place call means the changed value.
            self.values[node.args[0]] = made
        return made

    def _value(self, value: Any) -> Any:
        return fx.map_arg(value, self._node)

    def _node(self, node: fx.Node) -> fx.Node:
        if node not in self.values:
            self.values[node] = self.graph.get_attr(self._raw(self.tensors[node]))
        known = self.values[node]
        if known is None:
            raise UnliftableError(f"it uses the result of {node.target}, which gives none")
        return known

    def _raw(self, source: str) -> str:
        """Register a tensor that no layer holds; its name stays unless a layer stands there."""
        parent = source.rpartition(".")[0]
        inside_layer = any(self._is_layer(prefix) for prefix in _prefixes(parent))
        name = self._free(source.replace(".", "_") if inside_layer else source)
        parent, _, leaf = name.rpartition(".")
        owner, value = container(self.root, parent), self._tensor(source)
        if isinstance(value, nn.Parameter):
            owner.register_parameter(leaf, value)
        else:
            owner.register_buffer(leaf, value)
        return name

    def _tensor(self, name: str) -> Tensor:
        state = self.program.state_dict
        value = state[name] if name in state else self.program.constants.get(name)
        if not isinstance(value, Tensor):
            raise UnliftableError(f"it holds {name}, which is not a tensor")
        if value.is_contiguous():
            return value
        # The layout in memory changes the last bit of results, and no file keeps it.
        plain = value.detach().contiguous()
        is_parameter = isinstance(value, nn.Parameter)
        return nn.Parameter(plain, value.requires_grad) if is_parameter else plain

    def _is_layer(self, path: str) -> bool:
        try:
            return type(self.root.get_submodule(path)) is not nn.Module
        except AttributeError:
            return False

    def _free(self, name: str) -> str:
        free, count = name, 1
        while _taken(self.root, free):
            count += 1
            free = f"{name}_{count}"
        return free


def _prefixes(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _taken(root: nn.Module, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(root, part):
            return False
        root = getattr(root, part)
    return True


def _out_of_place(node: fx.Node) -> Any:
    """Return the twin of an in-place aten call that changes nothing; None where there is none.

    An operand that is a view of something else, or that others view, has to stay in place.
    """
    name = getattr(node.target, "__name__", "").partition(".")[0]
    operand = node.args[0] if node.args else None
    if not name.endswith("_") or name.startswith("_") or not isinstance(operand, fx.Node):
        return None
    if _is_view(operand) or any(_is_view(user) for user in operand.users):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    overload = str(node.target).rpartition(".")[2]
    return getattr(packet, overload, None)


def _is_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.returns:
        return False
    return any(
        result.alias_info is not None and not result.alias_info.is_write
        for result in schema.returns
    )
