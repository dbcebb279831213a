"""Weights as coefficients: their bases, what stays of them, and what data says of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.applicability import Chosen
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.coefficient_layers import CoefficientLayer, TransformConvolution
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.evidence import Need
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.sparsity.brain_damage import BrainDamage
from featherweight.engine.methods.structure.shared_basis import SharedBasis
from featherweight.engine.methods.structure.transform import Transform
from featherweight.engine.network import Network, capture
from featherweight.engine.results import Export
from featherweight.engine.task import Task
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.onnx import write_onnx

NEEDS: frozenset[Need] = frozenset({"moments", "gradients"})
CONVOLUTIONS = [
    (nn.Conv2d(4, 6, 3, padding=1, groups=2), torch.randn(2, 4, 7, 7)),
    (nn.Conv2d(6, 6, 5, groups=6, bias=False), torch.randn(2, 6, 7, 7)),
    (nn.Conv1d(4, 6, 7, 2, 3, padding_mode="circular"), torch.randn(2, 4, 20)),
    (nn.Conv3d(3, 4, 3, padding="same", dilation=2), torch.randn(2, 3, 6, 6, 6)),
    (nn.Conv2d(8, 12, (3, 1), stride=2), torch.randn(2, 8, 9, 9)),
]
LAYERS = [
    (nn.Linear(64, 10), torch.randn(4, 64)),
    (nn.Linear(48, 6, bias=False), torch.randn(2, 3, 48)),
    (nn.Linear(35, 6), torch.randn(3, 35)),
    (nn.Conv2d(8, 12, 1), torch.randn(2, 8, 7, 7)),
    *CONVOLUTIONS,
]
KINDS = [
    Transform(keep=0.6, basis="dct"),
    Transform(keep=0.6, basis="haar"),
    Transform(keep=0.6, basis="klt"),
    SharedBasis(atoms=3),
    SharedBasis(atoms=3, computed="maps"),
    SharedBasis(atoms=3, basis="gaussian"),
]


class Images(nn.Module):
    """Two convolutions, one of each channel alone, and a linear layer that sees 6 images of 4×4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.alone = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)
        self.fc = nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc(self.alone(self.conv(x).relu()).relu().flatten(1))
        return result


def network_of(method: FactorMethod, inputs: Tensor) -> tuple[Network, list[str]]:
    """Return a network in which every layer that can is changed by the method, and their names."""
    torch.manual_seed(4)
    network = capture(Images().eval(), (inputs[:1],))
    takers = [name for name, layer in network.layers() if not method.lock(layer)]
    chosen = {name: Chosen(structure=method) for name in takers}
    return restructured(network, analyse(network), chosen), [f"{name}.0" for name in takers]


def task_of(network: Network, inputs: Tensor) -> Task:
    samples = TensorSamples((inputs,), torch.arange(len(inputs)) % 5)
    dataset = Dataset(samples, samples, labelled=True)
    return Task(TaskSource(kind="classification"), "classification", dataset, network, 5)


def noting(calls: list[tuple[Tensor, Tensor]]) -> Callable[[nn.Module, Any, Tensor], None]:
    """Return a hook that notes what a layer is given and what it gives."""

    def note(_: nn.Module, inputs: Any, output: Tensor) -> None:
        calls.append((inputs[0], output))

    return note


def waves(side: int, basis: str) -> Tensor:
    """Return the basis of one side, frequencies by places, float64."""
    layer = TransformConvolution(1, 1, (side,), basis=basis, kept=side)
    return layer.seen({}, torch.eye(side, dtype=torch.float64)[None])[0].T


@given(st.integers(1, 64), st.sampled_from(["dct", "haar", "gaussian"]))
@settings(max_examples=40, deadline=None)
def test_that_every_basis_is_orthonormal(side: int, basis: str) -> None:
    made = waves(side, basis)
    torch.testing.assert_close(made @ made.T, torch.eye(side).double(), rtol=0, atol=1e-9)


