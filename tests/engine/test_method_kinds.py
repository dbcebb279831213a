"""Every method on every kind of layer: it keeps its promises there, or says why it cannot."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods, locks
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.evidence import Collect, nothing
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.registry import method_of, methods
from featherweight.engine.network import Network, capture, fingerprint
from featherweight.engine.prediction import Predictor, cost_of
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Prediction
from featherweight.engine.task import Task
from featherweight.engine.weight_forms import densified, settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx

METHODS = list(methods())
STRUCTURES = [name for name, kind in methods().items() if kind.slot == "structure"]
EXPORTED = [name for name, kind in methods().items() if kind.slot in ("structure", "precision")]
INTEGERS = Setting("integer", {"bits": 4})
SPARSE = Setting("magnitude", {"sparsity": 0.7})
# What a coder needs in the slots before it, so that it can take a layer at all.
BEFORE = {
    **dict.fromkeys(("huffman", "ans", "context"), Choice(precision=INTEGERS)),
    "sparse_index": Choice(sparsity=SPARSE),
}
CODERS = ("bit_packed", "huffman", "ans", "context", "sparse_index")
# What by default keeps every coefficient of so small a kernel: only later slots make it smaller.
WHOLE = {("pointwise", "transform")}
# What an ONNX file can hold as plain floats only.
UNPACKED = {"frequency", "hashed"}
# Bytes that an ONNX file spends on the names and shapes of one more layer.
OVERHEAD = 128
# Kinds of the same layers as another, and methods that are enough to show what is exported there.
ALIKE = ("conv2d", "conv2d_valid", "conv2d_same", "conv3d", "attention", "split_attention")
SHOWN = ("svd", "tucker", "channel_pruning", "integer")


class Layered(nn.Module):
    """The layer that methods get, and one behind it that reads its channels."""

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.MultiheadAttention):
            x = self.layer(x, x, x, need_weights=False)[0]
        elif isinstance(self.layer, nn.RNNBase):
            x = self.layer(x)[0]
        else:
            x = self.layer(x).relu()
        if isinstance(self.layer, nn.modules.conv._ConvNd):
            x = x.flatten(2).mean(2)
        result: Tensor = self.head(x)
        return result


class Attention(nn.Module):
    """Four heads of which query, key and value have a linear layer each."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        heads = [
            part(x).unflatten(-1, (4, 4)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


def _floats(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape)


TOKENS, LINE, IMAGE, CUBE = (
    _floats(24, 5, 16), _floats(24, 8, 12), _floats(24, 8, 9, 9), _floats(24, 4, 6, 6, 6)
)  # fmt: skip
# For each kind a layer, its output channels, and inputs.
KINDS: dict[str, tuple[Callable[[], nn.Module], int, Callable[[], Tensor]]] = {
    "linear": (lambda: nn.Linear(16, 16), 16, TOKENS),
    "conv1d": (lambda: nn.Conv1d(8, 16, 3, padding=1), 16, LINE),
    "conv2d": (lambda: nn.Conv2d(8, 16, 3, 2, padding=2, dilation=2), 16, IMAGE),
    "conv2d_same": (
        lambda: nn.Conv2d(8, 16, (3, 5), padding="same", dilation=(2, 1), padding_mode="circular"),
        16,
        IMAGE,
    ),
    "conv2d_valid": (lambda: nn.Conv2d(8, 16, 4, padding="valid", bias=False), 16, IMAGE),
    "conv3d": (lambda: nn.Conv3d(4, 8, 3, padding=(1, 0, 1), stride=(1, 2, 1)), 8, CUBE),
    "grouped": (lambda: nn.Conv2d(8, 16, 3, padding="same", groups=2), 16, IMAGE),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), 8, IMAGE),
    "pointwise": (lambda: nn.Conv2d(8, 16, 1, stride=2), 16, IMAGE),
    "transposed1d": (lambda: nn.ConvTranspose1d(8, 12, 4, stride=2, padding=1), 12, LINE),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(8, 12, 3, 2, padding=1, output_padding=1, groups=2), 12, IMAGE
    ),
    "embedding": (lambda: nn.Embedding(40, 16), 16, lambda: torch.randint(0, 40, (24, 5))),
    "lstm": (lambda: nn.LSTM(16, 12, batch_first=True), 12, TOKENS),
    "gru": (lambda: nn.GRU(16, 12, batch_first=True), 12, TOKENS),
    "bidirectional": (lambda: nn.LSTM(16, 12, batch_first=True, bidirectional=True), 24, TOKENS),
    "attention": (lambda: nn.MultiheadAttention(16, 4, batch_first=True), 16, TOKENS),
    "split_attention": (Attention, 16, TOKENS),
}  # fmt: skip


