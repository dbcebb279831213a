"""What others reach with as many epochs: Deep Compression as published, and Torch-Pruning."""

import copy
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from methods_bench import Bench, difference
from methods_coding import deep_compression_bits
from methods_networks import Training, train
from peer_pruning import is_installed, prune

from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.controls import by_labels
from featherweight.engine.weight_forms import densified
from featherweight.engine.writing.onnx import write_onnx

# Which share of a layer's weights stays and how many values they share: Han, Mao, Dally 2016.
PUBLISHED = {
    "1": (0.08, 64),
    "3": (0.09, 64),
    "5": (0.26, 64),
    "conv1": (0.66, 256),
    "conv2": (0.12, 256),
    "fc1": (0.08, 32),
    "fc2": (0.19, 32),
}
FLOAT_BITS = 32


@dataclass(frozen=True)
class Rival:
    """What a rival gave; `reason` says why it gave nothing."""

    name: str
    factor: float = 0.0
    drop: float = 0.0
    error: float = 0.0
    reason: str = ""


def deep_compression(bench: Bench, recipe: Recipe) -> Rival:
    """Prune by magnitude, train, share values, train, and code gaps and values by Huffman.

    Biases and codebooks take 32 bits each, as in the paper; there is no other overhead.
    """
    name = "magnitude, k-means and Huffman"
    layers = [layer for layer in bench.network.parts if layer in PUBLISHED]
    if recipe.recovery is None or len(layers) != len(bench.network.parts):
        return Rival(name, reason="nothing is published for this network")
    choices = {
        layer: Choice(
            sparsity=Setting("magnitude", {"sparsity": 1 - PUBLISHED[layer][0]}),
            precision=Setting("codebook", {"clusters": PUBLISHED[layer][1]}),
        )
        for layer in layers
    }
    training = msgspec.structs.replace(by_labels(recipe.recovery), gradual=0.6)
    result = bench.session.compress(
        Recipe(layers=choices, recovery=training), "rival", str(bench.folder), Job()
    )
    made = densified(bench.result(result))
    bits = 0
    for layer in layers:
        weight = made.layer(layer).get_parameter("weight").detach().numpy()
        bias = made.layer(layer).get_parameter("bias").numel()
        bits += deep_compression_bits(weight) + FLOAT_BITS * (bias + PUBLISHED[layer][1])
    lost = difference(bench.control(recipe.recovery), bench.right(made))
    before = result.before.figures["bytes"].value
    return Rival(name, 8 * before / bits, lost.value, lost.error or 0.0)


def peer(bench: Bench, recipe: Recipe) -> Rival:
    """Prune channels with Torch-Pruning at the recipe's ratio, train as long, export as ONNX."""
    name = "Torch-Pruning with fine-tuning"
    ratios = [
        float(choice.structure.options["ratio"])
        for choice in recipe.layers.values()
        if choice.structure and "ratio" in choice.structure.options
    ]
    if not is_installed():
        return Rival(name, reason="it is not installed")
    if not ratios or recipe.recovery is None:
        return Rival(name, reason="the recipe removes no channels")
    module = copy.deepcopy(bench.network.module)
    last = list(bench.network.parts)[-1]
    prune(module, bench.network.example, [last], sum(ratios) / len(ratios))
    torch.manual_seed(recipe.seed)
    images, labels = bench.task.recovery.batch(range(len(bench.task.recovery)))
    assert labels is not None
    how = Training(recipe.recovery.epochs, recipe.recovery.batch_size, len(labels))
    train(module, (images[0].numpy(), labels.numpy()), how)
    network = capture(module, bench.network.example)
    lost = difference(bench.control(recipe.recovery), bench.right(network))
    path = Path(bench.folder) / "peer.onnx"
    checks = write_onnx(network, path, bench.task, bench.network, Job()).checks
    return Rival(name, checks["speedup"].value, lost.value, lost.error or 0.0)
