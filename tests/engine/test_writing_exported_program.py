""".pt2 files: torch loads them again, with the same outputs and names, at any batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Network, capture
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.exported_program import write_exported_program


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    return capture(module, (torch.randn(1, 2, 6, 6),))


def test_that_the_program_gives_the_same_outputs_at_any_batch(
    network: Network, tmp_path: Path
) -> None:
    export = write_exported_program(network, tmp_path / "a.pt2", Job())
    program = torch.export.load(tmp_path / "a.pt2").module()
    for count in (1, 3):
        x = torch.randn(count, 2, 6, 6)
        assert torch.equal(program(x), network.outputs(x)[0])
    assert export.checks["relative_error"].value == 0.0
    assert export.checks["bytes"].value == (tmp_path / "a.pt2").stat().st_size
    assert sum(share.bytes for share in export.shares) == (tmp_path / "a.pt2").stat().st_size


def test_that_layers_keep_their_names_in_the_program(network: Network, tmp_path: Path) -> None:
    write_exported_program(network, tmp_path / "a.pt2", Job())
    program = torch.export.load(tmp_path / "a.pt2")
    assert {"0.weight", "1.running_mean", "4.bias"} <= set(program.state_dict)


def test_that_compact_layers_are_unpacked_and_the_notes_say_so(
    network: Network, tmp_path: Path
) -> None:
    small, layer = network.copy(), network.layer("4")
    form = Integer(bits=4).trainable(layer.get_parameter("weight"), None)
    small.replace("4", CompactLayer(layer, {"weight": form}))
    settle(small)
    export = write_exported_program(small, tmp_path / "a.pt2", Job())
    x = torch.randn(3, 2, 6, 6)
    program = torch.export.load(tmp_path / "a.pt2").module()
    assert torch.allclose(program(x), small.outputs(x)[0], atol=1e-6)
    assert any("unpacked to float32" in note for note in export.notes)


def test_that_a_network_that_cannot_be_followed_is_refused_and_nothing_written(
    tmp_path: Path,
) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(x if x.sum() > 0 else -x)
            return result

    with pytest.raises(UserError, match=r"torch\.export cannot follow"):
        write_exported_program(
            capture(Branching(), (torch.zeros(2, 4),)), tmp_path / "a.pt2", Job()
        )
    assert not list(tmp_path.iterdir())
