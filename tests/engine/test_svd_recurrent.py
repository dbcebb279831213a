"""SVD of recurrent layers: a narrow layer on the whole sequence, and the same recurrence behind."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods, locks
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.events import Source
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.network import Network, capture
from featherweight.engine.prediction import Predictor, cost_of
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.weight_forms import densified, settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.exported_program import write_exported_program
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.safetensors import write_safetensors

INPUTS, HIDDEN = 24, 16
KINDS = [
    (nn.LSTM, {}),
    (nn.LSTM, {"bidirectional": True, "num_layers": 2, "bias": False}),
    (nn.LSTM, {"proj_size": 6}),
    (nn.GRU, {"bidirectional": True}),
    (nn.GRU, {"num_layers": 2}),
    (nn.RNN, {"nonlinearity": "relu"}),
]


class Sequences(nn.Module):
    """A recurrent layer and a linear one."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.rnn = kind(INPUTS, HIDDEN, batch_first=True, **settings)
        width = self.rnn.proj_size or HIDDEN
        self.fc = nn.Linear(width * (2 if self.rnn.bidirectional else 1), 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, after = self.rnn(x)
        return self.fc(y), after[0] if isinstance(after, tuple) else after


class WithStates(Sequences):
    """Begins with given states, one or both of them."""

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        first = hidden.transpose(0, 1).contiguous()
        lstm = isinstance(self.rnn, nn.LSTM)
        y, after = self.rnn(x, (first, first.cos()) if lstm else first)
        return self.fc(y), after[0] if lstm else after


def captured(kind: type[nn.RNNBase], **settings: Any) -> Network:
    torch.manual_seed(3)
    return capture(Sequences(kind, **settings).eval(), (torch.randn(2, 5, INPUTS),))


def plant(layer: nn.Module, rank: int) -> None:
    """Give the input weights of all directions together a rank, in place."""
    weights = [value for name, value in layer.named_parameters() if "weight_ih_l0" in name]
    with torch.no_grad():
        left, values, right = torch.linalg.svd(torch.cat(weights), full_matrices=False)
        near = (left[:, :rank] * values[:rank]) @ right[:rank]
        for weight, part in zip(weights, near.chunk(len(weights)), strict=True):
            weight.copy_(part)


def compressed(network: Network, bits: int = 0, keep: float = 0.6) -> tuple[Network, Any, Recipe]:
    precision = Setting("integer", {"bits": bits}) if bits else None
    structure = Setting("svd", {"keep": keep, "multiple": 1})
    recipe = Recipe(layers={"rnn": Choice(structure=structure, precision=precision)})
    chosen = chosen_methods(network, analyse(network), recipe)
    made = restructured(network, analyse(network), chosen)
    constrain(made, chosen)
    return made, chosen, recipe


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_that_a_planted_rank_of_all_gates_is_recovered_exactly(
    kind: type[nn.RNNBase], settings: dict[str, Any]
) -> None:
    network = captured(kind, **settings)
    layer = network.layer("rnn")
    plant(layer, 4)
    made, _, _ = compressed(network)
    assert made.parts["rnn"] == ("rnn.0", "rnn.1")
    x = torch.randn(3, 7, INPUTS)
    torch.testing.assert_close(made.outputs(x), network.outputs(x), rtol=1e-4, atol=1e-5)
    weights = [value for name, value in layer.named_parameters() if "weight_ih_l0" in name]
    rows, rank = sum(len(weight) for weight in weights), made.layer("rnn.0").out_features
    assert rank * (rows + INPUTS) <= 0.6 * rows * INPUTS < (rank + 1) * (rows + INPUTS)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_that_states_go_past_the_narrow_layer(kind: type[nn.RNNBase]) -> None:
    example = torch.randn(2, 5, INPUTS), torch.randn(2, 1, HIDDEN)
    network = capture(WithStates(kind).eval(), example)
    assert network.graph_lock == ""
    plant(network.layer("rnn"), 4)
    made, _, _ = compressed(network)
    x, hidden = torch.randn(3, 7, INPUTS), torch.randn(3, 1, HIDDEN)
    expected = network.outputs(x, hidden)
    torch.testing.assert_close(made.outputs(x, hidden), expected, rtol=1e-4, atol=1e-5)
    other = made.outputs(x, torch.zeros_like(hidden))
    assert float((expected[0] - other[0]).detach().abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("kind", "settings", "bits"),
    [(nn.LSTM, {"bidirectional": True}, 0), (nn.GRU, {}, 8)],
)
def test_that_it_is_as_predicted_and_the_same_in_every_file(
    kind: type[nn.RNNBase], settings: dict[str, Any], bits: int, tmp_path: Path
) -> None:
    network = captured(kind, **settings)
    made, chosen, recipe = compressed(network, bits)
    prediction = Predictor(network, analyse(network)).predict(recipe, chosen)
    settle(made)
    ledger = write_archive(made, codings(made, chosen), tmp_path / "made.fwz")
    real = cost_of(densified(made))
    assert prediction.exact
    assert (prediction.after.parameters, prediction.after.macs) == (real.parameters, real.macs)
    assert prediction.after.bits == ledger.bits - ledger.container < prediction.before.bits
    assert prediction.after.macs < prediction.before.macs
    again = read_network(Source(path=str(tmp_path / "made.fwz")))
    x = torch.randn(3, 5, INPUTS)
    torch.testing.assert_close(again.outputs(x), made.outputs(x), rtol=0, atol=0)
    exports = [
        write_onnx(made, tmp_path / "made.onnx", None, network, Job()),
        write_exported_program(made, tmp_path / "made.pt2", Job()),
        write_safetensors(made, tmp_path / "made.safetensors", Job()),
    ]
    assert all(export.checks["relative_error"].value < 1e-4 for export in exports)
    operators = [node.op_type for node in onnx.load(tmp_path / "made.onnx").graph.node]
    assert operators.count(kind.__name__) == 1


def test_that_the_factors_train_together() -> None:
    made, _, _ = compressed(captured(nn.LSTM))
    made.module.train()
    made.outputs(torch.randn(2, 5, INPUTS))[0].square().mean().backward()
    parts = [made.layer(part) for part in made.parts["rnn"]]
    assert all(value.grad is not None for part in parts for value in part.parameters())


class Deciding(Sequences):
    """Goes by its data, so that no graph can hold it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x if x.sum() > 0 else -x)


def test_that_a_recurrent_layer_of_code_that_no_graph_holds_is_locked() -> None:
    network = capture(Deciding(nn.LSTM).eval(), (torch.randn(2, 5, INPUTS),))
    assert network.graph_lock
    locked = locks(network, analyse(network))
    assert "was not captured" in locked["rnn"]["svd"]
    assert "svd" not in locked["fc"]


def test_that_a_layer_of_few_inputs_is_locked_with_the_reason() -> None:
    assert "too small" in Svd.lock(nn.LSTM(1, 8))
    assert Svd.lock(nn.LSTM(8, 8)) == ""
