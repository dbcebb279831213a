"""What the façade promises of the person's files, of hopeless runs, and of where the bytes are."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Event, ExportFormat, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting, read_recipe
from featherweight.engine.session import Session
from featherweight.engine.writing.archive import write_archive

FORMATS: list[tuple[ExportFormat, str]] = [
    ("onnx", "network.onnx"),
    ("pt2", "network.pt2"),
    ("archive", "network.fwz"),
]


class Loose(nn.Module):
    """A tied weight, and parameters that no layer holds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))
        self.turn = nn.Parameter(torch.randn(8, 8))
        self.words = nn.Embedding(20, 8)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out((self.words(x) * self.scale) @ self.turn)
        return result


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[nn.Module, tuple[Tensor, ...]], Session]:
    def opened(module: nn.Module, example: tuple[Tensor, ...]) -> Session:
        write_archive(capture(module, example), {}, tmp_path / "network.fwz")
        session = Session()
        session.open(Source(path=str(tmp_path / "network.fwz")))
        return session

    return opened


@pytest.mark.parametrize(("form", "name"), FORMATS)
def test_that_the_network_itself_is_never_the_target_of_an_export(
    form: ExportFormat, name: str, small_files: Path, tmp_path: Path
) -> None:
    source, link = tmp_path / "source.fwz", tmp_path / name
    shutil.copy(small_files / "bars.fwz", source)
    link.symlink_to(source)
    session = Session()
    session.open(Source(path=str(source)))
    with pytest.raises(UserError, match=name):
        session.export("", form, str(link), Job())
    assert source.read_bytes() == (small_files / "bars.fwz").read_bytes()


def test_that_no_folder_is_replaced_and_a_missing_one_is_told_before_the_work(
    small_files: Path, tmp_path: Path
) -> None:
    session = Session()
    session.open(Source(path=str(small_files / "bars.fwz")))
    began: list[Event] = []
    for target in (tmp_path, tmp_path / "missing" / "network.onnx"):
        with pytest.raises(UserError, match=target.name):
            session.export("", "onnx", str(target), Job(began.append))
    assert not began


def test_that_an_archive_that_fails_its_check_leaves_the_file_that_was_there(
    opened: Callable[[nn.Module, tuple[Tensor, ...]], Session], tmp_path: Path
) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nn.init.constant_(module[0].bias, float("nan"))
    session = opened(module, (torch.zeros(2, 3),))
    (tmp_path / "mine.fwz").write_text("precious")
    with pytest.raises(UserError, match="same outputs"):
        session.export("", "archive", str(tmp_path / "mine.fwz"), Job())
    assert (tmp_path / "mine.fwz").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"mine.fwz", "network.fwz"}


@pytest.mark.parametrize(("form", "name"), FORMATS)
def test_that_the_shares_of_an_export_name_every_layer_and_add_up_to_the_file(
    form: ExportFormat,
    name: str,
    opened: Callable[[nn.Module, tuple[Tensor, ...]], Session],
    tmp_path: Path,
) -> None:
    session = opened(Loose(), (torch.zeros(2, 5, dtype=torch.int64),))
    export = session.export("", form, str(tmp_path / f"new-{name}"), Job())
    shares = {share.layer: share.bytes for share in export.shares}
    assert sum(shares.values()) == (tmp_path / f"new-{name}").stat().st_size
    assert set(shares) <= {*(layer.name for layer in session.summary.layers), "(graph)"}
    assert shares["(functions)"] >= 4 * (8 + 64)
    if form != "onnx":
        assert sum(shares.values()) - shares["(graph)"] == 4 * (8 + 64 + 160)


def test_that_data_of_the_same_name_elsewhere_does_not_replace_a_result(
    small_files: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(small_files / "bars.npz", other)
    session, recipe = Session(), Recipe(layers={"fc": Choice(precision=Setting("integer"))})
    session.open(Source(path=str(small_files / "bars.fwz")))
    results = []
    for source in (
        TaskSource(data=str(small_files / "bars.npz")),
        TaskSource(data=str(other / "bars.npz")),
        TaskSource(kind="fidelity", data=str(small_files / "bars.npz")),
    ):
        session.set_task(source)
        results.append(session.compress(recipe, "run", str(tmp_path / "results"), Job()))
    assert len({result.archive for result in results}) == 3


def test_that_a_folder_that_cannot_be_made_is_told_in_a_sentence(
    small_files: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    session = Session()
    session.open(Source(path=str(small_files / "bars.fwz")))
    recipe = read_recipe(small_files / "recipe.yaml")
    with pytest.raises(UserError, match="file"):
        session.compress(recipe, "run", str(tmp_path / "file" / "results"), Job())


@pytest.mark.parametrize("method", ["svd", "tucker"])
def test_that_low_rank_of_weights_that_are_not_finite_names_the_layer(
    method: str, opened: Callable[[nn.Module, tuple[Tensor, ...]], Session], tmp_path: Path
) -> None:
    size = 1 if method == "svd" else 3
    module = nn.Sequential(nn.Conv2d(8, 8, size), nn.Conv2d(8, 8, size))
    nn.init.constant_(module[1].weight, float("nan"))
    session = opened(module, (torch.zeros(2, 8, 8, 8),))
    choice = Choice(structure=Setting(method), precision=Setting("float16"), coding=Setting("ans"))
    with pytest.raises(UserError, match=r"Layer 1 .* not finite"):
        session.predict(Recipe(layers={"1": choice}))
    with pytest.raises(UserError, match=r"original network .* not finite"):
        session.compress(Recipe(), "run", str(tmp_path), Job())
