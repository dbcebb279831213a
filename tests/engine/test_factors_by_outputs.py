"""Factors by what data says: nearer outputs, and batch norms that change nothing at first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.evidence import Evidence, Need, nothing
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.structure.cp import Cp
from featherweight.engine.methods.structure.depthwise_separable import DepthwiseSeparable
from featherweight.engine.methods.structure.separable import Separable
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.network import Network, capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.task import Task
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx

CLASSES = 4
CONVOLUTIONS = ("first", "grouped", "last")
BY_OUTPUTS = {"metric": "outputs"}
PAIRS: list[tuple[FactorMethod, FactorMethod]] = [
    (Tucker(keep=keep, multiple=1), Tucker(keep=keep, multiple=1, metric="outputs"))
    for keep in (0.2, 0.5)
]
PAIRS += [
    (Separable(keep=keep, multiple=1), Separable(keep=keep, multiple=1, metric="outputs"))
    for keep in (0.2, 0.5)
]
PAIRS += [
    (Cp(keep=keep, multiple=1), Cp(keep=keep, multiple=1, metric="outputs")) for keep in (0.2, 0.5)
]
PAIRS += [
    (DepthwiseSeparable(multiplier=many), DepthwiseSeparable(multiplier=many, metric="outputs"))
    for many in (1, 2)
]


class Small(nn.Module):
    """Three convolutions, one of them in groups and without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 5, stride=2, padding=2)
        self.grouped = nn.Conv2d(12, 16, 3, padding=1, groups=2, bias=False)
        self.last = nn.Conv2d(16, 20, 3, padding="same", dilation=2)
        self.fc = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.grouped(self.first(x).relu()).relu()).relu()
        result: Tensor = self.fc(x.mean((2, 3)))
        return result


