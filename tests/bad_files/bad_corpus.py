"""Every bad input by name: what writes it, and the door it is brought to."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bad_data
import bad_onnx
import bad_onnx_loops
import bad_onnx_sizes
import bad_torch

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import read_recipe
from featherweight.engine.task import read_task

SHAPE = (1, 1, 8, 8)
SUFFIXES = (".pt", ".pt2", ".onnx", ".safetensors", ".fwz")
FACTORY = (
    "from torch import nn\n"
    "def build():\n"
    "    layers = nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)\n"
    "    return nn.Sequential(*layers)\n"
)


@dataclass(frozen=True)
class Case:
    """A bad input. `door` says what opens it: network, data, recipe or project."""

    door: str
    name: str
    suffix: str
    make: Callable[[Path], object]
    heavy: bool = False

    def path(self, folder: Path) -> Path:
        """Return where the input lies in a folder."""
        return folder / f"input{self.suffix}"


def cases() -> Iterator[Case]:
    """Give every crafted input."""
    for name, model in (*bad_onnx_sizes.models(), *bad_onnx_loops.models()):
        content = model.SerializeToString()
        heavy = "doubling" in name
        yield Case("network", f"onnx-{name}", ".onnx", _bytes(content), heavy)
    for suffix, files in (
        (".onnx", bad_onnx.files()),
        (".pt", bad_torch.checkpoints()),
        (".pt2", bad_torch.programs()),
        (".safetensors", bad_torch.safetensors()),
    ):
        for name, make in files:
            yield Case(
                "network",
                f"{suffix[1:]}-{name}",
                suffix,
                make,
                "bomb-" in name or "doubling" in name,
            )
    for name, tail in bad_data.archives():
        yield Case(
            "network", f"fwz-{name}", ".fwz", lambda path, tail=tail: _archive_start(path, tail)
        )
    for name, make in bad_data.arrays():
        yield Case("data", f"npz-{name}", ".npz", make, name == "a-bomb")
    for name, make in bad_data.folders():
        yield Case("data", name, "", make, "bomb" in name)
    for name, text in bad_data.texts():
        data = text if isinstance(text, bytes) else text.encode()
        for door, suffix in (("recipe", ".yaml"), ("project", ".featherweight")):
            yield Case(door, f"{door}-{name}", suffix, _bytes(data))


def damaged(each: int, seed: int = 0) -> Iterator[Case]:
    """Give good files cut off, with flipped bits, and under every other suffix."""
    dice = random.Random(seed)
    for suffix in (*SUFFIXES, ".legacy.pt"):
        ending = "." + suffix.rpartition(".")[2]
        for count in range(each):
            part, flips = dice.random(), dice.randrange(1, 5)
            places = [(dice.random(), dice.randrange(8)) for _ in range(flips)]
            yield Case("network", f"cut-{suffix}-{count}", ending, _cut(suffix, part))
            yield Case("network", f"flipped-{suffix}-{count}", ending, _flipped(suffix, places))
        for other in (*SUFFIXES, ".txt", ""):
            yield Case("network", f"{suffix}-named-{other or 'nothing'}", other, _cut(suffix, 0.7))
    for count in range(each):
        for suffix in SUFFIXES:
            noise = bad_torch.random_bytes(count, 10 * count)
            yield Case(
                "network",
                f"noise-{count}{suffix}",
                suffix,
                _bytes(noise),
            )
    for suffix in SUFFIXES:
        yield Case("network", f"folder{suffix}", suffix, lambda path: path.mkdir())
        yield Case("network", f"missing{suffix}", suffix, _nothing)


def _bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _cut(suffix: str, part: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(good(suffix)[: int(len(good(suffix)) * part)])


def _flipped(suffix: str, places: list[tuple[float, int]]) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        data = bytearray(good(suffix))
        for place, bit in places:
            data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(data)

    return make


def _archive_start(path: Path, tail: bytes) -> None:
    path.write_bytes(good(".fwz")[:4] + tail)


@cache
def good(suffix: str) -> bytes:
    """Return a small good file of a format."""
    if suffix == ".fwz":
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "good.fwz"
            bad_data.good_archive(path, bad_torch.net())
            return path.read_bytes()
    made = {
        ".onnx": bad_onnx.good,
        ".pt": bad_torch.good_checkpoint,
        ".legacy.pt": lambda: bad_torch.good_checkpoint(older=True),
        ".pt2": bad_torch.good_program,
        ".safetensors": bad_torch.good_safetensors,
    }
    return made[suffix]()


@cache
def network() -> Network:
    """Return the network that data is read for."""
    import torch

    return capture(bad_torch.net(), (torch.zeros(2, 1, 8, 8),))


def factory(folder: Path) -> Path:
    """Write the file that builds the network of files that hold weights only."""
    path = folder / "factory_of_bad_files.py"
    path.write_text(FACTORY)
    return path


def outcome(case: Case, path: Path, builder: Path) -> UserError | None:
    """Bring an input to its door. Returns the error that it ends in, None where it opens."""
    try:
        if case.door == "network":
            source = Source(
                path=str(path),
                factory=f"{builder}:build",
                trust=(str(builder),),
                input_shapes=() if case.suffix in (".onnx", ".pt2") else (SHAPE,),
            )
            read_network(source)
        elif case.door == "data":
            task = read_task(TaskSource(data=str(path)), network())
            task.evaluate(network())
        elif case.door == "recipe":
            read_recipe(path)
        else:
            from featherweight.gui.project_file import read_project

            read_project(path)
    except UserError as error:
        return error
    return None
