"""Coded archives: the file is as large as its ledger says and opens to the same outputs."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from featherweight.engine.archive_layout import header_of
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.ledger import Ledger
from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.coding.huffman import Huffman
from featherweight.engine.methods.coding.sparse_index import SparseIndex
from featherweight.engine.methods.method import CodingMethod, PrecisionMethod, stored_weights
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.float16 import Float16
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.sparsity.magnitude import Magnitude
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.archive import matches, read
from featherweight.engine.weight_forms import CompactLayer, MaskedForm, form_lock, settle
from featherweight.engine.writing.archive import write_archive


class Convolutional(nn.Module):
    """Batch norm, a residual sum, a depthwise convolution and a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.last = nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)))
        x = x + self.depthwise(x) * self.scale
        result: Tensor = self.last(functional.max_pool2d(x, 2).flatten(1))
        return result


class Words(nn.Module):
    """An embedding, an LSTM and an output that shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.out = nn.Linear(8, 30, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.lstm(self.words(x))[0])
        return result


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "convolutional": (Convolutional, lambda: torch.randn(2, 1, 8, 8)),
    "linear": (
        lambda: nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 3)),
        lambda: torch.randn(2, 40),
    ),
    "words": (Words, lambda: torch.randint(0, 30, (2, 6))),
}
SPARSITIES = (None, Magnitude(sparsity=0.8))
PRECISIONS = (None, Float16(), Integer(bits=4), Integer(bits=8, granularity="tensor"), Codebook())
CODERS = (None, BitPacked(), SparseIndex(), Huffman(), Ans())
CHOICES = list(itertools.product(SPARSITIES, PRECISIONS, CODERS))


@cache
def captured(name: str) -> Network:
    torch.manual_seed(1)
    kind, example = NETWORKS[name]
    network = capture(kind(), (example(),))
    with torch.no_grad():
        for value in network.module.buffers():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    return network


def compressed(name: str, sparsity: Magnitude | None, precision: PrecisionMethod | None) -> Network:
    """Give every layer that takes it a sparsity and a precision, and settle."""
    network = captured(name).copy()
    for layer_name, layer in list(network.layers()):
        if form_lock(layer) or not (sparsity or precision):
            continue
        forms = {}
        for tensor in stored_weights(layer):
            weight = layer.get_parameter(tensor).detach()
            mask = sparsity.mask(weight) if sparsity else None
            constrained = precision.trainable(weight, mask) if precision else None
            forms[tensor] = constrained or MaskedForm(weight, mask)
        network.replace(layer_name, CompactLayer(layer, forms))
    settle(network)
    return network


def everywhere(network: Network, coder: CodingMethod | None) -> dict[str, CodingMethod]:
    takers = [
        name
        for name, layer in network.layers()
        if isinstance(layer, CompactLayer) or not form_lock(layer)
    ]
    return dict.fromkeys(takers, coder) if coder else {}


def opened(path: Path) -> Network:
    return read(Source(path=str(path)))


def outputs(network: Network, *inputs: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return network.outputs(*(inputs or network.example))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("sparsity", "precision", "coder"), CHOICES, ids=repr)
def test_that_an_archive_is_as_large_as_its_ledger_and_opens_bit_for_bit(
    name: str,
    sparsity: Magnitude | None,
    precision: PrecisionMethod | None,
    coder: CodingMethod | None,
    tmp_path: Path,
) -> None:
    network = compressed(name, sparsity, precision)
    path, codings = tmp_path / "network.fwz", everywhere(network, coder)
    no_zero = isinstance(precision, Codebook) and sparsity is None
    too_many = precision is None and isinstance(coder, Huffman | Ans)
    if too_many or (no_zero and isinstance(coder, SparseIndex)):
        with pytest.raises(UserError, match="cannot be coded with"):
            write_archive(network, codings, path)
        assert not list(tmp_path.iterdir())
        return
    ledger = write_archive(network, codings, path)
    assert ledger.bytes == path.stat().st_size
    assert ledger.bits == 8 * path.stat().st_size
    assert ledger.container > 0
    assert matches(path)
    again = opened(path)
    for before, after in zip(outputs(network), outputs(again, *network.example), strict=True):
        assert torch.equal(before, after)
    second = tmp_path / "second.fwz"
    assert write_archive(again, codings, second) == ledger
    assert second.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_that_the_ledger_names_every_tensor_once_with_its_float_size(
    name: str, tmp_path: Path
) -> None:
    network = captured(name)
    ledger = write_archive(network, {}, tmp_path / "network.fwz")
    found = {f"{entry.layer}.{entry.tensor}".lstrip("."): entry for entry in ledger.entries}
    tensors = {**dict(network.module.named_parameters()), **dict(network.module.named_buffers())}
    assert set(found) == set(tensors)
    for tensor, value in tensors.items():
        assert found[tensor].original == 32 * value.numel()
        assert found[tensor].bits == 8 * value.numel() * value.element_size()


def of_kinds(ledger: Ledger, layer: str) -> dict[str, int]:
    (entry,) = (e for e in ledger.entries if (e.layer, e.tensor) == (layer, "weight"))
    kinds = ("values", "indices", "codebooks", "scales", "tables")
    return {kind: getattr(entry, kind) for kind in kinds}


def test_that_the_ledger_tells_values_indices_codebooks_scales_and_tables_apart(
    tmp_path: Path,
) -> None:
    path = tmp_path / "network.fwz"
    integer = compressed("linear", None, Integer(bits=4))
    plain = of_kinds(write_archive(integer, {}, path), "0")
    assert plain == {"values": 3200, "indices": 0, "codebooks": 0, "scales": 640, "tables": 0}
    shared = compressed("linear", Magnitude(sparsity=0.9), Codebook(clusters=8))
    coded = of_kinds(write_archive(shared, {"0": SparseIndex(gap_bits=4)}, path), "0")
    entries = coded["values"] // 3
    assert 80 <= entries <= 120
    assert coded == {
        "values": 3 * entries,
        "indices": 4 * entries,
        "codebooks": (8 + 1) * 16,
        "scales": 0,
        "tables": 40,
    }


def test_that_a_shared_weight_is_stored_once_and_stays_shared(tmp_path: Path) -> None:
    network = captured("words")
    path = tmp_path / "network.fwz"
    ledger = write_archive(network, {}, path)
    assert [entry.layer for entry in ledger.entries].count("words") == 1
    assert "out" not in [entry.layer for entry in ledger.entries]
    again = opened(path)
    words, out = again.layer("words"), again.layer("out")
    assert words.get_parameter("weight") is out.get_parameter("weight")


def test_that_plain_layers_open_plain_and_compressed_ones_in_their_small_form(
    tmp_path: Path,
) -> None:
    network = captured("convolutional").copy()
    weight = network.layer("last").get_parameter("weight").detach()
    form = Integer(bits=4).trainable(weight, None).settled()
    network.replace("last", CompactLayer(network.layer("last"), {"weight": form}))
    path = tmp_path / "network.fwz"
    write_archive(network, {"first": SparseIndex(), "last": Ans()}, path)
    again = opened(path)
    assert {name: type(layer).__name__ for name, layer in again.layers()} == {
        "first": "Conv2d",
        "norm": "BatchNorm2d",
        "depthwise": "Conv2d",
        "last": "CompactLayer",
    }
    last = again.layer("last")
    assert isinstance(last, CompactLayer)
    assert last.held()["weight"].state_dict().keys() == {"packed", "scales"}
    assert not again.module.training
    assert again.origin.path == str(path)
    assert again.dynamic_batch
    assert outputs(again, torch.randn(5, 1, 8, 8))[0].shape == (5, 5)


def test_that_a_process_that_has_loaded_no_method_yet_opens_every_form(tmp_path: Path) -> None:
    path = tmp_path / "network.fwz"
    network = compressed("linear", Magnitude(sparsity=0.5), Codebook())
    write_archive(network, everywhere(network, Ans()), path)
    program = (
        "import sys; from featherweight.engine.events import Source; "
        "from featherweight.engine.reading.archive import read; "
        "print([form.kind for _, layer in read(Source(path=sys.argv[1])).layers()"
        " for form in layer.held().values()])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "['codebook', 'codebook']", ran.stderr


def test_that_an_opened_archive_trains_on_and_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "network.fwz"
    write_archive(captured("convolutional"), {}, path)
    network = opened(path)
    before = outputs(network)[0]
    optimizer = torch.optim.SGD(network.module.parameters(), 0.1)
    network.module.train()
    network.outputs(*network.example)[0].square().sum().backward()
    optimizer.step()
    network.module.eval()
    assert not torch.equal(outputs(network)[0], before)
    write_archive(network, {}, path)
    assert torch.equal(outputs(opened(path))[0], outputs(network)[0])


def test_that_weights_lying_in_another_order_give_the_same_last_bits(tmp_path: Path) -> None:
    network = captured("convolutional").copy()
    last, first = network.layer("last"), network.layer("first")
    last.weight = nn.Parameter(last.get_parameter("weight").detach().t().contiguous().t())
    first.to(memory_format=torch.channels_last)
    path = tmp_path / "network.fwz"
    write_archive(network, {"last": SparseIndex()}, path)
    again = opened(path)
    for name in ("first", "last"):
        ours, theirs = (n.layer(name).get_parameter("weight") for n in (network, again))
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
    assert torch.equal(outputs(again, *network.example)[0], outputs(network)[0])


def test_that_floats_of_other_widths_and_truths_are_stored_as_they_are(tmp_path: Path) -> None:
    root = nn.Module()
    graph = fx.Graph()
    x = graph.placeholder("x")
    values = {
        "halfs": torch.arange(3).half(),
        "brains": torch.tensor(1.5, dtype=torch.bfloat16),
        "doubles": torch.ones(2, 2, dtype=torch.float64),
        "truths": torch.tensor([True, False]),
        "bytes": torch.zeros(0, dtype=torch.uint8),
        "longs": torch.tensor([2**40]),
    }
    for name, value in values.items():
        root.register_buffer(name, value)
    graph.output((x, *(graph.get_attr(name) for name in values)))
    network = Network(fx.GraphModule(root, graph), (torch.zeros(1, 2),))
    path = tmp_path / "network.fwz"
    ledger = write_archive(network, {}, path)
    assert ledger.bytes == path.stat().st_size
    for name, value in dict(opened(path).module.named_buffers()).items():
        assert value.dtype == values[name].dtype
        assert torch.equal(value, values[name])


def test_that_a_real_convolution_in_four_bits_by_ans_takes_less_than_packed(
    tmp_path: Path,
) -> None:
    torch.manual_seed(2)
    network = capture(nn.Sequential(nn.Conv2d(64, 128, 3)), (torch.randn(1, 64, 8, 8),))
    layer = network.layer("0")
    with torch.no_grad():
        layer.get_parameter("weight").normal_(0, 0.05)
    form = Integer(bits=4).trainable(layer.get_parameter("weight").detach(), None).settled()
    network.replace("0", CompactLayer(layer, {"weight": form}))
    sizes = {
        coder.name: write_archive(network, {"0": coder}, tmp_path / coder.name).bytes
        for coder in (BitPacked(), Huffman(), Ans())
    }
    weights = 64 * 128 * 9
    assert 8 * sizes["ans"] / weights < 3.85
    assert sizes["ans"] < sizes["huffman"] < sizes["bit_packed"]
    assert 8 * sizes["bit_packed"] / weights < 4.3


def test_that_weights_still_in_training_and_unknown_layers_are_no_archive(tmp_path: Path) -> None:
    network = captured("linear").copy()
    with pytest.raises(ValueError, match="do not exist: \\['nowhere'\\]"):
        write_archive(network, {"nowhere": Ans()}, tmp_path / "network.fwz")
    weight = network.layer("0").get_parameter("weight").detach()
    network.replace("0", CompactLayer(network.layer("0"), {"weight": MaskedForm(weight, None)}))
    with pytest.raises(ValueError, match="layer 0 are not settled"):
        write_archive(network, {}, tmp_path / "network.fwz")
    assert not list(tmp_path.iterdir())


def test_that_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"missing.*cannot be written: No such file"):
        write_archive(captured("linear"), {}, tmp_path / "missing" / "network.fwz")
    occupied = tmp_path / "network.fwz"
    occupied.mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_archive(captured("linear"), {}, occupied)
    assert list(tmp_path.iterdir()) == [occupied]


def test_that_the_header_says_nothing_of_where_the_network_came_from(tmp_path: Path) -> None:
    network = captured("linear")
    first, second = tmp_path / "a.fwz", tmp_path / "b.fwz"
    write_archive(network, {}, first)
    elsewhere = network.copy()
    elsewhere.origin = type(network.origin)("/somewhere/else.onnx", "onnx")
    write_archive(elsewhere, {}, second)
    assert first.read_bytes() == second.read_bytes()
    header, start = header_of(first.read_bytes())
    assert start + sum(tensor.size for tensor in header.tensors) == first.stat().st_size