def test_that_cosines_steps_and_derivatives_are_what_they_are_called() -> None:
    for at in range(28):
        for place in range(28):
            scale = math.sqrt((1 if at == 0 else 2) / 28)
            cosine = scale * math.cos(math.pi * at * (2 * place + 1) / 56)
            assert float(waves(28, "dct")[at, place]) == pytest.approx(cosine, abs=1e-12)
        if at > 3:
            break
    half = math.sqrt(0.5)
    steps = torch.tensor(
        [[0.5] * 4, [0.5, 0.5, -0.5, -0.5], [half, -half, 0, 0], [0, 0, half, -half]]
    )
    torch.testing.assert_close(waves(4, "haar"), steps.double())
    bell = torch.exp(-((torch.arange(9) - 4.0).double() ** 2) / (2 * (9 / 4) ** 2))
    first, second = waves(9, "gaussian")[:2]
    torch.testing.assert_close(first, bell / bell.norm())
    slope = bell * (torch.arange(9) - 4)
    torch.testing.assert_close(second, slope / slope.norm())


@pytest.mark.parametrize(("layer", "x"), LAYERS)
@pytest.mark.parametrize("basis", ["dct", "haar", "klt"])
def test_that_all_coefficients_give_the_layer_again_and_have_its_energy(
    layer: nn.Module, x: Tensor, basis: str
) -> None:
    chain = Transform(keep=1.0, basis=basis).rewritten(layer)
    with torch.no_grad():
        torch.testing.assert_close(chain(x), layer(x), rtol=0, atol=1e-5)
    held, whole = (one.get_parameter("weight").detach().norm() for one in (chain[0], layer))
    assert float(held) == pytest.approx(float(whole), rel=1e-4)


@pytest.mark.parametrize(("layer", "x"), CONVOLUTIONS)
@pytest.mark.parametrize("basis", ["learned", "dct", "gaussian"])
@pytest.mark.parametrize("computed", ["kernel", "maps"])
def test_that_as_many_atoms_as_taps_give_the_layer_again(
    layer: nn.Module, x: Tensor, basis: str, computed: str
) -> None:
    taps = layer.get_parameter("weight")[0, 0].numel()
    chain = SharedBasis(atoms=taps, basis=basis, computed=computed).rewritten(layer)
    with torch.no_grad():
        torch.testing.assert_close(chain(x), layer(x), rtol=0, atol=1e-5)


def test_that_more_atoms_than_taps_are_as_many_as_make_the_layer_smaller() -> None:
    layer = nn.Conv1d(8, 16, 3)
    chain = SharedBasis(atoms=4).rewritten(layer)
    held = sum(value.numel() for value in chain.parameters())
    assert held < sum(value.numel() for value in layer.parameters())


@pytest.mark.parametrize(("layer", "x"), LAYERS)
@pytest.mark.parametrize("method", KINDS, ids=repr)
def test_that_a_skeleton_has_the_shapes_of_what_is_made(
    layer: nn.Module, x: Tensor, method: FactorMethod
) -> None:
    if method.lock(layer):
        assert isinstance(method, SharedBasis)
        return
    chains = method.skeleton(layer), method.rewritten(layer)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.state_dict().items()}
        for chain in chains
    ]
    assert shapes[0] == shapes[1]
    assert chains[1](x).shape == layer(x).shape


def test_that_what_stays_are_the_lowest_frequencies_of_every_channel() -> None:
    layer = nn.Linear(48, 5, bias=False)
    made = Transform(keep=0.4, rows=4).rewritten(layer)[0]
    assert made.get_parameter("weight").shape == (5, 3 * 6)
    rows = waves(4, "dct")
    whole = layer.weight.detach().double().reshape(5, 3, 4, 4)
    all_of_them = rows @ whole @ rows.T
    low = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    expected = all_of_them[..., low].flatten(1).float()
    torch.testing.assert_close(made.get_parameter("weight").detach(), expected)
    back = made(torch.eye(48)).T.reshape(5, 3, 4, 4)
    near = rows.T @ torch.where(low, all_of_them, 0.0) @ rows
    torch.testing.assert_close(back, near.float(), rtol=1e-4, atol=1e-6)


