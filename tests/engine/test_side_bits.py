"""Biases and scales in 16 bits: predicted, stored, read again, exported, and trained."""

from pathlib import Path

import pytest
import torch
from torch import nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import codings, constrain, halve_biases, restructured
from featherweight.engine.events import Source
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.ledger import Ledger
from featherweight.engine.network import Network, capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting, recipe_from_yaml, recipe_to_yaml
from featherweight.engine.settled_norms import settle_norms
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.safetensors import write_safetensors

CHOICES = {
    "integer": Choice(precision=Setting("integer", {"bits": 4})),
    "integer by group": Choice(
        precision=Setting("integer", {"bits": 4, "granularity": "group", "group_size": 8})
    ),
    "binary": Choice(precision=Setting("binary", {"terms": 2})),
    "ternary": Choice(precision=Setting("ternary")),
    "codebook": Choice(precision=Setting("codebook")),
    "float16": Choice(precision=Setting("float16")),
    "sparse": Choice(sparsity=Setting("magnitude", {"sparsity": 0.8})),
    "sparse and coded": Choice(
        sparsity=Setting("magnitude", {"sparsity": 0.8}),
        precision=Setting("integer", {"bits": 4}),
        coding=Setting("ans"),
    ),
    "coded": Choice(coding=Setting("bit_packed")),
    "factors": Choice(structure=Setting("svd", {"keep": 0.5})),
    "factors of integers": Choice(
        structure=Setting("svd", {"keep": 0.5}), precision=Setting("integer")
    ),
    "channels": Choice(structure=Setting("channel_pruning", {"ratio": 0.25})),
}


def network(scale: float = 1.0) -> Network:
    """A network of two chosen layers, the first with a batch norm behind it."""
    torch.manual_seed(7)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)
    )
    with torch.no_grad():
        for value in (module[0].bias, module[4].bias):
            value.uniform_(-1, 1).mul_(scale)
        norm = module[1]
        for told in (norm.bias, norm.running_mean):
            told.uniform_(-1, 1)
        for told in (norm.weight, norm.running_var):
            told.uniform_(0.5, 2)
    return capture(module.eval(), (torch.randn(2, 3, 8, 8),))


def compressed(source: Network, recipe: Recipe, path: Path) -> tuple[Network, Ledger, float]:
    """Return the result, the ledger of its archive at `path`, and the bits that were predicted."""
    coupling = analyse(source)
    chosen = chosen_methods(source, coupling, recipe)
    predicted = Predictor(source, coupling).predict(recipe, chosen)
    assert predicted.exact
    made = restructured(source, coupling, chosen)
    constrain(made, chosen)
    halve_biases(made, chosen)
    settle(made)
    if recipe.side_bits == 16:
        settle_norms(made, chosen)
    return made, write_archive(made, codings(made, chosen), path), predicted.after.bits


def recipe_of(choice: Choice, side_bits: int) -> Recipe:
    """Give both layers a choice; the first gets no channels cut, which would reach the second."""
    layers = {"0": choice, "4": choice}
    if choice.structure and choice.structure.method in ("svd", "channel_pruning"):
        layers.pop("0" if choice.structure.method == "svd" else "4")
    return Recipe(layers=layers, side_bits=16 if side_bits == 16 else 32)


@pytest.mark.parametrize("kind", CHOICES)
def test_that_halved_sides_are_predicted_stored_and_read_again_bit_for_bit(
    kind: str, tmp_path: Path
) -> None:
    source, path = network(), tmp_path / "made.fwz"
    _, plain, _ = compressed(source, recipe_of(CHOICES[kind], 32), tmp_path / "plain.fwz")
    made, ledger, predicted = compressed(source, recipe_of(CHOICES[kind], 16), path)
    assert predicted == ledger.bits - ledger.container
    assert 8 * path.stat().st_size == ledger.bits
    chosen = [entry for entry in ledger.entries if not entry.layer.startswith("1")]
    biases = [entry for entry in chosen if entry.tensor == "bias"]
    in_recipe = recipe_of(CHOICES[kind], 16).layers
    for entry in biases:
        halved = entry.layer.partition(".")[0] in in_recipe
        assert entry.bits * (2 if halved else 1) == entry.original
    norm = sum(entry.bits for entry in ledger.entries if entry.layer == "1")
    channels = made.layer("1").get_parameter("weight").numel()
    assert norm == (32 if "0" in in_recipe else 4 * 32 + 64 / channels) * channels
    before = {(entry.layer, entry.tensor): entry for entry in plain.entries}
    for entry in chosen:
        assert entry.scales * 2 == before[entry.layer, entry.tensor].scales
    again = read_network(Source(path=str(path)))
    inputs = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(again.outputs(inputs), made.outputs(inputs), rtol=0, atol=0)
    rewritten = write_archive(again, {}, tmp_path / "again.fwz").entries
    assert [entry for entry in rewritten if entry.tensor == "bias"] == [
        entry for entry in ledger.entries if entry.tensor == "bias"
    ]


