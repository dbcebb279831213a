"""ONNX files in half precision are half as large and close to the network."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.writing.onnx_half import write_half_onnx

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def test_that_the_file_holds_float16_and_opens_to_nearly_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.Flatten(),
        nn.Linear(512, 40),
    )
    network = capture(module.eval(), (torch.randn(2, 3, 16, 16),))
    path = tmp_path / "half.onnx"
    export = write_half_onnx(network, path, None, network, Job())
    weights = [one for one in onnx.load(path).graph.initializer if len(one.dims) > 1]
    assert {one.data_type for one in weights if one.dims[0] > 1} == {TensorProto.FLOAT16}
    assert 1.7 < export.checks["compression"].value < 2.1
    assert export.checks["relative_error"].value < 0.01
    assert export.checks["bytes"].value == path.stat().st_size
    again = read_network(Source(path=str(path)))
    sample = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        given, expected = again.outputs(sample)[0], network.outputs(sample)[0]
    assert (given - expected).abs().max() < 0.01 * expected.abs().max()
    assert any("float16" in note for note in again.notes)


def test_that_numbers_too_large_for_float16_are_refused_and_nothing_written(
    tmp_path: Path,
) -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with torch.no_grad():
        module[0].weight.mul_(1e7)
    network = capture(module, (torch.randn(2, 8),))
    with pytest.raises(UserError, match="In float16 the network would differ"):
        write_half_onnx(network, tmp_path / "half.onnx", None, network, Job())
    assert not (tmp_path / "half.onnx").exists()