def images(count: int) -> tuple[Tensor, Tensor]:
    """Return smooth images, brighter in the quarter of their class."""
    labels = torch.arange(count) % CLASSES
    x = nn.functional.interpolate(torch.randn(count, 3, 4, 4), 16, mode="bilinear") + 0.2
    quarters = torch.stack([labels // 2 == 0, labels // 2 == 1], 1).float()
    x[:, 0] += nn.functional.interpolate(quarters[:, None, :, None], (16, 16))[:, 0]
    x[:, 1] += (labels % 2).float()[:, None, None]
    return x, labels


@dataclass(frozen=True)
class Trained:
    """A trained network, its task, and what was measured of its convolutions."""

    network: Network
    task: Task
    found: Mapping[str, Mapping[str, Evidence]]

    def layer_and_inputs(self, name: str) -> tuple[nn.Module, Tensor]:
        """Return a layer and what flows into it on images that nobody has seen."""
        seen: list[Tensor] = []
        layer = self.network.layer(name)
        torch.manual_seed(12)
        with torch.no_grad(), layer.register_forward_pre_hook(lambda _, x: seen.append(x[0])):
            self.network.outputs(images(64)[0])
        return layer, seen[0]


@pytest.fixture(scope="module")
def trained() -> Trained:
    torch.manual_seed(11)
    module, (x, labels) = Small(), images(256)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for step in range(60):
        batch = slice(step % 4 * 64, step % 4 * 64 + 64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[batch]), labels[batch]).backward()
        optimizer.step()
    network = capture(module.eval(), (x[:1],))
    samples = TensorSamples((x,), labels)
    dataset = Dataset(samples, samples, labelled=True)
    source = TaskSource(kind="classification")
    task = Task(source, "classification", dataset, network, CLASSES)
    wanted: dict[str, frozenset[Need]] = dict.fromkeys(CONVOLUTIONS, frozenset({"moments"}))
    return Trained(network, task, Collector(task, 256, Job()).collect(network, wanted))


@pytest.mark.parametrize(("by_weights", "by_outputs"), PAIRS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_that_outputs_are_nearer_where_data_says_what_counts(
    trained: Trained, name: str, by_weights: FactorMethod, by_outputs: FactorMethod
) -> None:
    layer, x = trained.layer_and_inputs(name)
    if by_weights.lock(layer):
        assert name == "grouped"
        return
    with torch.no_grad():
        plain = by_weights.rewritten(layer)
        aware = by_outputs.informed(layer, trained.found[name])
        errors = [float((chain(x) - layer(x)).square().mean()) for chain in (plain, aware)]
    assert str(plain) == str(aware)
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(("by_weights", "by_outputs"), PAIRS)
def test_that_without_evidence_outputs_are_as_near_as_weights(
    trained: Trained, by_weights: FactorMethod, by_outputs: FactorMethod
) -> None:
    layer, x = trained.layer_and_inputs("last")
    made = by_outputs.informed(layer, {})(x)
    torch.testing.assert_close(made, by_weights.rewritten(layer)(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [Tucker, Separable, DepthwiseSeparable])
def test_that_by_outputs_a_kernel_of_the_kept_rank_stays_exact_for_all_inputs(
    trained: Trained, kind: type[FactorMethod]
) -> None:
    # Whatever the data did not show has to stay right too.
    layer, _ = trained.layer_and_inputs("last")
    kept = {"multiplier": 2} if kind is DepthwiseSeparable else {"keep": 0.3, "multiple": 1}
    method, aware = (msgspec.convert({**kept, **more}, kind) for more in ({}, BY_OUTPUTS))
    planted = nn.Conv2d(16, 20, 3, padding="same", dilation=2)
    chain = method.skeleton(layer).to_empty(device="cpu")
    with torch.no_grad():
        for value in chain.parameters():
            value.normal_()
        unit = torch.eye(16 * 9).reshape(-1, 16, 3, 3)
        for part in chain:
            part.padding, part.dilation = 0, (1, 1)
        kernel = (chain(unit) - chain(torch.zeros(1, 16, 3, 3))).reshape(16, 3, 3, 20)
        planted.weight = nn.Parameter(kernel.permute(3, 0, 1, 2) / kernel.std())
        x = torch.randn(3, 16, 8, 8)
        wanted, made = planted(x), aware.informed(planted, trained.found["last"])
        error = (made(x) - wanted).norm() / wanted.norm()
    assert float(error) < 1e-5


def chain_of(made: Network, name: str) -> list[nn.Module]:
    return [made.layer(part) for part in made.parts[name]]


def with_norms(trained: Trained, method: str, collect: bool = True) -> Network:
    """Return the network with the last convolution in factors and batch norms between them."""
    setting = Setting(method, {"batch_norm": True, "keep": 0.4})
    recipe = Recipe(layers={"last": Choice(structure=setting)})
    coupling = analyse(trained.network)
    chosen = chosen_methods(trained.network, coupling, recipe)
    measure = Collector(trained.task, 256, Job()).collect if collect else nothing
    return restructured(trained.network, coupling, chosen, collect=measure)


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize(("method", "count"), [("separable", 1), ("tucker", 2)])
def test_that_batch_norms_between_factors_change_nothing_at_first(
    trained: Trained, method: str, count: int, collect: bool
) -> None:
    kinds: dict[str, FactorMethod] = {"separable": Separable(keep=0.4), "tucker": Tucker(keep=0.4)}
    layer, x = trained.layer_and_inputs("last")
    made = chain_of(with_norms(trained, method, collect), "last")
    norms = [part for part in made if isinstance(part, nn.BatchNorm2d)]
    assert [type(part) for part in made[1::2]] == [nn.BatchNorm2d] * count
    plain = kinds[method].rewritten(layer)
    with torch.no_grad():
        expected, given = plain(x), nn.Sequential(*made).eval()(x)
    assert float((given - expected).abs().max() / expected.abs().max()) < 1e-5
    assert len(norms) == count


@pytest.mark.parametrize("method", ["separable", "tucker"])
def test_that_batch_norms_start_with_the_statistics_of_the_data(
    trained: Trained, method: str
) -> None:
    _, x = trained.layer_and_inputs("last")
    made = chain_of(with_norms(trained, method), "last")
    with torch.no_grad():
        for part in made:
            if isinstance(part, nn.BatchNorm2d):
                spread = x.var((0, 2, 3)).sqrt()
                away = (part.running_mean - x.mean((0, 2, 3))).abs() / spread
                # Behind padding the kernel meets more zeros than the middle of an image.
                assert float(away.median()) < 0.5
                assert 0.5 < float((part.running_var.sqrt() / spread).median()) < 2
            x = part(x)


@pytest.mark.parametrize("bits", [0, 8])
@pytest.mark.parametrize("method", ["separable", "tucker"])
def test_that_batch_norms_are_part_of_their_factors_in_onnx_and_kept_in_archives(
    trained: Trained, method: str, bits: int, tmp_path: Path
) -> None:
    precision = Setting("integer", {"bits": bits}) if bits else None
    structure = Setting(method, {"batch_norm": True, "keep": 0.4})
    recipe = Recipe(layers={"last": Choice(structure=structure, precision=precision)})
    coupling = analyse(trained.network)
    chosen = chosen_methods(trained.network, coupling, recipe)
    predicted = Predictor(trained.network, coupling).predict(recipe, chosen)
    made = restructured(trained.network, coupling, chosen)
    constrain(made, chosen)
    made.module.train()
    x = images(32)[0]
    made.outputs(x)[0].square().mean().backward()
    torch.optim.SGD(made.module.parameters(), 0.1).step()
    made.module.eval()
    settle(made)
    ledger = write_archive(made, codings(made, chosen), tmp_path / "made.fwz")
    assert predicted.after.bits == ledger.bits - ledger.container
    again = read_network(Source(path=str(tmp_path / "made.fwz")))
    torch.testing.assert_close(again.outputs(x), made.outputs(x), rtol=0, atol=0)
    export = write_onnx(made, tmp_path / "made.onnx", None, trained.network, Job())
    assert export.checks["relative_error"].value < 1e-4
    kinds = {node.op_type for node in onnx.load(tmp_path / "made.onnx").graph.node}
    assert "BatchNormalization" not in kinds
