"""Data, recipes, projects and archives: crafted to loop, to fill memory, to run code."""

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import capture
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.archive import write_archive

Make = Callable[[Path], object]


def good_archive(path: Path, module: torch.nn.Module) -> None:
    """Write a small good archive with 4-bit weights."""
    network = capture(module, (torch.randn(2, 1, 8, 8),))
    layer = network.layer("3")
    form = Integer(bits=4).trainable(layer.get_parameter("weight").detach(), None).settled()
    network.replace("3", CompactLayer(layer, {"weight": form}))
    write_archive(network, {"3": Ans()}, path)


def archives() -> Iterator[tuple[str, bytes]]:
    """Give contents of `.fwz` files that only start like one."""
    yield from {
        "nothing-more": b"",
        "huge-header": struct.pack("<Q", 1 << 60),
        "zeros": bytes(400),
        "deep": b"\x91" * 100_000,
        "map": b"\xdf\xff\xff\xff\xff" * 30,
    }.items()


def arrays() -> Iterator[tuple[str, Make]]:
    """Give cases of `.npz` files by name."""
    images, labels = np.zeros((20, 1, 8, 8), np.float32), np.zeros(20, np.int64)
    for name, held in {
        "no-samples": {"images": images[:0], "labels": labels[:0]},
        "one-number": {"images": np.float32(1)},
        "other-names": {"pictures": images},
        "other-shapes": {"images": images[:, :, :3], "labels": labels},
        "labels-too-few": {"images": images, "labels": labels[:3]},
        "labels-that-are-words": {"images": images, "labels": np.array(["a"] * 20)},
        "labels-below-zero": {"images": images, "labels": labels - 5},
        "labels-too-large": {"images": images, "labels": labels + 99},
        "labels-that-are-not-whole": {"images": images, "labels": labels + 0.5},
        "samples-that-are-words": {"images": np.array([["a"]] * 20)},
        "samples-that-are-complex": {"images": images.astype(complex)},
        "samples-that-are-not-numbers": {"images": images * np.nan, "labels": labels},
        "deviation-of-zero": {"images": images, "mean": 0.0, "deviation": 0.0},
        "mean-of-words": {"images": images, "mean": np.array("a")},
        "records": {"images": np.zeros(20, [("a", "f4")])},
        "dates": {"images": np.zeros(20, "M8[s]")},
    }.items():
        yield name, lambda path, held=held: np.savez(path, **held)
    yield "objects", lambda path: np.savez(path, images=np.array([print], object))
    headers = {
        "a-header-that-is-code": "__import__('os').system('touch mark')",
        "a-header-that-is-deep": "(" * 5000,
        "a-header-that-multiplies": _header("<f4", "9**9**9"),
        "a-header-of-a-tebibyte": _header("<f4", "(1048576, 1, 512, 512)"),
        "a-header-of-negative-size": _header("<f4", "(-1, 1, 8, 8)"),
        "a-header-of-no-type": _header("zz", "(1,)"),
        "a-header-of-objects": _header("|O", "(1,)"),
    }
    for name, header in headers.items():
        yield name, lambda path, header=header: _zip(path, {"images.npy": _npy(header)})
    yield "a-member-that-is-a-pickle", lambda path: _zip(path, {"images.npy": pickle.dumps(print)})
    yield "a-member-that-climbs", lambda path: _zip(path, {"../../mark.npy": _npy("{}")})
    yield "a-bomb", _bomb
    yield "no-zip", lambda path: path.write_bytes(b"PK\3\4" + bytes(100))
    yield "a-pickle", lambda path: path.write_bytes(pickle.dumps([print]))


def _header(kind: str, shape: str) -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


def _npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) + text + bytes(64)


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _bomb(path: Path) -> None:
    header = _npy(_header("<f4", "(12582912, 1, 8, 8)"))[:-64]
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(header)
        for _ in range(192):
            member.write(bytes(1 << 24))


