"""Networks that take keywords, dictionaries or nested inputs, and give dictionaries."""

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from featherweight.engine.command_line import main
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session

CODE = """
import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(30, 8), nn.Linear(8, 5)

    def encoded(self, tokens, mask):
        hidden = self.embed(tokens)
        if mask is not None:
            hidden = hidden * mask.unsqueeze(-1)
        result = self.out(hidden)
        return {"logits": result, "pooled": result.mean(1)}


class Keywords(Encoder):
    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.encoded(input_ids, attention_mask)


class Batch(Encoder):
    def forward(self, batch: dict):
        return self.encoded(batch["input_ids"], batch.get("attention_mask"))


class Untold(Encoder):
    def forward(self, batch):
        return self.encoded(**batch)


Untold.encoded = lambda self, input_ids, attention_mask: Encoder.encoded(
    self, input_ids, attention_mask
)


class Pair(Encoder):
    def forward(self, pair):
        return self.encoded(*pair)


class Listed(Encoder):
    def forward(self, scale, pair: list[torch.Tensor]):
        assert isinstance(pair, list)
        return self.encoded(*pair)["logits"] * scale


class Any(Encoder):
    def forward(self, **inputs):
        return self.encoded(inputs["input_ids"], inputs["attention_mask"])


class Branching(Keywords):
    def forward(self, input_ids, attention_mask=None):
        given = super().forward(input_ids, attention_mask)
        return given["logits"] if given["pooled"].sum() > 0 else -given["logits"]
"""
TOKENS, MASK = torch.randint(0, 30, (3, 6)), torch.rand(3, 6)
SHAPES = ((1, 4), (1, 4))
DTYPES = ("int64", "float32")
NAMES = ("input_ids", "attention_mask")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give the Python module of the networks, in a file that has to be trusted."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "called_networks.py").write_text(CODE)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("called_networks")
    sys.path.remove(str(folder))
    del sys.modules["called_networks"]


def source_of(module: torch.nn.Module, folder: Path, names: tuple[str, ...]) -> Source:
    """Save a whole module and return the source that names its inputs."""
    torch.save(module, folder / "net.pt")
    return Source(
        path=str(folder / "net.pt"),
        trust=("called_networks",),
        input_shapes=SHAPES,
        input_dtypes=DTYPES,  # type: ignore[arg-type]  # these two
        input_names=names,
    )


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("Keywords", NAMES),
        ("Keywords", ("", "attention_mask")),
        ("Batch", NAMES),
        ("Batch", ("batch.input_ids", "batch.attention_mask")),
        ("Untold", NAMES),
        ("Pair", ()),
        ("Pair", ("pair.0", "pair.1")),
        ("Any", NAMES),
    ],
)
def test_that_named_inputs_reach_the_network_and_stay_flat(
    networks: Any, tmp_path: Path, kind: str, names: tuple[str, ...]
) -> None:
    module = getattr(networks, kind)().eval()
    network = read_network(source_of(module, tmp_path, names))
    assert network.graph_lock == ""
    assert [name for name, _ in network.layers()] == ["embed", "out"]
    assert network.output_names == ("logits", "pooled")
    if "" not in names and names == NAMES:
        assert network.input_names == NAMES
    found = network.outputs(TOKENS, MASK)
    expected = module.encoded(TOKENS, MASK)
    torch.testing.assert_close(found, (expected["logits"], expected["pooled"]))


def test_that_lists_beside_other_inputs_are_lists(networks: Any, tmp_path: Path) -> None:
    module = networks.Listed().eval()
    torch.save(module, tmp_path / "net.pt")
    network = read_network(
        Source(
            path=str(tmp_path / "net.pt"),
            trust=("called_networks",),
            input_shapes=((1, 1, 1), *SHAPES),
            input_dtypes=("float32", "int64", "float32"),
            input_names=("", "pair.0", "pair.1"),
        )
    )
    scale = torch.full((3, 1, 1), 2.0)
    expected = module(scale, [TOKENS, MASK])
    torch.testing.assert_close(network.outputs(scale, TOKENS, MASK), (expected,))


@pytest.mark.parametrize("kind", ["Keywords", "Batch"])
def test_that_names_live_through_compression_and_every_export(
    networks: Any, tmp_path: Path, kind: str
) -> None:
    session = Session()
    session.open(source_of(getattr(networks, kind)().eval(), tmp_path, NAMES))
    recipe = Recipe(layers={"out": Choice(precision=Setting("float16"))})
    result = session.compress(recipe, "small", str(tmp_path), Job())
    archive = str(tmp_path / result.archive)
    expected = read_network(Source(path=archive))
    assert (expected.input_names, expected.output_names) == (NAMES, ("logits", "pooled"))
    assert {size.name for size in expected.free} == {"sequence"}

    session.export(archive, "onnx", str(tmp_path / "net.onnx"), Job())
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [value.name for value in graph.input] == list(NAMES)
    assert [value.name for value in graph.output] == ["logits", "pooled"]
    runtime = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    found = runtime.run(None, {"input_ids": TOKENS.numpy(), "attention_mask": MASK.numpy()})
    assert_close(found, expected)

    session.export(archive, "pt2", str(tmp_path / "net.pt2"), Job())
    again = read_network(Source(path=str(tmp_path / "net.pt2")))
    assert again.input_names == NAMES
    assert_close([output.detach().numpy() for output in again.outputs(TOKENS, MASK)], expected)


