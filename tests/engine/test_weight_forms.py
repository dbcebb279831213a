"""Layers whose weights are held by forms run, train and copy like the layers they replace."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.methods.method import stored_weights
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.sparsity.magnitude import Magnitude
from featherweight.engine.network import capture
from featherweight.engine.weight_forms import (
    CompactLayer,
    FloatForm,
    MaskedForm,
    StoredForm,
    densified,
    form_lock,
    settle,
    takes_forms,
)

# Torch says once that such a layer takes another path on this processor.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

Case = tuple[Callable[[], nn.Module], Callable[[], tuple[object, ...]]]


def state(layers: int, hidden: int) -> Tensor:
    return torch.zeros(layers, 2, hidden)


CASES: dict[str, Case] = {
    "linear": (lambda: nn.Linear(6, 4), lambda: (torch.randn(2, 6),)),
    "without bias": (lambda: nn.Linear(6, 4, bias=False), lambda: (torch.randn(2, 6),)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), lambda: (torch.randn(2, 4, 9),)),
    "conv2d": (
        lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1, padding_mode="reflect"),
        lambda: (torch.randn(2, 3, 8, 8),),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), lambda: (torch.randn(2, 2, 4, 4, 4),)),
    "transposed1d": (lambda: nn.ConvTranspose1d(3, 4, 2, 2), lambda: (torch.randn(2, 3, 5),)),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2),
        lambda: (torch.randn(2, 4, 5, 5),),
    ),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 3, 2), lambda: (torch.randn(2, 2, 3, 3, 3),)),
    "embedding": (
        lambda: nn.Embedding(9, 4, padding_idx=0),
        lambda: (torch.randint(0, 9, (2, 5)),),
    ),
    "lstm": (
        lambda: nn.LSTM(4, 6, 2, bidirectional=True, batch_first=True, proj_size=3),
        lambda: (torch.randn(2, 5, 4), (state(4, 3), state(4, 6))),
    ),
    "gru": (lambda: nn.GRU(4, 6, bias=False), lambda: (torch.randn(5, 2, 4), state(1, 6))),
    "rnn": (
        lambda: nn.RNN(4, 6, nonlinearity="relu"),
        lambda: (torch.randn(5, 2, 4), state(1, 6)),
    ),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def first(result: object) -> Tensor:
    found = result[0] if isinstance(result, tuple) else result
    assert isinstance(found, Tensor)
    return found


def compact(layer: nn.Module, method: Integer | None = None) -> CompactLayer:
    """Hold the layer's weights as they are, or on the grid of a method."""
    weights = {name: layer.get_parameter(name).detach() for name in stored_weights(layer)}
    forms = {
        name: method.trainable(weight, None) if method else MaskedForm(weight, None)
        for name, weight in weights.items()
    }
    return CompactLayer(layer, dict(forms))


@every_layer
def test_that_a_compact_layer_computes_what_its_layer_computed(case: Case) -> None:
    torch.manual_seed(1)
    layer, inputs = case[0]().eval(), case[1]()
    assert takes_forms(layer)
    assert form_lock(layer) == ""
    assert torch.equal(first(compact(layer)(*inputs)), first(layer(*inputs)))


@every_layer
def test_that_the_plain_layer_has_the_decoded_weights_and_the_same_outputs(case: Case) -> None:
    torch.manual_seed(2)
    layer, inputs = case[0]().eval(), case[1]()
    held = compact(layer, Integer(bits=4))
    plain = held.plain()
    assert type(plain) is held.inner_type is type(layer)
    assert {name: value.shape for name, value in plain.named_parameters()} == {
        name: value.shape for name, value in layer.named_parameters()
    }
    assert torch.equal(first(plain(*inputs)), first(held(*inputs)))
    assert torch.equal(first(copy.deepcopy(plain)(*inputs)), first(held(*inputs)))


