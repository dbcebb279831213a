"""Weights beside Python source: the source rebuilds the network without anything of ours."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.float16 import Float16
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.safetensors import write_safetensors

RUN = """
import sys
sys.meta_path.insert(0, type("Refusing", (), {{"find_spec": staticmethod(
    lambda name, *_: (_ for _ in ()).throw(ImportError(name))
    if name.partition(".")[0] == "featherweight" else None)}}))
sys.path.insert(0, {folder!r})
import numpy, torch, net
inputs = [torch.from_numpy(numpy.load({folder!r} + f"/{{at}}.npy")) for at in range({count})]
with torch.no_grad():
    result = net.load()(*inputs)
for at, output in enumerate(result if isinstance(result, tuple) else (result,)):
    numpy.save({folder!r} + f"/result{{at}}.npy", output.numpy())
assert not [name for name in sys.modules if name.startswith("featherweight")]
"""


class Pictures(nn.Module):
    """Convolutions, norms, a raw parameter, two outputs, a class of Python's own as a name."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, 2, bias=False)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("steps", torch.arange(4.0).reshape(4, 1, 1))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.up(self.stages(x)) * self.scale + self.steps
        y = functional.gelu(y, approximate="tanh")[:, :, 1:, 2:]
        return self.fc(functional.adaptive_avg_pool2d(y, 1).flatten(1)), y


class Words(nn.Module):
    """Attention, an embedding whose table is the last layer's weight, a mask of infinities."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, 16)
        self.qkv = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.tokens(words)
        batch, steps, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, steps, 3, 2, width // 2).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / width**0.5
        mask = torch.ones(steps, steps, dtype=torch.bool).tril()
        scores = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        y = torch.einsum("bhqk,bkhd->bqhd", scores, v).reshape(batch, steps, width)
        return self.head(self.lstm(x + y)[0])


@pytest.fixture
def rebuilt(tmp_path: Path) -> Callable[[Network, tuple[Tensor, ...]], list[Tensor]]:
    """Give a function that writes a network, and runs its source in a process of its own."""

    def run(network: Network, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        write_safetensors(network, tmp_path / "net.safetensors", Job())
        for at, tensor in enumerate(inputs):
            np.save(tmp_path / f"{at}.npy", tensor.numpy())
        code = RUN.format(folder=str(tmp_path), count=len(inputs))
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
        count = len(network.outputs(*inputs))
        return [torch.from_numpy(np.load(tmp_path / f"result{at}.npy")) for at in range(count)]

    return run


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (Pictures, (torch.randn(3, 3, 16, 16),)),
        (Words, (torch.randint(0, 30, (3, 7)),)),
    ],
    ids=["pictures", "words"],
)
def test_that_the_source_rebuilds_the_network_without_featherweight(
    kind: type[nn.Module],
    inputs: tuple[Tensor, ...],
    rebuilt: Callable[..., list[Tensor]],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = capture(kind(), tuple(tensor[:2] for tensor in inputs))
    with torch.no_grad():
        expected = network.outputs(*inputs)
    for result, wanted in zip(rebuilt(network, inputs), expected, strict=True):
        assert torch.allclose(result, wanted, rtol=1e-5, atol=1e-6)
    source = (tmp_path / "net.py").read_text()
    assert "import featherweight" not in source
    assert "torch.ops" not in source or "masked_fill" in source


def test_that_a_written_network_opens_again_with_its_source_as_factory(tmp_path: Path) -> None:
    network = capture(Words(), (torch.randint(0, 30, (2, 7)),))
    path = tmp_path / "net.safetensors"
    export = write_safetensors(network, path, Job())
    source = tmp_path / "net.py"
    again = read_network(
        Source(
            path=str(path),
            factory=f"{source}:Network",
            trust=(str(source),),
            input_shapes=((2, 7),),
            input_dtypes=("int64",),
        )
    )
    words = torch.randint(0, 30, (2, 7))
    assert torch.allclose(again.outputs(words)[0], network.outputs(words)[0], atol=1e-6)
    assert export.checks["bytes"].value == path.stat().st_size
    assert sum(share.bytes for share in export.shares) == path.stat().st_size
    assert "head.weight" not in load_file(path)


def test_that_half_precision_weights_are_written_as_such(tmp_path: Path) -> None:
    network = capture(nn.Sequential(nn.Linear(64, 64), nn.ReLU()), (torch.randn(2, 64),))
    layer = network.layer("0")
    form = Float16().trainable(layer.get_parameter("weight").detach(), None).settled()
    network.replace("0", CompactLayer(layer, {"weight": form}))
    write_safetensors(network, tmp_path / "net.safetensors", Job())
    kinds = {name: value.dtype for name, value in load_file(tmp_path / "net.safetensors").items()}
    assert kinds == {"layer_0.weight": torch.float16, "layer_0.bias": torch.float32}


def test_that_a_python_file_of_the_persons_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("my = 'own'\n")
    network = capture(nn.Linear(4, 4), (torch.randn(2, 4),))
    with pytest.raises(UserError, match="Featherweight did not write it"):
        write_safetensors(network, tmp_path / "net.safetensors", Job())
    assert (tmp_path / "net.py").read_text() == "my = 'own'\n"
    assert not (tmp_path / "net.safetensors").exists()
