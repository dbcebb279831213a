"""What every method must keep, whatever it does: one template over all that are registered."""

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen, chosen_methods, locks
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, Progress, Source
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.registry import methods
from featherweight.engine.network import Network, capture, fingerprint
from featherweight.engine.options import Scalar
from featherweight.engine.prediction import Predictor, cost_of
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting, recipe_from_yaml, recipe_to_yaml
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import densified, settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx

METHODS = list(methods())
# What saves no bits until another slot makes weights of fewer bits.
SAVE_WITH_OTHERS = ("binary_inputs", "bit_packed")
# What a coder needs in the slots before it, so that it can take the layer at all.
NEEDS = {
    "huffman": {"precision": Setting("integer", {"bits": 4})},
    "ans": {"precision": Setting("integer", {"bits": 4})},
    "context": {"precision": Setting("integer", {"bits": 4})},
    "sparse_index": {"sparsity": Setting("magnitude", {"sparsity": 0.8})},
}


class Small(nn.Module):
    """A convolution, a depthwise one, a 1×1 one with a shortcut, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        x = (x + self.pointwise(self.depthwise(x).relu())).relu()
        result: Tensor = self.fc(nn.functional.max_pool2d(x, 2).flatten(1))
        return result


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    module = Small()
    with torch.no_grad():
        module.norm.running_mean.uniform_(-1, 1)
        module.norm.running_var.uniform_(0.5, 2)
    return capture(module.eval(), (torch.randn(1, 3, 8, 8),))


def recipe_of(network: Network, method: str, recovery: FineTuning | None = None) -> Recipe:
    """Give the method, with its defaults, to every layer that can take it."""
    locked = locks(network, analyse(network))
    slot = methods()[method].slot
    choice = Choice(**NEEDS.get(method, {})).replaced(slot, Setting(method))
    takers = [name for name, reasons in locked.items() if method not in reasons]
    assert takers
    return Recipe(layers=dict.fromkeys(takers, choice), recovery=recovery)


def compressed(network: Network, recipe: Recipe) -> tuple[Network, dict[str, Chosen]]:
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    return made, chosen


def asks_data(chosen: dict[str, Chosen]) -> bool:
    return any(each.sparsity is not None and each.sparsity.needs() for each in chosen.values())


@pytest.mark.parametrize("method", METHODS)
def test_that_a_method_has_a_label_that_fits_into_a_chip(method: str) -> None:
    said = methods()[method].description()
    assert 0 < len(said.label.replace("{}", "0.25")) <= 14
    assert ("{}" in said.label) <= bool(said.strength)


@pytest.mark.parametrize("method", METHODS)
def test_that_predicted_parameters_macs_and_bits_are_those_of_the_real_result(
    network: Network, method: str, tmp_path: Path
) -> None:
    coupling, recipe = analyse(network), recipe_of(network, method)
    chosen = chosen_methods(network, coupling, recipe)
    predictor = Predictor(network, coupling)
    prediction = predictor.predict(recipe, chosen)
    made, _ = compressed(network, recipe)
    settle(made)
    ledger = write_archive(made, codings(made, chosen), tmp_path / "made.fwz")
    real = cost_of(densified(made))
    # What asks the data cannot know its coded size without; nothing else is excused.
    assert prediction.exact != asks_data(chosen)
    assert (prediction.after.parameters, prediction.after.macs) == (real.parameters, real.macs)
    assert prediction.after.bits == ledger.bits - ledger.container
    for name in recipe.layers:
        parts = made.parts[name]
        assert prediction.layers[name].bits == sum(map(ledger.of_layer, parts))
    assert prediction.after.bits < prediction.before.bits or method in SAVE_WITH_OTHERS
    assert ledger.bytes == (tmp_path / "made.fwz").stat().st_size


@pytest.mark.parametrize("method", METHODS)
def test_that_compressing_leaves_the_source_network_as_it_was(
    network: Network, method: str
) -> None:
    before = fingerprint(network), network.outputs(*network.example)
    made, _ = compressed(network, recipe_of(network, method))
    settle(made)
    assert fingerprint(network) == before[0]
    torch.testing.assert_close(network.outputs(*network.example), before[1], rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_that_a_compressed_network_trains_a_step_and_settles_to_what_it_gave(
    network: Network, method: str
) -> None:
    made, _ = compressed(network, recipe_of(network, method))
    inputs = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    made.module.train()
    optimizer = torch.optim.SGD(made.module.parameters(), lr=0.01)
    before = made.outputs(inputs)[0].detach().clone()
    made.outputs(inputs)[0].square().mean().backward()
    optimizer.step()
    made.module.eval()
    with torch.no_grad():
        trained = made.outputs(inputs)[0]
        settle(made)
        torch.testing.assert_close(made.outputs(inputs)[0], trained, rtol=0, atol=0)
    assert not torch.equal(before, trained)
    assert not any("mask" in name for name in made.module.state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_that_an_archive_opens_to_the_same_outputs_bit_for_bit(
    network: Network, method: str, tmp_path: Path
) -> None:
    recipe = recipe_of(network, method)
    made, chosen = compressed(network, recipe)
    settle(made)
    path = tmp_path / "made.fwz"
    write_archive(made, codings(made, chosen), path)
    again = read_network(Source(path=str(path)))
    inputs = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(again.outputs(inputs), made.outputs(inputs), rtol=0, atol=0)


# Structures and precisions are exported on every kind of layer in test_method_kinds.
BESIDE = [name for name, kind in methods().items() if kind.slot in ("sparsity", "coding")]


@pytest.mark.parametrize("method", BESIDE)
def test_that_an_onnx_export_gives_the_outputs_of_the_compressed_network(
    network: Network, method: str, tmp_path: Path
) -> None:
    made, _ = compressed(network, recipe_of(network, method))
    settle(made)
    export = write_onnx(made, tmp_path / "made.onnx", None, network, Job())
    assert export.checks["relative_error"].value < 1e-4
    assert export.checks["label_agreement"].value == 100
    assert export.checks["bytes"].value == (tmp_path / "made.onnx").stat().st_size


@pytest.mark.parametrize("method", METHODS)
def test_that_a_recipe_with_every_option_survives_its_file(network: Network, method: str) -> None:
    description = methods()[method].description()
    options: dict[str, Scalar] = {option.name: option.default for option in description.options}
    recipe = recipe_of(network, method)
    choices = {
        name: choice.replaced(description.slot, Setting(method, options))
        for name, choice in recipe.layers.items()
    }
    written = Recipe(layers=choices)
    again = recipe_from_yaml(recipe_to_yaml(written), "recipe.yaml")
    assert again == written
    assert chosen_methods(network, analyse(network), again) == chosen_methods(
        network, analyse(network), recipe
    )


@pytest.mark.parametrize(
    ("method", "option", "bad"),
    [
        (name, option.name, bad)
        for name, kind in methods().items()
        for option in kind.description().options
        if option.minimum is not None and option.maximum is not None
        for bad in (option.minimum - 1, option.maximum + 1)
    ],
)
def test_that_a_value_beyond_either_bound_is_refused_in_words(
    network: Network, method: str, option: str, bad: float
) -> None:
    recipe = recipe_of(network, method)
    slot = methods()[method].slot
    kind = next(o for o in methods()[method].description().options if o.name == option).kind
    setting = Setting(method, {option: int(bad) if kind == "integer" else bad})
    choices = {name: choice.replaced(slot, setting) for name, choice in recipe.layers.items()}
    with pytest.raises(UserError) as caught:
        chosen_methods(network, analyse(network), Recipe(layers=choices))
    assert f"layers.{next(iter(choices))}.{slot}" in caught.value.message
    assert f"field {option}" in caught.value.message
    assert f"{option} is between" in caught.value.hint


@pytest.mark.parametrize("method", METHODS)
def test_that_a_cancel_stops_within_two_progress_reports(
    network: Network, method: str, tmp_path: Path
) -> None:
    session = Session()
    source = tmp_path / "source.fwz"
    write_archive(network, {}, source)
    session.open(Source(path=str(source)))
    heard: list[Event] = []
    after_cancel: list[Event] = []
    cancelled = threading.Event()

    def hear(event: Event) -> None:
        heard.append(event)
        if cancelled.is_set():
            after_cancel.append(event)
        elif isinstance(event, Progress):
            job.cancel()
            cancelled.set()

    job = Job(hear)
    recipe = recipe_of(network, method, FineTuning(epochs=50))
    with pytest.raises(CancelledError):
        session.compress(recipe, "cancelled", str(tmp_path / "results"), job)
    assert sum(isinstance(event, Progress) for event in after_cancel) <= 2
    assert not list((tmp_path / "results").glob("*.fwz"))


def test_that_a_method_that_speeds_nothing_up_says_so() -> None:
    gains = {name: kind.gain for name, kind in methods().items()}
    fast = {name for name, gain in gains.items() if gain == "file and speed"}
    assert fast == {
        *("channel_pruning", "circulant", "column_blocks", "cp", "depthwise_separable"),
        *("drop", "fastfood", "fire", "grouped", "monarch", "multi_bias", "negation", "pointwise"),
        *("separable", "shared_basis", "svd", "tucker"),
    }


def test_that_a_method_whose_advice_asks_for_retraining_says_that_it_needs_it() -> None:
    asking = ("Needs retraining to be worth anything", "Needs retraining:", "retrain afterwards")
    for name, kind in methods().items():
        if any(words in kind.advice for words in asking):
            assert kind.retrain == "needed", name
        if kind.slot == "coding":
            assert kind.retrain == "none", name
