"""Weights beside Python source: the source rebuilds the network without anything of ours."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import PrecisionMethod
from featherweight.engine.methods.precision.binary import Binary
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.float16 import Float16
from featherweight.engine.methods.precision.frequency import Frequency
from featherweight.engine.methods.precision.hashed import Hashed
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.precision.ternary import Ternary
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.weight_forms import (
    CompactLayer,
    FloatForm,
    MaskedForm,
    StoredForm,
    stored_forms,
)
from featherweight.engine.weight_unpacking import unpacked
from featherweight.engine.writing.safetensors import write_safetensors
from featherweight.engine.writing.weight_packing import packed_weight

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


METHODS: dict[str, PrecisionMethod] = {
    **{f"{bits} bits": Integer(bits=bits) for bits in (8, 6, 5, 4, 3, 2)},
    "by group": Integer(bits=4, granularity="group", group_size=8, scale_bits=16),
    "by tensor": Integer(bits=3, granularity="tensor"),
    "ternary": Ternary(),
    "binary": Binary(),
    "binary sum": Binary(terms=3),
    "codebook": Codebook(clusters=5),
    "codebook of 32 bits": Codebook(clusters=5, table_bits=32),
    "hashed": Hashed(weights_per_value=3, seed=7),
    "frequency": Frequency(weights_per_value=3, seed=7),
    "float16": Float16(),
    "bfloat16": Float16(format="bfloat16"),
}


def held(method: PrecisionMethod | None, weight: Tensor, mask: Tensor | None) -> StoredForm:
    """Give the stored form of a method, or plain floats; a mask where it holds zeros."""
    if method is None:
        return MaskedForm(weight, mask).settled()
    form = method.trainable(weight, mask if method.holds_zero else None).settled()
    assert isinstance(form, StoredForm)
    return form


def compressed(net: nn.Module, method: PrecisionMethod | None, share: float = 1.0) -> Network:
    """Hold the weights of a chain of layers by a method, of which a share is not zero."""
    network = capture(net, (torch.randn(2, 256),))
    for name, layer in list(network.layers()):
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach()
            mask = None if share == 1.0 else torch.rand(weight.shape) < share
            network.replace(name, CompactLayer(layer, {"weight": held(method, weight, mask)}))
    return network


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 192))


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


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([None, *METHODS.values()]),
    st.sampled_from([(1, 1), (3, 5), (8, 33), (4, 3, 3, 3), (2, 1, 7)]),
    st.sampled_from([0.0, 0.04, 0.5, 1.0]),
    st.integers(0, 99),
)
def test_that_any_form_unpacks_to_its_weight_bit_for_bit_in_no_more_bits_than_it_has(
    method: PrecisionMethod | None, shape: tuple[int, ...], share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    mask = None if share == 1.0 else torch.rand(shape, generator=generator) < share
    form = held(method, weight, mask)
    made = packed_weight(form)
    tensors = {f"w.{kind}": part for kind, part in made.parts.items()}
    found = unpacked(tensors, {"w": made.told})["w"] if made.told else made.parts["values"].float()
    assert found.shape == shape
    assert torch.equal(found.view(torch.int32), form().detach().view(torch.int32))
    symbols = form.symbols()
    kept = sum(part.nbytes for kind, part in made.parts.items() if kind not in form.parts())
    assert kept <= -(-symbols.values.size * symbols.bits // 8)


def test_that_every_form_of_ours_is_among_those_that_are_packed() -> None:
    weight = torch.randn(16, 16)
    kinds = {held(method, weight, None).kind for method in (None, *METHODS.values())}
    ours = {name for name, kind in stored_forms().items() if "featherweight" in kind.__module__}
    assert kinds == ours


@pytest.mark.parametrize(
    ("method", "share", "part"),
    [
        (Integer(bits=4), 1.0, 1 / 8),
        (Integer(bits=8), 1.0, 1 / 4),
        (Binary(), 1.0, 1 / 32),
        (Integer(bits=8), 0.1, (1 + 0.1 * 8) / 32),
        (None, 0.1, (1 + 0.1 * 32) / 32),
    ],
    ids=["4 bits", "8 bits", "binary", "sparse 8 bits", "sparse floats"],
)
def test_that_the_file_is_as_small_as_its_weights_and_runs_without_featherweight(
    method: PrecisionMethod | None,
    share: float,
    part: float,
    rebuilt: Callable[..., list[Tensor]],
    tmp_path: Path,
) -> None:
    torch.manual_seed(1)
    network = compressed(chain(), method, share)
    inputs = (torch.randn(3, 256),)
    with torch.no_grad():
        (expected,) = network.outputs(*inputs)
    (result,) = rebuilt(network, inputs)
    assert torch.allclose(result, expected, rtol=1e-6, atol=1e-6)
    weights = 4 * 256 * (256 + 192)
    # Biases, scales and the header are what it has beside the weights.
    assert part * weights < (tmp_path / "net.safetensors").stat().st_size < part * weights + 6000


def test_that_the_source_of_packed_weights_reads_like_written_by_hand(tmp_path: Path) -> None:
    network = compressed(chain(), Integer(bits=4))
    export = write_safetensors(network, tmp_path / "net.safetensors", Job())
    source = tmp_path / "net.py"
    tied = capture(Words(), (torch.randint(0, 30, (2, 7)),))
    write_safetensors(tied, tmp_path / "tied.safetensors", Job())
    for check in (["check", "--select", "E,F,I,UP,W"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--isolated", "--line-length", "100"]
        subprocess.run([*command, str(tmp_path / "net.py"), str(tmp_path / "tied.py")], check=True)
    assert "hashed_values" not in source.read_text()
    assert export.checks["relative_error"].value == 0.0
    assert sum(share.bytes for share in export.shares) == export.checks["bytes"].value
    assert not any("float32" in note for note in export.notes)


def test_that_a_file_of_packed_weights_opens_again_and_is_the_same_each_time(
    tmp_path: Path,
) -> None:
    network = compressed(chain(), Codebook(clusters=16))
    path, twin = tmp_path / "packed.safetensors", tmp_path / "twin.safetensors"
    write_safetensors(network, path, Job())
    write_safetensors(network, twin, Job())
    assert path.read_bytes() == twin.read_bytes()
    source = tmp_path / "packed.py"
    again = read_network(
        Source(
            path=str(path),
            factory=f"{source}:Network",
            trust=(str(source),),
            input_shapes=((2, 256),),
        )
    )
    inputs = torch.randn(4, 256)
    assert torch.equal(again.outputs(inputs)[0], network.outputs(inputs)[0])


@pytest.mark.parametrize(
    "told",
    [
        "{",
        "[]",
        '{"0.weight": {}}',
        '{"0.weight": {"form": "hashed", "shape": [99999, 99999, 99], "seed": 0, '
        '"parts": ["values"]}}',
        '{"0.weight": {"form": "frequency", "shape": [1, 1, 99999, 99999], "seed": 0, '
        '"buckets": [4], "parts": ["values"]}}',
        '{"0.weight": {"form": "integer", "shape": [4, 4], "bits": 4, "zero": 7, '
        '"parts": ["values"]}}',
        '{"0.weight": {"form": "exec", "shape": [4, 4], "parts": ["values"]}}',
    ],
)
def test_that_what_a_crafted_file_tells_of_its_weights_ends_in_one_sentence(
    told: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"0.weight.values": torch.zeros(4)}, path, metadata={"packed": told})
    with pytest.raises(UserError, match=r"bad\.safetensors is damaged") as caught:
        read_network(Source(path=str(path), factory="torch.nn:Identity", trust=("torch",)))
    assert "\n" not in str(caught.value)


def test_that_weights_of_a_method_from_elsewhere_stay_float32_and_it_is_told(
    tmp_path: Path,
) -> None:
    class Foreign(FloatForm):
        kind = "foreign"

    network = capture(nn.Sequential(nn.Linear(4, 4)), (torch.randn(2, 4),))
    layer = network.layer("0")
    form = Foreign(layer.get_parameter("weight").detach())
    network.replace("0", CompactLayer(layer, {"weight": form}))
    export = write_safetensors(network, tmp_path / "net.safetensors", Job())
    assert load_file(tmp_path / "net.safetensors")["layer_0.weight"].dtype == torch.float32
    assert any("float32" in note for note in export.notes)