def test_that_learned_atoms_are_the_nearest_of_their_number() -> None:
    layer = nn.Conv2d(8, 12, 3, groups=2)
    made = SharedBasis(atoms=4).rewritten(layer)[0]
    assert isinstance(made, CoefficientLayer)
    lost = layer.weight - made.kernel(dict(made.named_parameters()))
    values = torch.linalg.svdvals(layer.weight.detach().reshape(-1, 9))
    assert float(lost.detach().norm()) == pytest.approx(float(values[4:].norm()), rel=1e-4)


@pytest.mark.parametrize("method", KINDS, ids=repr)
def test_that_moments_and_gradients_are_those_of_the_coefficients(method: FactorMethod) -> None:
    torch.manual_seed(1)
    inputs = torch.randn(6, 4, 8, 8)
    network, names = network_of(method, inputs)
    task = task_of(network, inputs)
    found = Collector(task, 100, Job()).collect(network, dict.fromkeys(names, NEEDS))
    for name in names:
        layer, evidence = network.layer(name), found[name]["weight"]
        weight = layer.get_parameter("weight")
        each = [
            torch.autograd.grad(
                functional.cross_entropy(network.outputs(x[None])[0], torch.tensor([at % 5])),
                weight,
            )[0]
            for at, x in enumerate(inputs)
        ]
        assert evidence.gradients is not None
        squares = torch.stack([one.square() for one in each]).mean(0)
        torch.testing.assert_close(evidence.gradients.squares, squares, rtol=1e-3, atol=1e-9)
        assert evidence.moments is not None
        calls: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad(), layer.register_forward_hook(noting(calls)):
            network.outputs(inputs)
            change = torch.randn_like(weight)
            weight += change
            changed = layer(calls[0][0]) - calls[0][1]
            weight -= change
        places = changed.numel() // changed.shape[1]
        power = float(changed.square().sum()) / places
        assert evidence.moments.power(change) == pytest.approx(power, rel=1e-3)


def test_that_data_gives_directions_and_mixtures_that_lose_less_of_the_outputs() -> None:
    torch.manual_seed(3)
    inputs = functional.interpolate(torch.randn(64, 4, 3, 3), (8, 8), mode="bilinear") + 0.5
    network = capture(Images().eval(), (inputs[:1],))
    task = task_of(network, inputs)
    collect = Collector(task, 64, Job()).collect
    expected = network.outputs(inputs)[0]
    for blind, seeing, name in (
        (Transform(keep=0.25), Transform(keep=0.25, basis="klt"), "fc"),
        (SharedBasis(atoms=2), SharedBasis(atoms=2, metric="outputs"), "conv"),
        (SharedBasis(atoms=2), SharedBasis(atoms=2, metric="outputs"), "alone"),
        (SharedBasis(atoms=2, basis="dct"),
         SharedBasis(atoms=2, basis="dct", metric="outputs"), "conv"),
    ):  # fmt: skip
        errors = []
        for method in (blind, seeing):
            chosen = {name: Chosen(structure=method)}
            made = restructured(network, analyse(network), chosen, collect=collect)
            errors.append(float((made.outputs(inputs)[0] - expected).detach().square().mean()))
        assert errors[1] < 0.95 * errors[0]


