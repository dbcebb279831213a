"""4-bit weights in blocks are multiplied as they are, where that is faster and true enough."""

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
    choice = Choice(precision=Setting("integer", {"bits": 4, **options}))
    recipe = Recipe(layers=dict.fromkeys(("0", "2"), choice))
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    return made


def blocks_in(path: Path) -> int:
    attributes = (a.name for node in onnx.load(path).graph.node for a in node.attribute)
    return sum(name == "block_size" for name in attributes)


def test_that_weights_in_blocks_make_the_file_smaller_and_the_network_faster(
    network: Network, tmp_path: Path
) -> None:
    made = compressed(network, granularity="group", group_size=32)
    path = tmp_path / "blocks.onnx"
    export = write_onnx(made, path, None, network, Job())
    assert blocks_in(path) == 2
    assert export.checks["speedup"].value > 1.5
    assert export.checks["compression"].value > 6
    assert export.checks["label_agreement"].value >= 98
    assert any("4-bit weights as they are" in note for note in export.notes)
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
    "options", [{"granularity": "channel"}, {"granularity": "group", "group_size": 48}]
)
def test_that_weights_without_blocks_of_the_kernel_stay_exact(
    network: Network, tmp_path: Path, options: dict[str, Scalar]
) -> None:
    made = compressed(network, **options)
    path = tmp_path / "exact.onnx"
    export = write_onnx(made, path, None, network, Job())
    assert blocks_in(path) == 0
    assert export.checks["relative_error"].value < 1e-4
