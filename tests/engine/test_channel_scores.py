"""Channels chosen by data and by likeness, and what reads them making up for those that go."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import passes, restructured
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.evidence import Evidence, Found, Gradients, InputMoments
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session
from featherweight.engine.writing.archive import write_archive


class Branched(nn.Module):
    """A convolution whose channels a grouped, a strided and, flattened, a linear layer read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 12, 1, groups=2)
        self.strided = nn.Conv2d(16, 12, 3, stride=2, bias=False)
        self.up = nn.ConvTranspose2d(16, 4, 2)
        self.fc = nn.Linear(16 * 16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.norm(self.conv(x)).relu()
        return self.grouped(x), self.strided(x), self.up(x), self.fc(x.flatten(1))


def branched() -> tuple[Network, Tensor]:
    torch.manual_seed(4)
    module = Branched().eval()
    nn.init.uniform_(module.norm.weight, 0.5, 2.0)
    nn.init.normal_(module.norm.bias, 0.5, 0.5)
    inputs = torch.randn(64, 3, 4, 4)
    return capture(module, (inputs[:2],)), inputs


def moments_at(network: Network, name: str, inputs: Tensor) -> InputMoments:
    """Measure what a layer reads by unfolding it, one column for each of its weights' inputs."""
    layer, seen = network.layer(name), []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with torch.no_grad():
        network.outputs(inputs)
    hook.remove()
    rows = seen[0]
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    if isinstance(layer, nn.Conv2d):
        rows = nn.functional.unfold(rows, layer.kernel_size, stride=layer.stride)
        rows = rows.transpose(1, 2).flatten(0, 1)
    each = rows.reshape(len(rows), groups, -1).transpose(0, 1)
    return InputMoments(groups, (each.transpose(1, 2) @ each / len(rows),), each.mean(1))


def found_at(network: Network, inputs: Tensor, *names: str) -> Found:
    return {name: {"weight": Evidence(moments_at(network, name, inputs))} for name in names}


def pruned(network: Network, method: ChannelPruning, found: Found, layer: str) -> Network:
    chosen = {layer: Chosen(structure=method)}
    return restructured(network, analyse(network), chosen, collect=lambda *_: found)


def errors(network: Network, made: Network, inputs: Tensor) -> list[float]:
    with torch.no_grad():
        pairs = zip(network.outputs(inputs), made.outputs(inputs), strict=True)
        return [float((one - two).square().mean() / one.square().mean()) for one, two in pairs]


def test_that_what_reads_the_channels_makes_up_for_those_that_go() -> None:
    network, inputs = branched()
    measured = ("grouped", "strided", "fc")
    found = found_at(network, inputs, *measured)
    by_data = pruned(network, ChannelPruning(ratio=0.25, score="obs"), found, "conv")
    by_norm = pruned(network, ChannelPruning(ratio=0.25, score="l1"), {}, "conv")
    assert by_data.layer("conv").weight.shape[0] == by_norm.layer("conv").weight.shape[0]
    grouped, strided, _, flat = (
        one / two
        for one, two in zip(
            errors(network, by_data, inputs), errors(network, by_norm, inputs), strict=True
        )
    )
    assert grouped < 0.6
    assert strided < 0.6
    assert flat < 0.6


def test_that_channels_which_others_can_say_go_first_and_change_nothing() -> None:
    torch.manual_seed(6)
    module = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 5, bias=False)).eval()
    with torch.no_grad():
        # Unit 3 is twice unit 8, unit 11 never answers: data tells both, norms tell neither.
        module[0].weight[3], module[0].bias[3] = 2 * module[0].weight[8], 2 * module[0].bias[8]
        module[0].weight[11], module[0].bias[11] = 0.1, -9.0
    inputs = torch.randn(600, 6)
    network = capture(module, (inputs[:2],))
    found = found_at(network, inputs, "2")
    made = pruned(network, ChannelPruning(ratio=0.1, score="obs"), found, "0")
    assert made.layer("0").out_features == 18
    assert errors(network, made, inputs)[0] < 1e-5


