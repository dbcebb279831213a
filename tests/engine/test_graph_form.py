"""A graph as plain data comes back whole, and nothing but known layers and operators comes in."""

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional

from featherweight.engine.graph_form import CallForm, Contents, GraphForm, from_plain, to_plain
from featherweight.engine.graph_values import plain_value, value_from
from featherweight.engine.network import Network, capture
from featherweight.engine.operators import operator_name, operator_named

PLANTED = "__import__('os').system('false')"


class Convolutional(nn.Module):
    """Convolutions of every kind, norms, a raw parameter, a cast and a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="circular")
        self.groups = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.slope = nn.PReLU(4)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 1.5))
        self.register_buffer("shift", torch.arange(4.0).reshape(4, 1, 1))
        self.dropout = nn.Dropout(0.3)
        self.last = nn.Linear(4 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)))
        x = x + self.groups(self.depthwise(x))
        x = self.slope(self.up(x)) * self.scale + self.shift
        x = functional.avg_pool2d(x[:, :, ::2], (1, 2)).to(torch.float64).float()
        result: Tensor = self.last(self.dropout(x).flatten(1)).softmax(-1)
        return result


class Recurrent(nn.Module):
    """An embedding, recurrent layers and a layer norm, with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=1)
        self.lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.gru = nn.GRU(12, 5, batch_first=True)
        self.norm = nn.LayerNorm(5, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.lstm(self.words(x))
        z, _ = self.gru(y)
        return self.norm(z[:, -1]), y.transpose(0, 1)


EXAMPLES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "convolutional": (Convolutional, lambda: torch.randn(2, 1, 8, 8)),
    "recurrent": (Recurrent, lambda: torch.randint(0, 20, (2, 5))),
}
every_network = pytest.mark.parametrize("name", EXAMPLES)


@cache
def network_of(name: str) -> Network:
    torch.manual_seed(1)
    kind, example = EXAMPLES[name]
    network = capture(kind(), (example(),))
    assert network.graph_lock == ""
    return network


def contents_of(module: nn.Module) -> Contents:
    tensors = dict(module.named_parameters(remove_duplicate=False))
    return Contents({**tensors, **dict(module.named_buffers())})


def plain_of(network: Network) -> GraphForm:
    assert isinstance(network.module, fx.GraphModule)
    return to_plain(network.module)


@every_network
def test_that_a_graph_comes_back_from_its_bytes_with_the_same_outputs(name: str) -> None:
    network = network_of(name)
    form = plain_of(network)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=GraphForm)
    module = from_plain(again, contents_of(network.module))
    assert to_plain(module) == form == again
    rebuilt = Network(module, network.example)
    for before, after in zip(
        network.outputs(*network.example), rebuilt.outputs(*network.example), strict=True
    ):
        assert torch.equal(before, after)
    assert [layer for layer, _ in rebuilt.layers()] == [layer for layer, _ in network.layers()]
    assert repr(dict(rebuilt.layers())) == repr(dict(network.layers()))


@every_network
def test_that_a_rebuilt_graph_trains_and_knows_where_calls_came_from(name: str) -> None:
    network = network_of(name)
    module = from_plain(plain_of(network), contents_of(network.copy().module))
    module.train()
    result = module(*network.example)
    outputs = result if isinstance(result, tuple) else (result,)
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    assert all(value.grad is not None for value in module.parameters())
    paths = [node.meta.get("path") for node in module.graph.nodes]
    assert paths == [node.meta.get("path") or None for node in network.graph.nodes]


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "_operator.attrgetter", "builtins.eval", "torch.load", "math.__dict__"),
        *("torch.ops.aten.from_file.default", "torch.ops.aten.set_.source_Storage"),
        *("torch.ops.aten._test_warn_in_autograd.default", "torch.ops.aten.add.__class__"),
        *("torch.ops.aten.add", "torch.ops.aten.__init__.default", "torch.ops.prim.Print.default"),
        "torch.ops.aten.no_such_operator.default",
    ],
)
def test_that_only_tensor_operators_may_be_called(target: str) -> None:
    with pytest.raises(ValueError, match="no tensor operator of PyTorch's own"):
        operator_named(target)


def test_that_operators_keep_their_names_and_functions_have_none() -> None:
    for name in ("torch.ops.aten.add.Tensor", "_operator.getitem", "math.ceil", "torch.sym_max"):
        assert operator_name(operator_named(name)) == name
    for function in (print, torch.add, torch.ops.aten.from_file.default, torch.ops.prim.device):
        with pytest.raises(ValueError, match="no tensor operator"):
            operator_name(function)


def changed_call(form: GraphForm, kind: str, **changes: Any) -> GraphForm:
    """Change the first call of a kind."""
    calls = list(form.calls)
    position = next(at for at, call in enumerate(calls) if call.operation == kind)
    calls[position] = msgspec.structs.replace(calls[position], **changes)
    return GraphForm(form.layers, tuple(calls))


def changed_layer(form: GraphForm, **changes: Any) -> GraphForm:
    first = msgspec.structs.replace(form.layers[0], **changes)
    return GraphForm((first, *form.layers[1:]), form.calls)


