"""A network without a graph goes all the way: weights compressed, archived, opened and exported."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from featherweight.engine.command_line import main
from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import ExportFormat, Source
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning

CODE = """
import torch
from torch import nn

class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(12, 8)
        self.lstm = nn.LSTM(8, 8, bidirectional=True, batch_first=True)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.blocks = nn.ModuleDict({"first": nn.Linear(16, 16), "norm": nn.BatchNorm1d(16)})
        self.same = self.blocks["first"]
        self.listed = [self.blocks["first"]]
        self.own = Own(16, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.tokens.weight
        self.scale = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, x):
        y = self.lstm(self.tokens(x))[0]
        y = self.attend(y, y, y)[0].mean(1) * self.scale
        y = self.blocks["norm"](self.listed[0](self.same(y)))
        if y.sum() > 0:
            y = y + nn.functional.linear(y, self.same.weight)
        return self.head(self.own(y))
"""
RECIPE = Recipe(
    layers={
        "lstm": Choice(
            sparsity=Setting("magnitude", {"sparsity": 0.5}),
            precision=Setting("integer", {"bits": 4}),
            coding=Setting("huffman"),
        ),
        "blocks.first": Choice(precision=Setting("float16")),
        "attend.out_proj": Choice(precision=Setting("codebook")),
    }
)
SHAPE = ((2, 5),)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the code, and the whole network of it."""
    (tmp_path / "branching_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("branching_code", None)
    import branching_code  # type: ignore[import-not-found]

    torch.manual_seed(1)
    net = branching_code.Branching().eval()
    net.blocks["norm"].running_mean.uniform_(-1, 1)
    torch.save(net, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def source(file: Path) -> Source:
    kinds = ("int64",)
    return Source(path=str(file), trust=("branching_code",), input_shapes=SHAPE, input_dtypes=kinds)


def opened(archive: Path, factory: str) -> Network:
    trust = ("branching_code", factory.rpartition(":")[0])
    return read_network(Source(path=str(archive), factory=factory, trust=trust))


def outputs(network: Network, *inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return network.outputs(*inputs)[0]


@pytest.mark.parametrize("epochs", [0, 1])
def test_that_a_result_opens_again_bit_for_bit_with_code_or_the_file(
    epochs: int, file: Path, tmp_path: Path
) -> None:
    session = Session()
    summary = session.open(source(file))
    assert summary.graph_lock
    locks = {layer.name: layer.locks for layer in summary.layers}
    assert "a way of its own" in locks["own"]["integer"]
    assert "shared" in locks["head"]["integer"]
    assert "no graph" in locks["blocks.first"]["channel_pruning"]
    recovery = FineTuning(epochs=epochs) if epochs else None
    recipe = Recipe(layers=RECIPE.layers, recovery=recovery)
    result = session.compress(recipe, "small", str(tmp_path / "results"), Job())
    archive = tmp_path / "results" / result.archive
    assert result.ledger.bytes == archive.stat().st_size
    assert result.after.figures["bytes"].value < 0.6 * file.stat().st_size

    export = session.export(str(archive), "safetensors", str(tmp_path / "w.safetensors"), Job())
    assert any("your own code" in note for note in export.notes)
    state = load_file(tmp_path / "w.safetensors")
    assert state["same.weight"].dtype == torch.float16
    net = sys.modules["branching_code"].Branching().eval()
    net.load_state_dict(state)
    data = torch.randint(0, 12, (3, 5))
    for factory in (f"{tmp_path / 'branching_code.py'}:Branching", str(file)):
        again = opened(archive, factory)
        assert again.graph_lock == summary.graph_lock
        assert again.module.same is again.module.listed[0]
        assert again.layer("head").weight is again.layer("tokens").weight
        with torch.no_grad():
            assert torch.equal(outputs(again, data), net(data))


def test_that_what_cannot_be_written_says_why_and_the_archive_is_copied(
    file: Path, tmp_path: Path
) -> None:
    session = Session()
    lock = session.open(source(file)).graph_lock
    result = session.compress(RECIPE, "small", str(tmp_path), Job())
    archive = tmp_path / result.archive
    forms: tuple[ExportFormat, ...] = ("onnx", "onnx16", "pt2")
    for form in forms:
        with pytest.raises(UserError) as caught:
            session.export(str(archive), form, str(tmp_path / "out"), Job())
        assert lock in caught.value.message
        assert "Export the archive" in caught.value.hint
        assert not (tmp_path / "out").exists()
    copy = tmp_path / "copy.fwz"
    session.export(str(archive), "archive", str(copy), Job())
    assert copy.read_bytes() == archive.read_bytes()


def test_that_an_archive_of_weights_asks_for_its_code(file: Path, tmp_path: Path) -> None:
    session = Session()
    lock = session.open(source(file)).graph_lock
    archive = str(tmp_path / session.compress(RECIPE, "small", str(tmp_path), Job()).archive)
    with pytest.raises(UserError, match="holds weights only") as caught:
        read_network(Source(path=archive))
    assert lock in caught.value.message
    assert "--factory" in caught.value.hint
    with pytest.raises(TrustNeededError):
        read_network(Source(path=archive, factory="branching_code:Branching"))
    with pytest.raises(UserError, match="does not fit the network"):
        opened(Path(archive), f"{other(tmp_path)}:small")


def other(folder: Path) -> Path:
    """Write the code of another network."""
    path = folder / "other_code.py"
    path.write_text("from torch import nn\ndef small():\n    return nn.Linear(3, 3)\n")
    return path


def test_that_the_terminal_compresses_and_exports_it(file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("layers:\n  lstm:\n    precision: {method: integer, options: {bits: 4}}\n")
    code, small = f"{tmp_path / 'branching_code.py'}", str(tmp_path / "small.fwz")
    asked = [str(file), "--trust", "branching_code", "--input", "2x5:int64"]
    assert main(["compress", *asked, "--recipe", str(recipe), "--output", small]) == 0
    weights = str(tmp_path / "small.safetensors")
    factory = ["--factory", f"{code}:Branching", "--trust", code]
    assert main(["export", small, weights, *factory]) == 0
    assert set(load_file(weights)) == set(torch.load(file, weights_only=False).state_dict())
    assert main(["export", small, str(tmp_path / "small.onnx"), *factory]) == 2
