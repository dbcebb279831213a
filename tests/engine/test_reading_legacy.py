"""Whole networks that torch.save wrote before PyTorch 1.6 open as safely as newer ones."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

NETWORKS = """
from torch import nn

class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return self.fc(self.fc(x))
"""


class Planted:
    """Calls a function when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def save(value: Any, path: Path) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def opened(path: Path, shape: tuple[int, ...] = (1, 6), trust: tuple[str, ...] = ()) -> Network:
    return read_network(Source(path=str(path), input_shapes=(shape,), trust=trust))


def small() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten())
    return net.append(nn.Linear(64, 5)).eval()


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: {"epoch": 2, "model": net}])
def test_that_a_legacy_network_of_torch_opens_without_trust(wrap: Any, tmp_path: Path) -> None:
    net = small()
    network = opened(save(wrap(net), tmp_path / "old.pt"), (1, 3, 6, 6))
    data = torch.randn(3, 3, 6, 6)
    with torch.no_grad():
        assert torch.equal(network.outputs(data)[0], net(data))
    assert network.origin.format == "PyTorch module"
    assert [name for name, _ in network.layers()] == ["0", "1", "4"]


def test_that_a_legacy_network_of_the_users_asks_for_trust_and_skips_changed_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old_networks.py"
    file.write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    import old_networks  # type: ignore[import-not-found]

    net = old_networks.Doubled().eval()
    path = save(net, tmp_path / "old.pt")
    # torch would compare the source, and write a patch into the working folder if asked to.
    file.write_text(NETWORKS + "    dump_patches = True\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrustNeededError) as caught:
        opened(path)
    assert caught.value.names == ("old_networks",)
    data = torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(opened(path, trust=("old_networks",)).outputs(data)[0], net(data))
    assert not list(tmp_path.glob("*.patch"))


def test_that_a_network_of_the_oldest_layers_opens(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Linear(6, 2)), tmp_path / "old.pt")
    backend = b"X\x08\x00\x00\x00trainingctorch.nn.backends.thnn\n_get_thnn_function_backend\n)R"
    content = path.read_bytes()
    entry = b"X\x08\x00\x00\x00trainingq"
    assert content.count(entry) == 1
    # Layers of that time held one thing more, which torch cannot make any more.
    path.write_bytes(content.replace(entry, backend.replace(b"training", b"_backend") + entry))
    assert len(list(opened(path).layers())) == 1


def test_that_long_texts_of_python_2_are_read(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Linear(6, 2)), tmp_path / "old.pt")
    kind = b"X" + struct.pack("<I", 6) + b"module"
    content = path.read_bytes().replace(kind, b"U\x06module", 1)
    source = content.index(b"class Sequential(Module)") - 5
    assert content[source : source + 1] == b"X"
    path.write_bytes(content[:source] + b"T" + content[source + 1 :])
    assert len(list(opened(path).layers())) == 1


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_that_code_in_a_legacy_network_leaves_no_mark(place: str, tmp_path: Path) -> None:
    net, planted = small(), Planted(f"touch {tmp_path / 'mark'}")
    if place == "inside":
        net.planted = planted  # type: ignore[assignment]
    path = save({"planted": planted, "net": net} if place == "beside" else net, tmp_path / "bad.pt")
    with pytest.raises(TrustNeededError):
        opened(path, (1, 3, 6, 6))
    assert not (tmp_path / "mark").exists()


def test_that_a_record_of_source_cannot_name_what_is_not_allowed(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Linear(6, 2)), tmp_path / "bad.pt")
    content, layer = path.read_bytes(), b"ctorch.nn.modules.linear\nLinear\n"
    assert content.count(layer) == 1
    path.write_bytes(content.replace(layer, b"cposix\nsystem\n"))
    with pytest.raises(TrustNeededError):
        opened(path)
    # Trusted or not, no function is called through it: it is no class.
    path.write_bytes(content.replace(layer, b"ctorch.nn.functional\nrelu\n"))
    with pytest.raises(UserError, match="damaged"):
        opened(path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_that_a_truncated_legacy_network_gives_one_sentence(part: float, tmp_path: Path) -> None:
    path = save(small(), tmp_path / "cut.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match="damaged"):
        opened(path, (1, 3, 6, 6))