def test_that_brain_damage_takes_the_coefficients_the_loss_feels_least() -> None:
    torch.manual_seed(5)
    inputs = torch.randn(20, 4, 8, 8)
    made, names = network_of(Transform(keep=1.0, rows=4), inputs)
    collect = Collector(task_of(made, inputs), 20, Job()).collect
    squares = collect(made, dict.fromkeys(names, NEEDS))["fc.0"]["weight"].gradients
    assert squares is not None
    before = made.layer("fc.0").get_parameter("weight").detach().clone()
    constrain(made, {"fc": Chosen(sparsity=BrainDamage(sparsity=0.75))}, collect=collect)
    kept = made.layer("fc.0").weight != 0
    saliency = squares.squares.sqrt() * before.abs()
    assert int(kept.sum()) == before.numel() // 4
    assert float(saliency[kept].min()) >= float(saliency[~kept].max())


@pytest.mark.parametrize(
    ("method", "bits"), [(KINDS[0], 0), (KINDS[2], 8), (KINDS[4], 8)], ids=repr
)
def test_that_coefficients_go_into_every_file_and_back(
    method: FactorMethod, bits: int, tmp_path: Path, in_every_file: Callable[..., dict[str, Export]]
) -> None:
    inputs = torch.randn(3, 4, 8, 8)
    made, names = network_of(method, inputs)
    chosen = {
        name.partition(".")[0]: Chosen(precision=Integer(bits=8) if bits else None)
        for name in names
    }
    constrain(made, chosen)
    settle(made)
    in_every_file(made, codings(made, chosen), tmp_path, (inputs,))


@pytest.mark.parametrize(
    ("module", "method", "beside"),
    [
        (nn.Linear(784, 32), Transform(keep=0.25), 16_000),
        (nn.Linear(784, 32), Transform(keep=0.25, basis="haar"), 16_000),
        (nn.Conv2d(64, 64, 5), SharedBasis(atoms=4), 8_000),
        (nn.Conv2d(64, 64, 5, groups=64), SharedBasis(atoms=4), 4_000),
    ],
)
def test_that_the_exported_file_holds_coefficients_and_no_large_basis(
    module: nn.Module, method: FactorMethod, beside: int, tmp_path: Path
) -> None:
    x = torch.randn(2, 784) if isinstance(module, nn.Linear) else torch.randn(2, 64, 8, 8)
    network = capture(nn.Sequential(module, nn.ReLU()).eval(), (x,))
    made = restructured(network, analyse(network), {"0": Chosen(structure=method)})
    write_onnx(made, tmp_path / "made.onnx", None, None, Job())
    held = 4 * made.layer("0.0").get_parameter("weight").numel()
    assert held < (tmp_path / "made.onnx").stat().st_size < held + beside


@pytest.mark.parametrize(
    ("method", "layer", "word"),
    [
        (Transform, nn.ConvTranspose2d(8, 8, 3), "transposed"),
        (Transform, nn.Embedding(8, 8), "linear layers and convolutions"),
        (Transform, nn.Linear(521, 4), "no image"),
        (Transform, nn.Conv2d(8, 8, 1, groups=8), "one weight alone"),
        (SharedBasis, nn.ConvTranspose2d(8, 8, 3), "transposed"),
        (SharedBasis, nn.Linear(8, 8), "for convolutions"),
        (SharedBasis, nn.Conv2d(8, 8, 1), "one tap"),
        (SharedBasis, nn.Conv2d(1, 1, 3), "too small"),
    ],
)
def test_that_a_layer_without_a_basis_is_locked_with_the_reason(
    method: type[FactorMethod], layer: nn.Module, word: str
) -> None:
    assert word in method.lock(layer)


@pytest.mark.parametrize(
    ("method", "layer", "words"),
    [
        (Transform(rows=5), nn.Linear(96, 4), "no images of 5×5"),
        (Transform(basis="klt"), nn.Linear(4900, 2), "too wide for the KLT"),
        (SharedBasis(basis="gaussian"), nn.Conv1d(2, 2, 65), "65 long has no fixed atoms"),
    ],
)
def test_that_a_layer_that_options_do_not_fit_is_refused_with_a_mend(
    method: FactorMethod, layer: nn.Module, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        method.skeleton(layer)
    assert caught.value.hint