@dataclass
class Kind:
    """A network of one kind of layer, with what tests of all methods share."""

    network: Network
    inputs: Tensor
    coupling: Coupling = field(init=False)
    locked: dict[str, dict[str, str]] = field(init=False)
    predictor: Predictor = field(init=False)

    def __post_init__(self) -> None:
        self.coupling = analyse(self.network)
        self.locked = locks(self.network, self.coupling)
        self.predictor = Predictor(self.network, self.coupling)

    @property
    def layers(self) -> list[str]:
        return [name for name, _ in self.network.layers() if not name.endswith("head")]

    def takers(self, *names: str) -> list[str]:
        return [layer for layer in self.layers if not set(names) & set(self.locked[layer])]

    def collect(self) -> Collect:
        samples = TensorSamples((self.inputs,))
        dataset = Dataset(samples, samples, labelled=False)
        task = Task(TaskSource(kind="fidelity"), "fidelity", dataset, self.network)
        return Collector(task, len(self.inputs), Job()).collect


@cache
def kind_of(name: str) -> Kind:
    torch.manual_seed(5)
    layer, channels, inputs = KINDS[name]
    given = inputs()
    return Kind(capture(Layered(layer(), channels).eval(), (given[:2],)), given)


def choice_of(method: str, options: dict[str, Any] | None = None) -> Choice:
    setting = Setting(method, options or {})
    return BEFORE.get(method, Choice()).replaced(methods()[method].slot, setting)


def compressed(
    kind: Kind, recipe: Recipe, path: Path, collect: Collect = nothing
) -> tuple[Network, Prediction]:
    """Run a recipe, check its prediction and its archive, and return what it made."""
    network, coupling = kind.network, kind.coupling
    before = fingerprint(network)
    chosen = chosen_methods(network, coupling, recipe)
    prediction = kind.predictor.predict(recipe, chosen)
    made = restructured(network, coupling, chosen, collect=collect)
    constrain(made, chosen, collect=collect)
    settle(made)
    ledger = write_archive(made, codings(made, chosen), path)
    real = cost_of(densified(made))
    assert (prediction.after.parameters, prediction.after.macs) == (real.parameters, real.macs)
    if prediction.exact:
        assert prediction.after.bits == ledger.bits - ledger.container
        for name in recipe.layers:
            held = sum(map(ledger.of_layer, made.parts[name]))
            assert prediction.layers[name].bits == held
    again = read_network(Source(path=str(path)))
    torch.testing.assert_close(
        again.outputs(kind.inputs), made.outputs(kind.inputs), rtol=0, atol=0
    )
    assert fingerprint(network) == before
    return made, prediction