def folders() -> Iterator[tuple[str, Make]]:
    """Give cases of data folders by name: IDX files and folders of classes."""
    yield "empty", lambda path: path.mkdir()
    labels = b"\0\0\x08\1" + struct.pack(">I", 20) + bytes(20)
    good = b"\0\0\x08\3" + struct.pack(">3I", 20, 8, 8) + bytes(1280)
    for name, images in {
        "nothing": b"",
        "short": good[:50],
        "long": good + bytes(9),
        "no-such-type": b"\0\0\x07\3" + good[4:],
        "huge": b"\0\0\x08\3" + struct.pack(">3I", *[0xFFFFFFFF] * 3) + bytes(99),
        "rank-255": b"\0\0\x08\xff" + bytes(2000),
        "rank-0": b"\0\0\x08\0\1",
        "no-samples": b"\0\0\x08\3" + struct.pack(">3I", 0, 8, 8),
        "text": b"hello",
    }.items():
        yield f"idx-{name}", lambda path, images=images: _idx(path, images, labels)
    yield "idx-without-labels", lambda path: _idx(path, good, None)
    yield "idx-labels-too-few", lambda path: _idx(path, good, labels[:8] + bytes(3))
    yield "idx-bomb", lambda path: _idx(path, _gzip_bomb(), labels, ".gz")
    yield "idx-bad-gzip", lambda path: _idx(path, gzip.compress(good)[:-9], labels, ".gz")
    yield "idx-no-gzip", lambda path: _idx(path, good, labels, ".gz")
    for name, data in {
        "nothing": b"",
        "text": b"hello",
        "short-png": _png()[:60],
        "huge-png": _huge_png(),
        "array": b"\x93NUMPY",
    }.items():
        ending = ".npy" if name == "array" else ".png"
        yield f"images-{name}", lambda path, data=data, ending=ending: _classes(path, data, ending)
    yield "images-bad-normalization", lambda path: _classes(path, _png(), ".png", "{'mean': [[]]}")
    yield (
        "images-other-normalization",
        lambda path: _classes(path, _png(), ".png", '{"mean": [1, 2], "deviation": [0]}'),
    )


def _idx(path: Path, images: bytes, labels: bytes | None, ending: str = "") -> None:
    path.mkdir()
    (path / f"train-images-idx3-ubyte{ending}").write_bytes(images)
    if labels is not None:
        (path / "train-labels-idx1-ubyte").write_bytes(labels)


def _gzip_bomb() -> bytes:
    written = io.BytesIO()
    with gzip.GzipFile(fileobj=written, mode="wb") as packed:
        packed.write(b"\0\0\x08\3" + struct.pack(">3I", 50_331_648, 8, 8))
        for _ in range(192):
            packed.write(bytes(1 << 24))
    return written.getvalue()


def _png() -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.new("L", (8, 8)).save(written, "PNG")
    return written.getvalue()


def _huge_png() -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999)))


def _classes(path: Path, data: bytes, ending: str, normalization: str = "") -> None:
    for name in ("cat", "dog"):
        (path / name).mkdir(parents=True)
        for count in range(10):
            (path / name / f"{count}{ending}").write_bytes(data)
    if normalization:
        (path / "normalization.json").write_text(normalization)


def texts() -> Iterator[tuple[str, str | bytes]]:
    """Give texts that are neither a recipe nor a project."""
    laughs = "a0: &a0 [x]\n" + "".join(
        f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 30)
    )
    yield from {
        "nothing": "",
        "a-list": "[1, 2]",
        "a-number": "7",
        "words": "hello",
        "no-yaml": "{a: [",
        "a-tab": "\ta: 1",
        "no-text": b"\xff\xfe\0\xd8",
        "zero-bytes": bytes(100),
        "code": "!!python/object/apply:os.system ['touch mark']",
        "a-module": "!!python/module:os",
        "billion-laughs": laughs,
        "laughing-layers": laughs + "layers: *a29\n",
        "laughing-options": laughs
        + "layers: {'0': {structure: {method: svd, options: {rank: *a29}}}}\n",
        "itself": "&a [*a]",
        "itself-as-layers": "layers: &a {b: *a}",
        "deep": "[" * 20_000,
        "deep-maps": "{a: " * 5000,
        "deep-layers": "layers: " + "[" * 3000 + "]" * 3000,
        "a-map-as-key": "? {a: b}\n: c",
        "a-list-as-key": "? [a, b]\n: c",
        "a-date-that-is-none": "version: 2020-99-99",
        "a-time-that-is-none": "version: 2020-01-01T99:99:99Z",
        "binary-that-is-none": "version: !!binary a",
        "an-integer-that-is-none": "version: !!int abc",
        "a-float-that-is-none": "version: !!float abc",
        "a-long-number": "version: " + "9" * 6000,
        "infinity": "seed: .inf",
        "a-merge-of-nothing": "<<: 3",
        "an-alias-of-nothing": "*nothing",
        "two-documents": "--- 1\n--- 2",
        "layers-as-list": "layers: [a]",
        "a-choice-of-words": "layers: {a: b}",
        "a-setting-of-words": "layers: {a: {structure: svd}}",
        "an-unknown-field": "colour: red",
        "another-version": "version: 99",
        "seed-below-zero": "seed: -1",
        "epochs-of-words": "recovery: {epochs: many}",
        "epochs-without-end": "recovery: {epochs: 100000000}",
    }.items()