@pytest.mark.parametrize("kind", ["integer", "binary", "factors"])
def test_that_halved_sides_change_outputs_next_to_nothing_and_export(
    kind: str, tmp_path: Path
) -> None:
    source = network()
    plain, _, _ = compressed(source, recipe_of(CHOICES[kind], 32), tmp_path / "plain.fwz")
    made, _, _ = compressed(source, recipe_of(CHOICES[kind], 16), tmp_path / "made.fwz")
    inputs = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        wanted, given = plain.outputs(inputs)[0], made.outputs(inputs)[0]
    assert not torch.equal(wanted, given)
    assert float((wanted - given).norm() / wanted.norm()) < 5e-3
    export = write_onnx(made, tmp_path / "made.onnx", None, None, Job())
    assert export.checks["relative_error"].value < 1e-4
    write_safetensors(made, tmp_path / "made.safetensors", Job())


@pytest.mark.parametrize("scale", [1e-6, 1e4, float("inf")])
def test_that_biases_that_16_bits_hold_badly_keep_32(scale: float, tmp_path: Path) -> None:
    source = network(scale)
    recipe = recipe_of(CHOICES["integer"], 16)
    made, ledger, predicted = compressed(source, recipe, tmp_path / "made.fwz")
    assert predicted == ledger.bits - ledger.container
    biases = {entry.layer: entry for entry in ledger.entries if entry.tensor == "bias"}
    assert all(biases[name].bits == biases[name].original for name in ("0", "4"))
    torch.testing.assert_close(made.layer("4").bias, source.layer("4").bias, rtol=0, atol=0)


def test_that_scales_of_weights_too_small_for_16_bits_keep_32(tmp_path: Path) -> None:
    source = network()
    with torch.no_grad():
        source.layer("4").get_parameter("weight").mul_(1e-5)
    for kind in ("integer", "binary", "ternary"):
        recipe = recipe_of(CHOICES[kind], 16)
        _, ledger, predicted = compressed(source, recipe, tmp_path / "made.fwz")
        assert predicted == ledger.bits - ledger.container
        rows = {entry.layer: entry for entry in ledger.entries if entry.tensor == "weight"}
        terms = 2 if kind == "binary" else 1
        assert (rows["0"].scales, rows["4"].scales) == (16 * 16 * terms, 32 * 10 * terms)


@pytest.mark.parametrize("captured", [True, False])
def test_that_all_biases_of_a_recurrent_layer_and_of_one_without_a_graph_are_halved(
    captured: bool, tmp_path: Path
) -> None:
    module = nn.Sequential(nn.LSTM(8, 6, batch_first=True)).eval()
    example = (torch.randn(2, 5, 8),)
    source = capture(module, example) if captured else Network(module, example, graph_lock="none")
    recipe = Recipe(layers={"0": CHOICES["ternary"]}, side_bits=16)
    made, ledger, predicted = compressed(source, recipe, tmp_path / "made.fwz")
    assert predicted == ledger.bits - ledger.container
    biases = [entry for entry in ledger.entries if "bias" in entry.tensor]
    assert [entry.bits for entry in biases] == [16 * 4 * 6] * 2
    assert made.outputs(*example)[0].shape == (2, 5, 6)


def test_that_a_recipe_without_the_field_is_read_and_runs_as_ever() -> None:
    old = recipe_from_yaml("version: 1\nlayers: {}\n", "old.yaml")
    assert old.side_bits == 32
    new = Recipe(side_bits=16)
    assert recipe_from_yaml(recipe_to_yaml(new), "new.yaml") == new


def test_that_halved_biases_train_and_settle_to_what_they_gave() -> None:
    source = network()
    coupling, recipe = analyse(source), recipe_of(CHOICES["integer"], 16)
    chosen = chosen_methods(source, coupling, recipe)
    made = restructured(source, coupling, chosen)
    constrain(made, chosen)
    halve_biases(made, chosen)
    inputs = torch.randn(4, 3, 8, 8)
    optimizer = torch.optim.SGD(made.module.parameters(), lr=0.1)
    before = made.layer("4").bias.detach().clone()
    made.outputs(inputs)[0].square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        trained = made.outputs(inputs)[0]
        settle(made)
        torch.testing.assert_close(made.outputs(inputs)[0], trained, rtol=0, atol=0)
    assert not torch.equal(made.layer("4").bias, before)