@every_layer
def test_that_copies_share_nothing_and_training_changes_the_weights(case: Case) -> None:
    torch.manual_seed(3)
    layer, inputs = case[0](), case[1]()
    held = compact(layer, Integer(bits=8))
    twin = copy.deepcopy(held)
    before = first(twin.eval()(*inputs)).detach().clone()
    optimizer = torch.optim.SGD(held.parameters(), 0.5)
    for _ in range(3):
        first(held.train()(*inputs)).square().sum().backward()
        optimizer.step()
    assert not torch.equal(first(held.eval()(*inputs)), before)
    assert torch.equal(first(twin(*inputs)), before)
    twin.load_state_dict(held.state_dict())
    assert torch.equal(first(twin(*inputs)), first(held(*inputs)))


def test_that_recurrent_dropout_follows_training_and_evaluation() -> None:
    torch.manual_seed(4)
    layer = nn.LSTM(4, 6, 2, dropout=0.5)
    inputs = torch.randn(5, 2, 4), (state(2, 6), state(2, 6))
    held = compact(layer)
    once, again = (first(held.train()(*inputs)) for _ in range(2))
    assert not torch.equal(once, again)
    once, again = (first(held.eval()(*inputs)) for _ in range(2))
    assert torch.equal(once, again)


def test_that_layers_are_locked_with_a_reason_a_person_understands() -> None:
    assert "BatchNorm2d layers keep" in form_lock(nn.BatchNorm2d(3))
    assert "float64, not float32" in form_lock(nn.Linear(3, 4).double())
    assert "compressed already" in form_lock(compact(nn.Linear(3, 4)))
    empty = nn.Linear(3, 4)
    empty.weight = nn.Parameter(torch.empty(0, 3))
    assert "empty" in form_lock(empty)
    with pytest.raises(TypeError, match="ReLU cannot hold its weights"):
        CompactLayer(nn.ReLU(), {})(torch.zeros(1))


def test_that_settling_leaves_final_forms_without_a_mask_and_the_same_outputs() -> None:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    network = capture(net, (torch.randn(2, 1, 8, 8),))
    for name, layer in list(network.layers()):
        weight = layer.get_parameter("weight").detach()
        mask = Magnitude(sparsity=0.7).mask(weight)
        form = Codebook(clusters=8).trainable(weight, mask) if name == "3" else None
        network.replace(name, CompactLayer(layer, {"weight": form or MaskedForm(weight, mask)}))
    trained = network.outputs(*network.example)[0]
    settle(network)
    assert torch.equal(network.outputs(*network.example)[0], trained)
    forms = [form for _, layer in network.layers() for form in layer.held().values()]
    assert [type(form).__name__ for form in forms] == ["FloatForm", "CodebookForm"]
    assert all(isinstance(form, StoredForm) for form in forms)
    assert not any("mask" in name for name in network.module.state_dict())
    zeros = [int((form() == 0).sum()) for form in forms]
    assert zeros == [25, 504]


def test_that_a_dense_network_is_a_copy_of_ordinary_layers() -> None:
    torch.manual_seed(6)
    network = capture(nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2)), (torch.randn(3, 5),))
    layer = network.layer("1")
    network.replace("1", CompactLayer(layer, {"weight": FloatForm(layer.get_parameter("weight"))}))
    dense = densified(network)
    assert type(dense.layer("1")) is nn.Linear
    assert isinstance(network.layer("1"), CompactLayer)
    assert torch.equal(dense.outputs(*network.example)[0], network.outputs(*network.example)[0])
    assert dense.layer("1").get_parameter("weight").requires_grad


def test_that_a_masked_weight_in_another_order_of_elements_is_held_in_order() -> None:
    weight = torch.randn(5, 3).t()
    assert FloatForm(weight)().is_contiguous()
    assert torch.equal(MaskedForm(weight, None)(), weight)
    assert MaskedForm(weight, None).settled()().is_contiguous()
