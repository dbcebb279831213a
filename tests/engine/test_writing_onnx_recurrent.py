"""Recurrent layers that the newer exporter does not know."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.writing.onnx import write_onnx


@pytest.mark.parametrize("settings", [{}, {"nonlinearity": "relu"}, {"bidirectional": True}])
def test_that_plain_recurrence_is_one_operator_at_any_length(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.RNN(6, 8, batch_first=True, **settings)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            steps, last = self.memory(x)
            return steps, last

    source = capture(Steps().eval(), (torch.randn(1, 5, 6),))
    write_onnx(source, tmp_path / "a.onnx", None, source, Job())
    assert "RNN" in {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    x = torch.randn(3, 9, 6)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = source.outputs(x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other)