def is_sentence(reason: str) -> bool:
    return bool(re.fullmatch(r"[A-Z0-9][^\n]*\.", reason)) and not re.search(
        r"\w\.\w+\.\w|<", reason
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_that_a_method_keeps_its_promises_on_a_kind_of_layer_or_says_why_not(
    kind: str, method: str, tmp_path: Path
) -> None:
    found = kind_of(kind)
    takers = found.takers(method, *(one.method for one in _settings(choice_of(method))))
    for layer in set(found.layers) - set(takers):
        refused = Recipe(layers={layer: choice_of(method)})
        assert is_sentence(found.locked[layer].get(method, ""))
        with pytest.raises(UserError, match=re.escape(found.locked[layer][method])):
            chosen_methods(found.network, found.coupling, refused)
    if not takers:
        return
    recipe = Recipe(layers=dict.fromkeys(takers, choice_of(method)))
    made, prediction = compressed(found, recipe, tmp_path / "made.fwz")
    assert made.parts.keys() == found.network.parts.keys()
    if method in ("binary_inputs", "bit_packed") or (kind, method) in WHOLE:
        assert prediction.after.parameters >= prediction.before.parameters
    else:
        assert prediction.after.bits < prediction.before.bits
    if method != "channel_pruning":
        others = {
            name: value
            for name, value in found.network.module.state_dict().items()
            if not name.startswith(tuple(f"{layer}." for layer in takers))
        }
        kept = made.module.state_dict()
        assert all(torch.equal(kept[name], value) for name, value in others.items())


def _settings(choice: Choice) -> list[Setting]:
    slots = (choice.structure, choice.sparsity, choice.precision, choice.coding)
    return [setting for setting in slots if setting is not None]


def test_that_every_method_takes_some_kind_of_layer() -> None:
    assert all(any(kind_of(kind).takers(method) for kind in KINDS) for method in METHODS)


def informed() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return every method that asks the data, by default or by one option, under a name."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, method in methods().items():
        if method().needs():
            found[name] = name, {}
        for option in method.description().options:
            if option.name == "budget":  # It shares out what the data says, and asks no more.
                continue
            values = (True, False) if option.kind == "switch" else option.choices
            for value in values:
                setting = Setting(name, {option.name: value})
                if value != option.default and method_of(setting, name).needs():
                    found[f"{name}-{option.name}-{value}"] = name, setting.options
    return found


@pytest.mark.parametrize("case", informed())
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ALIKE])
def test_that_a_method_that_asks_the_data_keeps_its_promises_on_what_it_can_measure(
    kind: str, case: str, tmp_path: Path
) -> None:
    found, (method, options) = kind_of(kind), informed()[case]
    takers = found.takers(method)
    if not takers:
        assert all(is_sentence(found.locked[layer][method]) for layer in found.layers)
        return
    recipe = Recipe(layers=dict.fromkeys(takers, choice_of(method, options)))
    made, _ = compressed(found, recipe, tmp_path / "made.fwz", found.collect())
    assert all(output.isfinite().all() for output in made.outputs(found.inputs))


def chains() -> list[Choice]:
    """Return every choice of a sparsity, a precision and a coder that fit together."""
    sparsities = (None, SPARSE, Setting("n_of_m"))
    precisions = (INTEGERS, Setting("codebook"), Setting("binary"))
    return [
        Choice(sparsity=sparsity, precision=precision, coding=Setting(coder))
        for sparsity, precision, coder in product(sparsities, precisions, CODERS)
        if not (sparsity and precision.method == "binary")
        and not (coder == "sparse_index" and not sparsity and precision.method != "integer")
    ]


@pytest.mark.parametrize("structure", ["", *STRUCTURES])
@pytest.mark.parametrize("kind", KINDS)
def test_that_methods_of_all_slots_on_one_layer_give_the_predicted_bits(
    kind: str, structure: str, tmp_path: Path
) -> None:
    found, fitting = kind_of(kind), chains()
    # 8 is prime to how many there are, so that a structure meets another one on every kind.
    at = 8 * list(KINDS).index(kind) + 5 * (STRUCTURES.index(structure) if structure else 0)
    chain = fitting[at % len(fitting)]
    chain = chain.replaced("structure", Setting(structure) if structure else None)
    takers = found.takers(*(setting.method for setting in _settings(chain)))
    recipe = Recipe(layers=dict.fromkeys(takers, chain))
    _, prediction = compressed(found, recipe, tmp_path / "made.fwz")
    assert prediction.exact
    assert prediction.after.bits < prediction.before.bits or not takers


