"""Files that are cut off, altered, misnamed or nothing at all: one sentence, at once."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.reading.formats import read_network

SUFFIXES = (".pt", ".legacy.pt", ".pt2", ".onnx", ".safetensors")
FACTORY = "from torch import nn\ndef build():\n    return nn.Linear(6, 4)\n"
quickly = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold one small good file of every format."""
    path = tmp_path_factory.mktemp("formats")
    torch.manual_seed(0)
    module = nn.Linear(6, 4).eval()
    example = (torch.randn(2, 6),)
    (path / "factory_of_damage.py").write_text(FACTORY)
    state = module.state_dict()
    torch.save(module, path / "good.pt")
    torch.save(state, path / "good.legacy.pt", _use_new_zipfile_serialization=False)
    torch.export.save(torch.export.export(module, example), path / "good.pt2")
    torch.onnx.export(module, example, path / "good.onnx", dynamo=False)
    save_file(state, path / "good.safetensors")
    return path


@pytest.fixture
def attempt(folder: Path) -> Callable[[bytes, str], None]:
    """Give a function that opens altered bytes: a network or a UserError, and nothing else."""
    factory = folder / "factory_of_damage.py"

    def opens(data: bytes, suffix: str) -> None:
        path = folder / f"bad{suffix}"
        path.write_bytes(data)
        source = Source(
            path=str(path),
            factory=f"{factory}:build",
            trust=(str(factory),),
            input_shapes=((1, 6),),
        )
        message = outcome(source)
        assert "\n" not in message
        assert len(message) < 600
        assert str(path) in message

    return opens


def outcome(source: Source) -> str:
    """Open a file. Returns the message of its error, the path where it opened."""
    try:
        return read_network(source).origin.path
    except UserError as error:
        return error.message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_that_the_undamaged_files_of_this_test_all_open(suffix: str, folder: Path) -> None:
    factory = folder / "factory_of_damage.py"
    network = read_network(
        Source(
            path=str(folder / f"good{suffix}"),
            factory=f"{factory}:build",
            trust=(str(factory),),
            input_shapes=((1, 6),),
        )
    )
    assert len(list(network.layers())) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
@quickly
@given(part=st.floats(0, 1, exclude_max=True))
def test_that_a_truncated_file_opens_or_gives_one_sentence(
    suffix: str, folder: Path, attempt: Callable[[bytes, str], None], part: float
) -> None:
    data = (folder / f"good{suffix}").read_bytes()
    attempt(data[: int(len(data) * part)], suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
@quickly
@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=4))
def test_that_flipped_bits_open_or_give_one_sentence(
    suffix: str,
    folder: Path,
    attempt: Callable[[bytes, str], None],
    places: list[tuple[float, int]],
) -> None:
    data = bytearray((folder / f"good{suffix}").read_bytes())
    for place, bit in places:
        data[min(int(place * len(data)), len(data) - 1)] ^= 1 << bit
    attempt(bytes(data), suffix)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".txt", ""])
@quickly
@given(data=st.binary(max_size=200))
def test_that_garbage_under_any_name_gives_one_sentence(
    suffix: str, attempt: Callable[[bytes, str], None], data: bytes
) -> None:
    attempt(data, suffix)


@pytest.mark.parametrize("wrong", SUFFIXES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_that_the_content_of_a_file_tells_its_format_not_its_name(
    suffix: str, wrong: str, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"misnamed{wrong}"
    path.write_bytes((folder / f"good{suffix}").read_bytes())
    factory = folder / "factory_of_damage.py"
    network = read_network(
        Source(
            path=str(path),
            factory=f"{factory}:build",
            trust=(str(factory),),
            input_shapes=((1, 6),),
        )
    )
    assert len(list(network.layers())) == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.unlink(missing_ok=True), "cannot be read: No such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("hello"), "is no network file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
    ids=["missing", "folder", "empty", "text", "loop"],
)
def test_that_what_is_no_network_file_is_told_with_its_mend(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "thing.xyz"
    make(path)
    with pytest.raises(UserError, match=reason) as caught:
        read_network(Source(path=str(path)))
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_that_a_torchscript_file_says_what_to_save_instead(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for member in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"script/{member}", b"3")
    with pytest.raises(UserError, match="TorchScript"):
        read_network(Source(path=str(path)))
