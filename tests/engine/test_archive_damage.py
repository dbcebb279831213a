"""A damaged or crafted archive is refused with its place: no traceback, no hang, no code run."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from featherweight.engine.archive_layout import Header, TensorForm, header_of, start_of
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.coding.huffman import Huffman
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.archive import matches, read
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.archive import write_archive


@cache
def network() -> Network:
    torch.manual_seed(1)
    made = capture(
        nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10)), (torch.randn(2, 20),)
    )
    for name, method in (("0", Integer(bits=4)), ("2", Codebook(clusters=9))):
        layer = made.layer(name)
        form = method.trainable(layer.get_parameter("weight").detach(), None).settled()
        made.replace(name, CompactLayer(layer, {"weight": form}))
    return made


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "network.fwz"
    write_archive(network(), {"0": Ans(), "2": Huffman()}, path)
    return path


def refused(path: Path, data: bytes) -> UserError:
    """Check that data is refused as damage of this file, and return how."""
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read(Source(path=str(path)))
    assert str(path) in caught.value.message
    assert " is damaged at " in caught.value.message
    assert "Write it again" in caught.value.hint
    return caught.value


unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


@unhurried
@given(data=st.data())
def test_that_every_flipped_bit_is_noticed(path: Path, data: st.DataObject) -> None:
    write_archive(network(), {"0": Ans(), "2": Huffman()}, path)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(4, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    refused(path, bytes(whole))


@unhurried
@given(data=st.data())
def test_that_every_cut_and_every_addition_is_noticed(path: Path, data: st.DataObject) -> None:
    write_archive(network(), {"0": Ans(), "2": Huffman()}, path)
    whole = path.read_bytes()
    cut = data.draw(st.integers(4, len(whole) - 1))
    refused(path, whole[:cut])
    refused(path, whole + data.draw(st.binary(min_size=1, max_size=9)))


def test_that_the_place_of_the_damage_is_named(path: Path) -> None:
    whole = path.read_bytes()
    header, start = header_of(whole)
    for tensor in header.tensors:
        broken = bytearray(whole)
        broken[start] ^= 0xFF
        start += tensor.size
        assert f"the tensor {tensor.names[0]}" in refused(path, bytes(broken)).message
    assert "at its header" in refused(path, whole[:30] + b"\0" + whole[31:]).message
    assert "at its end" in refused(path, whole[:-1]).message
    assert "at its start" in refused(path, b"FWZ1abc").message


def test_that_another_file_is_no_archive_and_a_missing_one_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.fwz"
    other.write_bytes(b"PK\x03\x04 something else")
    assert not matches(other)
    with pytest.raises(UserError, match=r"gone\.fwz cannot be read"):
        read(Source(path=str(tmp_path / "gone.fwz")))


def crafted(path: Path, change: Callable[[Header], Header], rest: bytes | None = None) -> bytes:
    """Return the archive with another header, its checksums right."""
    whole = path.read_bytes()
    header, start = header_of(whole)
    tensors = whole[start:] if rest is None else rest
    return start_of(change(header)) + tensors


def with_first(position: int = 0, **changes: Any) -> Callable[[Header], Header]:
    """Change the first tensor, which is coded, or the one at a position; the second is raw."""

    def change(header: Header) -> Header:
        tensors = list(header.tensors)
        tensors[position] = msgspec.structs.replace(tensors[position], **changes)
        return msgspec.structs.replace(header, tensors=tuple(tensors))

    return change


CRAFTED: dict[str, Callable[[Header], Header]] = {
    "a huge shape": with_first(shape=(2**40, 2**40)),
    "a huge count": with_first(count=2**50),
    "a negative shape": with_first(shape=(-30, -20)),
    "a negative count": with_first(count=-1),
    "another shape": with_first(shape=(20, 30)),
    "another count": with_first(count=7),
    "no bits": with_first(bits=0),
    "many bits": with_first(bits=99),
    "another width": with_first(bits=8),
    "no zero": with_first(zero=None),
    "an unknown coder": with_first(coder="pickle"),
    "a method that codes nothing": with_first(coder="integer"),
    "an unknown form": with_first(form="object"),
    "another form": with_first(form="float16"),
    "no parts": with_first(parts=()),
    "raw numbers of no dtype": with_first(coder="", dtype="object"),
    "raw numbers of another size": with_first(coder="", dtype="float32"),
    "an impossible order": with_first(1, order=(1,)),
    "a raw tensor of a negative shape": with_first(1, shape=(-30,)),
    "a raw tensor that is no parameter": with_first(1, is_parameter=False),
    "no name": with_first(names=()),
    "another name": with_first(names=("elsewhere.weight",)),
    "no tensors": lambda header: msgspec.structs.replace(header, tensors=()),
    "no rows": lambda header: msgspec.structs.replace(header, rows=0),
    "an absurd input": lambda header: msgspec.structs.replace(
        header, inputs=(type(header.inputs[0])((2**20, 2**20), "float32"),)
    ),
    "an input of objects": lambda header: msgspec.structs.replace(
        header, inputs=(type(header.inputs[0])((2, 20), "load"),)
    ),
}


@pytest.mark.parametrize("change", CRAFTED.values(), ids=CRAFTED)
def test_that_a_crafted_header_with_right_checksums_is_refused(
    path: Path, change: Callable[[Header], Header]
) -> None:
    refused(path, crafted(path, change))


def test_that_a_few_bytes_cannot_ask_for_all_memory(path: Path) -> None:
    lone = b"\x00\x00\x00\x00"  # one symbol of four bits, as often as the header says
    header, _ = header_of(path.read_bytes())
    bomb = TensorForm(
        names=("0.weight",),
        shape=(2**33,),
        dtype="float32",
        is_parameter=True,
        size=len(lone),
        checksum=zlib.crc32(lone),
        coder="ans",
        form="integer",
        count=2**33,
        bits=4,
        zero=7,
    )
    craft = start_of(msgspec.structs.replace(header, tensors=(bomb,))) + lone
    assert "cannot be in" in refused(path, craft).message


def test_that_a_header_that_unpacks_without_end_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    packed = zlib.compress(b"\0" * (1 << 24), 9)
    sizes = struct.pack("<QII", 24 + len(packed), len(packed), 100)
    checksum = zlib.crc32(packed, zlib.crc32(sizes))
    bomb = whole[:4] + struct.pack("<I", checksum) + sizes + packed
    assert "at its header" in refused(path, bomb).message


@unhurried
@given(data=st.data())
def test_that_payloads_with_right_checksums_but_other_bytes_never_crash(
    path: Path, data: st.DataObject
) -> None:
    write_archive(network(), {"0": Ans(), "2": Huffman()}, path)
    whole = path.read_bytes()
    header, start = header_of(whole)
    pieces, tensors = [], []
    for tensor in header.tensors:
        piece = bytearray(whole[start : start + tensor.size])
        start += tensor.size
        for _ in range(data.draw(st.integers(0, 3))):
            piece[data.draw(st.integers(0, len(piece) - 1))] = data.draw(st.integers(0, 255))
        pieces.append(bytes(piece))
        tensors.append(msgspec.structs.replace(tensor, checksum=zlib.crc32(piece)))
    changed = msgspec.structs.replace(header, tensors=tuple(tensors))
    path.write_bytes(start_of(changed) + b"".join(pieces))
    try:
        opened = read(Source(path=str(path)))
    except UserError as error:
        refusal = error.message
    else:
        refusal = ""
        assert opened.outputs(*opened.example)[0].shape == (2, 10)
    assert not refusal or "is damaged at the tensor" in refusal
