"""Hidden units removed from recurrent layers: gates, layers, directions and states together."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.network import Network, capture

Proof = Callable[..., Network]
TOKENS = torch.arange(7).reshape(1, 7)


class Recurrent(nn.Module):
    """An embedding, a recurrent layer that starts from a state, and what reads its outputs."""

    def __init__(self, memory: nn.RNNBase, start: str = "") -> None:
        super().__init__()
        directions = 1 + memory.bidirectional
        self.tokens, self.inner = nn.Embedding(30, 10), nn.Linear(10, memory.input_size)
        self.memory = memory
        self.last = nn.Linear(directions * (memory.proj_size or memory.hidden_size), 5)
        self.start = start
        shape = (memory.num_layers * directions, 1, memory.hidden_size)
        self.learned = nn.Parameter(torch.randn(shape)) if start == "learned" else None
        self.register_buffer("fixed", torch.randint(1, 4, shape) if start == "fixed" else None)

    def forward(self, tokens: Tensor) -> Tensor:
        steps = torch.relu(self.inner(self.tokens(tokens)))
        outputs, _ = self.memory(steps, self._state(steps)) if self.start else self.memory(steps)
        return self.last(outputs[:, -1])

    def _state(self, steps: Tensor) -> Tensor:
        if self.learned is not None:
            return self.learned.expand(-1, steps.shape[0], -1)
        if self.fixed is not None:
            return self.fixed.float().expand(-1, steps.shape[0], -1)
        return steps.new_zeros(self.memory.num_layers, steps.shape[0], self.memory.hidden_size)


class Translator(nn.Module):
    """One LSTM reads, another goes on from both of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, 10)
        self.reader, self.writer = nn.LSTM(10, 8), nn.LSTM(10, 8)
        self.last = nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        steps = self.tokens(tokens).transpose(0, 1)
        _, states = self.reader(steps)
        outputs, (hidden, cell) = self.writer(steps.flip(0), states)
        return self.last(outputs[-1] + hidden[0] * cell[0])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_that_hidden_units_go_from_all_layers_and_directions_together(
    kind: type[nn.RNNBase], proven_removal: Proof
) -> None:
    memory = kind(12, 8, 2, batch_first=True, bidirectional=True)

    pruned = proven_removal(Recurrent(memory), (TOKENS,))

    left = pruned.layer("memory")
    assert (left.input_size, left.hidden_size, pruned.layer("tokens").embedding_dim) == (7, 5, 6)
    assert left.weight_ih_l1_reverse.shape == (left.weight_ih_l0.shape[0], 10)
    assert pruned.layer("last").in_features == 10


@pytest.mark.parametrize("start", ["learned", "zeros"])
def test_that_the_state_to_start_from_loses_the_same_units(
    start: str, proven_removal: Proof
) -> None:
    memory = nn.GRU(12, 8, 2, batch_first=True)

    pruned = proven_removal(Recurrent(memory, start), (TOKENS,))

    assert pruned.layer("memory").hidden_size == 5
    if start == "learned":
        assert pruned.module.get_parameter("learned").shape == (2, 1, 5)


def test_that_units_go_from_two_layers_when_one_hands_its_states_on(
    proven_removal: Proof,
) -> None:
    pruned = proven_removal(Translator(), (TOKENS,))

    assert pruned.layer("reader").hidden_size == pruned.layer("writer").hidden_size == 5


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize(
    ("memory", "start", "reason"),
    [
        (nn.GRU(12, 8, batch_first=True), "fixed", "start from values of fixed size"),
        (nn.LSTM(12, 8, proj_size=4, batch_first=True), "", "LSTM with projections"),
    ],
)
def test_that_hidden_units_stay_for_a_reason_in_a_sentence(
    memory: nn.RNNBase, start: str, reason: str, proven_removal: Proof
) -> None:
    network = Recurrent(memory, start)
    coupling = analyse(capture(network, (TOKENS,)))

    assert reason in coupling.locks["memory"]
    assert coupling.locks["memory"].endswith(".")
    pruned = proven_removal(network, (TOKENS,))
    assert (pruned.layer("memory").input_size, pruned.layer("memory").hidden_size) == (7, 8)


def test_that_the_units_with_the_smallest_weights_in_all_gates_go_first(
    proven_removal: Proof,
) -> None:
    memory = nn.LSTM(12, 4, batch_first=True)
    with torch.no_grad():
        for rows in (memory.weight_ih_l0, memory.weight_hh_l0):
            rows.view(4, 4, -1)[:, 2] *= 0.01
    kept = memory.weight_ih_l0.detach().clone().view(4, 4, -1)[:, [0, 1, 3]]

    pruned = proven_removal(
        Recurrent(memory), (TOKENS,), lambda _: {"memory": ChannelPruning(ratio=0.25)}
    )

    assert torch.allclose(pruned.layer("memory").weight_ih_l0, kept.reshape(12, 12), atol=1e-3)
