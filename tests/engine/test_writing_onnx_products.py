"""Products take small weights as they are, where that is faster and true enough."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.events import Source
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.options import Scalar
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.onnx import write_onnx


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    layers = [nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024, bias=False), nn.ReLU()]
    return capture(nn.Sequential(*layers, nn.Linear(1024, 10)), (torch.randn(1, 1024),))


def compressed(network: Network, **options: Scalar) -> Network:
    choice = Choice(precision=Setting("integer", options))
    recipe = Recipe(layers=dict.fromkeys(("0", "2"), choice))
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    return made


def dequantized_in(path: Path) -> int:
    return sum(node.op_type == "DequantizeLinear" for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    ("options", "smaller"),
    [
        ({"bits": 4, "granularity": "group", "group_size": 32}, 6),
        ({"bits": 4, "granularity": "channel"}, 7),
        ({"bits": 4, "granularity": "tensor"}, 7),
        ({"bits": 8, "granularity": "channel"}, 3.8),
    ],
)
def test_that_small_weights_make_the_file_smaller_and_the_network_faster(
    network: Network, tmp_path: Path, options: dict[str, Scalar], smaller: float
) -> None:
    made = compressed(network, **options)
    path = tmp_path / "products.onnx"
    export = write_onnx(made, path, None, network, Job())
    assert dequantized_in(path) == 2
    assert export.checks["speedup"].value > 1.3
    assert export.checks["compression"].value > smaller
    assert export.checks["label_agreement"].value >= 98
    assert any("small weights as they are" in note for note in export.notes)
    x = np.random.default_rng(1).normal(size=(5, 1024)).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes())
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    with torch.no_grad():
        wanted = made.outputs(torch.from_numpy(x))[0].numpy()
    assert np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()
    again = read_network(Source(path=str(path)))
    torch.testing.assert_close(
        again.outputs(torch.from_numpy(x))[0], torch.from_numpy(wanted), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "options", [{"bits": 3}, {"bits": 4, "granularity": "group", "group_size": 48}]
)
def test_that_weights_without_a_kernel_stay_exact(
    network: Network, tmp_path: Path, options: dict[str, Scalar]
) -> None:
    made = compressed(network, **options)
    path = tmp_path / "exact.onnx"
    export = write_onnx(made, path, None, network, Job())
    assert dequantized_in(path) == 0
    assert export.checks["relative_error"].value < 1e-4