CHANGES: dict[str, Callable[[GraphForm], GraphForm]] = {
    "code for a result": lambda form: changed_call(form, "call_module", name=f"x, {PLANTED}"),
    "code for an input": lambda form: changed_call(form, "placeholder", target=f"x={PLANTED}"),
    "code for a keyword": lambda form: changed_call(form, "call_function", keywords={PLANTED: 1}),
    "a word of Python": lambda form: changed_call(form, "placeholder", name="lambda"),
    "an unknown layer": lambda form: changed_call(form, "call_module", target="nowhere"),
    "a method": lambda form: changed_call(form, "call_function", operation="call_method"),
    "a function": lambda form: changed_call(form, "call_function", target="os.system"),
    "a later result": lambda form: changed_call(
        form, "call_module", arguments=[{"node": form.calls[-2].name}]
    ),
    "a deep argument": lambda form: changed_call(form, "call_module", arguments=[nested(40)]),
    "an odd argument": lambda form: changed_call(form, "call_module", arguments=[{"a": 1, "b": 2}]),
    "an unknown dtype": lambda form: changed_call(
        form, "call_function", arguments=[{"dtype": "load"}]
    ),
    "two of a name": lambda form: GraphForm(form.layers, (form.calls[0], *form.calls)),
    "no output": lambda form: GraphForm(form.layers, form.calls[:-1]),
    "code in a layer's name": lambda form: changed_layer(form, name=f'a"); {PLANTED}; ("'),
    "a name of torch's": lambda form: changed_layer(form, name="forward.weight"),
    "a kind of layer": lambda form: changed_layer(form, kind="Module"),
    "an unknown option": lambda form: changed_layer(form, options={"device": "cuda"}),
    "an absurd size": lambda form: changed_layer(
        form, kind="Linear", options={"in_features": 2**62, "out_features": 2**62}
    ),
    "a negative size": lambda form: changed_layer(
        form, kind="Linear", options={"in_features": -1, "out_features": 3}
    ),
    "a word for a number": lambda form: changed_layer(
        form, kind="Linear", options={"in_features": "many", "out_features": 3}
    ),
    "endless layers": lambda form: changed_layer(
        form, kind="LSTM", options={"input_size": 1, "hidden_size": 1, "num_layers": 10**12}
    ),
    "a tensor that is not held": lambda form: changed_layer(form, held=("bias", "other")),
}


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


@every_network
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_that_plain_data_from_elsewhere_is_refused_without_running_it(
    name: str, change: Callable[[GraphForm], GraphForm]
) -> None:
    network = network_of(name)
    form = change(plain_of(network))
    with pytest.raises(ValueError, match=r"."):
        from_plain(form, contents_of(network.module))


def test_that_a_missing_tensor_or_one_of_another_shape_is_named() -> None:
    network = network_of("convolutional")
    form, whole = plain_of(network), contents_of(network.module)
    for name, value in whole.tensors.items():
        others = {other: kept for other, kept in whole.tensors.items() if other != name}
        with pytest.raises(ValueError, match=rf"tensor {name} is missing"):
            from_plain(form, Contents(others))
        if name in ("scale", "shift"):
            continue
        wrong = torch.zeros(*value.shape, 2)
        odd = nn.Parameter(wrong) if isinstance(value, nn.Parameter) else wrong
        with pytest.raises(ValueError, match=rf"tensor {name} is missing or of another shape"):
            from_plain(form, Contents({**others, name: odd}))


def test_that_a_network_with_a_foreign_layer_is_refused_by_its_name() -> None:
    root = nn.Module()
    root.add_module("odd", nn.Softmax(-1))
    graph = fx.Graph()
    graph.output(graph.call_module("odd", (graph.placeholder("x"),)))
    with pytest.raises(ValueError, match="layer odd is a Softmax"):
        to_plain(fx.GraphModule(root, graph))


plain_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.sampled_from(
            [torch.float16, torch.int64, torch.strided, torch.channels_last, torch.device("cpu")]
        ),
        st.builds(slice, st.none() | st.integers(0, 9), st.integers(0, 9), st.none()),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=12,
)


@settings(deadline=None)
@given(plain_values)
def test_that_arguments_of_every_kind_come_back_equal(value: Any) -> None:
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(plain_value(value)))
    assert value_from(again, {}) == value


@pytest.mark.parametrize("value", [object(), torch.device("cuda"), {1, 2}, torch.zeros(1), 1j])
def test_that_arguments_which_files_cannot_hold_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="files cannot hold"):
        plain_value(value)


def test_that_results_are_found_by_name_only() -> None:
    graph = fx.Graph()
    node = graph.placeholder("x")
    assert plain_value(node) == {"node": "x"}
    assert value_from({"node": "x"}, {"x": node}) is node
    with pytest.raises(ValueError, match="there is no node 'y'"):
        value_from({"node": "y"}, {"x": node})


def test_that_calls_are_plain_structs_in_the_order_of_the_graph() -> None:
    calls = plain_of(network_of("recurrent")).calls
    assert all(isinstance(call, CallForm) for call in calls)
    assert calls[0].operation == "placeholder"
    assert calls[-1].operation == "output"