def assert_close(found: list[Any], expected: Network) -> None:
    """Assert that outputs are those of a network on the tokens and the mask."""
    for one, other in zip(found, expected.outputs(TOKENS, MASK), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_that_a_network_without_a_graph_keeps_its_names_through_an_archive(
    networks: Any, tmp_path: Path
) -> None:
    module = networks.Branching().eval()
    source = source_of(module, tmp_path, NAMES)
    session = Session()
    assert session.open(source).graph_lock
    recipe = Recipe(layers={"out": Choice(precision=Setting("float16"))})
    result = session.compress(recipe, "small", str(tmp_path), Job())
    path = str(tmp_path / result.archive)
    for factory in (source.path, "called_networks:Branching"):
        again = read_network(Source(path=path, factory=factory, trust=source.trust))
        found = again.outputs(TOKENS, MASK)[0]
        torch.testing.assert_close(found, module(TOKENS, MASK), atol=1e-2, rtol=1e-2)


class Two(torch.nn.Module):
    """Takes two inputs of different kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(30, 4)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return scaled embeddings."""
        result: torch.Tensor = self.embed(tokens) * scale
        return result


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "pt"])
def test_that_names_put_the_inputs_of_a_file_in_its_order(tmp_path: Path, suffix: str) -> None:
    path, example = tmp_path / f"two.{suffix}", (TOKENS, torch.randn(3, 6, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if suffix == "onnx":
            names = ["tokens", "scale"]
            axes = {name: {0: "batch", 1: "length"} for name in names}
            torch.onnx.export(
                Two(), example, path, dynamo=False, input_names=names, dynamic_axes=axes
            )
        elif suffix == "pt2":
            torch.export.save(torch.export.export(Two(), example), path)
        else:
            torch.jit.save(torch.jit.trace(Two(), example), path)
    source = Source(
        path=str(path),
        input_shapes=((3, 6, 4), (3, 6)),
        input_dtypes=("float32", "int64"),
        input_names=("scale", "tokens"),
    )
    network = read_network(source)
    assert [tuple(tensor.shape) for tensor in network.example] == [(3, 6), (3, 6, 4)]
    with pytest.raises(UserError, match="takes the inputs tokens, scale, not scale, words"):
        read_network(msgspec.structs.replace(source, input_names=("scale", "words")))


class Nested(torch.nn.Module):
    """Takes a dictionary and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(
        self, batch: Mapping[str, torch.Tensor], shift: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Return both in one dictionary."""
        assert shift is not None
        return {"scores": self.layer(batch["x"]) + shift}


@pytest.mark.parametrize("constant", [False, True])
def test_that_a_program_with_keywords_opens_with_its_names(tmp_path: Path, constant: bool) -> None:
    module, x, shift = Nested().eval(), torch.randn(2, 4), torch.randn(2, 2)
    batch = {"x": x, **({"unused": None} if constant else {})}
    program = torch.export.export(module, (batch,), {"shift": shift})
    torch.export.save(program, tmp_path / "net.pt2")
    network = read_network(Source(path=str(tmp_path / "net.pt2")))
    assert network.input_names == ("batch_x", "shift")
    assert network.output_names == ("scores",)
    torch.testing.assert_close(network.outputs(x, shift), (module(batch, shift)["scores"],))


@pytest.mark.parametrize(
    ("kind", "names", "takes"),
    [
        ("Keywords", ("input_ids", "mask"), "forward(input_ids, attention_mask=None, labels=None)"),
        ("Keywords", ("attention_mask", "labels"), "forward(input_ids, attention_mask=None"),
        ("Listed", (), "forward(scale, pair"),
    ],
)
def test_that_inputs_which_fit_no_call_are_refused_with_what_it_takes(
    networks: Any, tmp_path: Path, kind: str, names: tuple[str, ...], takes: str
) -> None:
    source = source_of(getattr(networks, kind)(), tmp_path, names)
    if kind == "Listed":
        source = Source(path=source.path, trust=source.trust, input_shapes=((1, 4),) * 3)
    with pytest.raises(UserError) as caught:
        read_network(source)
    assert takes in caught.value.message
    assert "--input name=" in caught.value.hint


def test_that_the_command_line_takes_names(
    networks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = source_of(networks.Batch(), tmp_path, ())
    asked = ["inspect", source.path, "--trust", "called_networks"]
    given = ["--input", "input_ids=1x4:int64", "--input", "batch.attention_mask=1x4"]
    assert main([*asked, *given]) == 2
    assert "forward(batch: dict)" in capsys.readouterr().err
    given = ["--input", "input_ids=1x4:int64", "--input", "attention_mask=1x4"]
    assert main([*asked, *given]) == 0
    assert "embed" in capsys.readouterr().out
    assert main([*asked, "--input", "1a=1x4"]) == 2
    assert "has no name that a network could have" in capsys.readouterr().err