@pytest.mark.parametrize(("sign", "gone"), [(-1.0, (3, 8)), (1.0, (3, 5))])
def test_that_thinet_counts_what_channels_are_missed_by_together(
    sign: float, gone: tuple[int, ...]
) -> None:
    torch.manual_seed(6)
    module = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 5, bias=False)).eval()
    inputs = torch.randn(600, 6)
    with torch.no_grad():
        # Units 3 and 8 say the same, and are read alike or with opposite signs.
        module[0].weight[8], module[0].bias[8] = module[0].weight[3], module[0].bias[3]
        said = module[1](module[0](inputs)).square().mean(0).sqrt()
        wanted = torch.full((20,), 4.0)
        wanted[3], wanted[8], wanted[5] = 0.99, 1.0, 1.4
        read = module[2].weight
        read.copy_(read / read.norm(dim=0) * (wanted / said))
        read[:, 8] = sign * read[:, 3] / 0.99
    network = capture(module, (inputs[:2],))
    found = found_at(network, inputs, "2")
    made = pruned(network, ChannelPruning(ratio=0.1, score="thinet"), found, "0")
    left = [unit for unit in range(20) if unit not in gone]
    torch.testing.assert_close(made.layer("0").weight, module[0].weight[left])


def test_that_evidence_of_a_shift_goes_into_the_bias() -> None:
    torch.manual_seed(6)
    module = nn.Sequential(nn.Linear(6, 10), nn.Sigmoid(), nn.Linear(10, 5)).eval()
    with torch.no_grad():
        module[0].weight[4] = 0.0
        module[0].bias[4] = 3.0
    inputs = torch.randn(400, 6)
    network = capture(module, (inputs[:2],))
    found = found_at(network, inputs, "2")
    made = pruned(network, ChannelPruning(ratio=0.1, score="obs"), found, "0")
    assert errors(network, made, inputs)[0] < 1e-9


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
def test_that_a_duplicate_is_merged_first_and_changes_nothing(activation: nn.Module) -> None:
    torch.manual_seed(7)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), activation, nn.Flatten(), nn.Linear(12 * 16, 5)
    ).eval()
    nn.init.uniform_(module[1].weight, 0.5, 2.0)
    with torch.no_grad():
        for value in (*module[0].parameters(), *module[1].parameters()):
            value[9] = value[2]
    network, inputs = capture(module, (torch.randn(2, 3, 6, 6),)), torch.randn(8, 3, 6, 6)
    method = ChannelPruning(ratio=1 / 12, score="merge")
    coupling = analyse(network)
    gone = ~plan(network, coupling, {"0": method}).stays(coupling.channels["0"].outputs)
    assert set(np.flatnonzero(gone)) <= {2, 9}
    made = pruned(network, method, {}, "0")
    assert made.layer("0").out_channels == 11
    with torch.no_grad():
        change = (network.outputs(inputs)[0] - made.outputs(inputs)[0]).abs().max()
    assert change < 1e-6