class Undecided(Layered):
    """Goes by its data, so that it has no graph; one layer computes in a way of its own."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(16, 16), 16)
        self.own, self.attend = Doubling(16, 16), nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.own(self.attend(x, x, x)[0])
        return super().forward(x if x.sum() > 0 else -x)


class Doubling(nn.Linear):
    """A linear layer of twice the outputs."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_that_methods_of_all_slots_meet_on_a_layer_of_a_network_without_a_graph(
    tmp_path: Path,
) -> None:
    torch.manual_seed(5)
    inputs = torch.randn(24, 5, 16)
    found = Kind(capture(Undecided().eval(), (inputs[:2],)), inputs)
    assert found.network.graph_lock
    assert found.takers("svd") == ["layer"]
    assert is_sentence(found.locked["own"]["svd"])
    assert is_sentence(found.locked["attend.out_proj"]["svd"])
    chain = Choice(structure=Setting("svd"), precision=INTEGERS, coding=Setting("ans"))
    recipe = Recipe(layers={"layer": chain})
    chosen = chosen_methods(found.network, found.coupling, recipe)
    prediction = found.predictor.predict(recipe, chosen)
    made = restructured(found.network, found.coupling, chosen)
    constrain(made, chosen)
    settle(made)
    ledger = write_archive(made, codings(made, chosen), tmp_path / "made.fwz")
    assert prediction.after.bits == ledger.bits - ledger.container
    assert prediction.layers["layer"].bits < found.network.layer("layer").weight.numel() * 16
    assert made.parts["layer"] == ("layer.0", "layer.1")


class Side(nn.Module):
    """The same network many times side by side, so that one file shows many methods."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(one(x) for one in self.each)


@pytest.mark.parametrize("kind", KINDS)
def test_that_an_onnx_file_gives_the_outputs_of_every_method_and_is_smaller(
    kind: str, tmp_path: Path
) -> None:
    alone = kind_of(kind)
    shown = SHOWN if kind in ALIKE else EXPORTED
    named = [method for method in shown if alone.takers(method)]
    torch.manual_seed(5)
    layer, channels, _ = KINDS[kind]
    source = Side([Layered(layer(), channels) for _ in named]).eval()
    found = Kind(capture(source, (alone.inputs[:2],)), alone.inputs)
    layers = {
        name: choice_of(method)
        for at, method in enumerate(named)
        for name in found.takers(method)
        if name.startswith(f"each.{at}.")
    }
    made, prediction = compressed(found, Recipe(layers=layers), tmp_path / "made.fwz")
    export = write_onnx(made, tmp_path / "made.onnx", None, None, Job())
    session = onnxruntime.InferenceSession(str(tmp_path / "made.onnx"))
    given = session.run(None, {session.get_inputs()[0].name: found.inputs[:2].numpy()})
    with torch.no_grad():
        wanted = made.outputs(found.inputs[:2])
    errors = {
        method: float((torch.from_numpy(one) - two).abs().max() / two.abs().max())
        for method, one, two in zip(named, given, wanted, strict=True)
    }
    assert all(error < 1e-4 for error in errors.values()), errors
    if alone.layers == ["layer"] and not isinstance(alone.network.layer("layer"), nn.RNNBase):
        held = {share.layer: share.bytes for share in export.shares}
        floats = sum(4 * value.numel() for value in alone.network.layer("layer").parameters())
        for name, choice in layers.items():
            size = sum(held[part] for part in made.parts[name] if part in held)
            if 8 * floats > prediction.layers[name].bits and not UNPACKED & {
                setting.method for setting in _settings(choice)
            }:
                # What is left of a dropped layer holds nothing.
                parts = [made.layer(part) for part in made.parts[name]]
                assert (size > 0) == any(part.state_dict() for part in parts), name
                assert size < floats + OVERHEAD, name