class Gated(nn.Module):
    """Two units of which one is a multiple of the other, and what is between them and the end."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.made, self.between = nn.Linear(6, 16), between
        self.read = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.read(self.between(self.made(x)))
        return result


@pytest.mark.parametrize(
    "between",
    [
        nn.Sequential(nn.ReLU(), nn.Dropout()),
        nn.Sequential(nn.BatchNorm1d(16), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.Unflatten(1, (16, 1)), nn.ReLU(), nn.AvgPool1d(1), nn.Flatten()),
        nn.PReLU(),
    ],
)
def test_that_a_multiple_of_a_channel_is_merged_by_its_factor_and_changes_nothing(
    between: nn.Module,
) -> None:
    torch.manual_seed(7)
    module = Gated(between).eval()
    with torch.no_grad():
        if isinstance(between[0] if isinstance(between, nn.Sequential) else None, nn.BatchNorm1d):
            # Behind the norm, unit 9 is three times unit 2, whatever the norm got.
            module.made.weight[9], module.made.bias[9] = module.made.weight[2], 4.0
            between[0].running_mean[2], between[0].running_mean[9] = 0.5, 4.5 - module.made.bias[2]
            between[0].weight[9] = 3.0
        else:
            module.made.weight[9] = 3 * module.made.weight[2]
            module.made.bias[9] = 3 * module.made.bias[2]
    network, inputs = capture(module, (torch.randn(2, 6),)), torch.randn(50, 6)
    made, plain = (
        pruned(network, ChannelPruning(ratio=1 / 16, score=score), {}, "made")
        for score in ("scaled_merge", "merge")
    )
    assert made.layer("made").out_features == 15
    assert errors(network, made, inputs)[0] < 1e-12
    assert errors(network, plain, inputs)[0] > 1e-4


@pytest.mark.parametrize(
    "between",
    [
        nn.Tanh(),
        nn.ReLU6(),
        nn.PReLU(16),
        nn.Sequential(nn.ReLU(), nn.BatchNorm1d(16)),
        nn.Sequential(nn.BatchNorm1d(16, track_running_stats=False), nn.ReLU()),
    ],
)
def test_that_channels_are_merged_as_they_are_where_a_factor_would_not_come_through(
    between: nn.Module,
) -> None:
    torch.manual_seed(7)
    module = Gated(between).eval()
    network, inputs = capture(module, (torch.randn(2, 6),)), torch.randn(50, 6)
    scaled, plain = (
        pruned(network, ChannelPruning(ratio=0.3, score=score), {}, "made")
        for score in ("scaled_merge", "merge")
    )
    torch.testing.assert_close(scaled.outputs(inputs), plain.outputs(inputs), rtol=0, atol=0)


def kept(network: Network, method: ChannelPruning, found: Found) -> list[int]:
    coupling = analyse(network)
    removal = plan(network, coupling, {"0": method}, found)
    return np.flatnonzero(removal.stays(coupling.channels["0"].outputs)).tolist()


def test_that_filters_in_the_middle_of_the_others_and_those_without_gradient_go() -> None:
    module = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        rows = [[4.0, 4], [5, 5], [9, 0], [0, 9], [-9, -9]]
        module[0].weight.copy_(torch.tensor(rows))
    network = capture(module, (torch.randn(2, 2),))
    assert kept(network, ChannelPruning(ratio=0.2, score="fpgm"), {}) == [1, 2, 3, 4]
    told = Gradients(torch.zeros(5, 2), torch.tensor([3.0, 2, 1, 4, 5]))
    found = {"0": {"weight": Evidence(None, told)}}
    assert kept(network, ChannelPruning(ratio=0.4, score="taylor"), found) == [0, 3, 4]


@pytest.mark.parametrize("score", ["obs", "thinet", "taylor"])
def test_that_without_evidence_the_norm_decides(score: Literal["obs", "thinet", "taylor"]) -> None:
    torch.manual_seed(8)
    module = nn.Sequential(
        nn.Conv2d(3, 10, 1), nn.ReLU(), nn.Conv2d(10, 10, 1, groups=10), nn.Conv2d(10, 2, 1)
    )
    network = capture(module, (torch.randn(2, 3, 4, 4),))
    assert kept(network, ChannelPruning(score=score), {}) == kept(network, ChannelPruning(), {})


def test_that_a_pass_over_the_data_is_counted_only_where_the_score_asks() -> None:
    counts = [
        passes({"0": Chosen(structure=ChannelPruning(score=score))})
        for score in ("l1", "merge", "scaled_merge", "taylor", "obs")
    ]
    assert counts == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("score", ["obs", "thinet", "taylor", "merge", "scaled_merge"])
def test_that_a_recipe_gives_the_predicted_sizes_and_the_same_bytes_twice(
    tmp_path: Path, score: str
) -> None:
    torch.manual_seed(9)
    module = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU())
    module.append(nn.Linear(20, 4))
    network = capture(module.eval(), (torch.randn(2, 12),))
    write_archive(network, {}, tmp_path / "source.fwz")
    inputs = torch.randn(200, 12)
    labels = network.outputs(inputs)[0].argmax(1)
    np.savez(tmp_path / "data.npz", images=inputs.numpy(), labels=labels.numpy())
    session = Session()
    session.open(Source(path=str(tmp_path / "source.fwz")))
    session.set_task(TaskSource(data=str(tmp_path / "data.npz")))
    choice = Choice(structure=Setting("channel_pruning", {"score": score, "ratio": 0.4}))
    recipe = Recipe(layers=dict.fromkeys(("0", "2"), choice), calibration=128)
    archives = []
    for name in ("once", "again"):
        result = session.compress(recipe, name, str(tmp_path / name), Job())
        archives.append((tmp_path / name / result.archive).read_bytes())
    assert archives[0] == archives[1]
    assert session.predict(recipe).exact
    assert result.ledger.bits - result.ledger.container == result.predicted.bits
    assert result.predicted.parameters == 12 * 18 + 18 + 18 * 12 + 12 + 12 * 4 + 4
    sparse = Choice(sparsity=Setting("magnitude"))
    mixed = Recipe(layers={"0": choice, "4": sparse})
    assert session.predict(mixed).exact == score.endswith("merge")
