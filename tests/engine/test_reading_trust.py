"""Opening a file runs nothing of it: planted exploits of every kind leave no mark."""

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

SHAPES = ((1, 3, 8, 8),)


class Planted:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def exploit(mark: Path) -> Planted:
    return Planted(os.system, f"touch {mark}")


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.fixture
def program(tmp_path: Path, net: nn.Module) -> Path:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.randn(2, 3, 8, 8),)), path)
    return path


def opened(path: Path, **options: Any) -> Network:
    return read_network(Source(path=str(path), input_shapes=SHAPES, **options))


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> None:
    """Change the members of a zip by the end of their names; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).partition("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            changed = change(name.partition("/")[2], data)
            if changed is not None:
                archive.writestr(name, changed)
        for name, data in more.items():
            archive.writestr(f"{root}/{name}", data)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_that_the_planted_exploit_is_live_for_an_ordinary_unpickler(
    exploit: Planted, mark: Path
) -> None:
    pickle.loads(pickle.dumps(exploit))
    assert mark.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_that_a_planted_pickle_names_its_code_and_leaves_no_mark(
    zipped: bool, exploit: Planted, mark: Path, tmp_path: Path
) -> None:
    path = tmp_path / "planted.pt"
    state = {"weight": torch.ones(2), "extra": exploit}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(TrustNeededError, match=r"posix\.system|nt\.system") as caught:
        opened(path)
    assert caught.value.names == (os.name,)
    with pytest.raises(UserError):
        opened(path, trust=(os.name,))
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_that_a_bare_pickle_of_any_protocol_leaves_no_mark(
    protocol: int, exploit: Planted, mark: Path, tmp_path: Path
) -> None:
    path = tmp_path / "planted.pth"
    path.write_bytes(pickle.dumps(exploit, protocol))
    with pytest.raises(UserError):
        opened(path)
    assert not mark.exists()


def test_that_code_hidden_in_other_entries_of_a_checkpoint_leaves_no_mark(
    exploit: Planted, mark: Path, tmp_path: Path, net: nn.Module
) -> None:
    path = tmp_path / "net.pt"
    torch.save(net, path)
    evil = pickle.dumps(exploit)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data.pkl", evil)
    rewritten(path, lambda _, data: data, **{"extra.pkl": evil, "inner.pt": inner.getvalue()})
    assert len(list(opened(path).layers())) == 2
    assert not mark.exists()


@pytest.mark.parametrize(
    "planted",
    [
        Planted(eval, "open({mark!r}, 'w')"),
        Planted(exec, "open({mark!r}, 'w')"),
        Planted(getattr, "text", "format"),
        Planted(torch.load, "{mark}"),
        Planted(torch.hub.load, "owner/name", "model"),
        Planted(torch.nn.Module.apply, nn.ReLU(), print),
        Planted(fx.graph_module.reduce_graph_module, {"_code": "open({mark!r}, 'w')"}, ""),
    ],
    ids=lambda planted: planted.call[0].__name__,
)
def test_that_functions_of_python_and_torch_that_run_code_need_trust(
    planted: Planted, mark: Path, tmp_path: Path
) -> None:
    function, arguments = planted.call
    filled = [text.format(mark=str(mark)) if isinstance(text, str) else text for text in arguments]
    path = tmp_path / "planted.pt"
    torch.save([Planted(function, *filled)], path)
    with pytest.raises(TrustNeededError):
        opened(path)
    assert not mark.exists()


def test_that_a_module_of_the_users_is_imported_only_after_trust(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "their_networks.py"
    text = "from torch import nn\nclass Theirs(nn.Linear):\n    pass\n"
    source.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import their_networks

    path = tmp_path / "theirs.pt"
    torch.save(nn.Sequential(their_networks.Theirs(8, 4)), path)
    monkeypatch.delitem(sys.modules, "their_networks")
    source.write_text(f"open({str(mark)!r}, 'w').close()\n{text}")
    with pytest.raises(TrustNeededError, match=r"their_networks\.Theirs") as caught:
        opened(path)
    assert caught.value.names == ("their_networks",)
    assert not mark.exists()
    network = read_network(
        Source(path=str(path), trust=("their_networks",), input_shapes=((1, 8),))
    )
    assert [name for name, _ in network.layers()] == ["0"]
    monkeypatch.delitem(sys.modules, "their_networks")


def test_that_a_class_is_found_in_the_file_that_the_person_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "parts_of_mine.py").write_text(
        "from torch import nn\nclass Mine(nn.Linear):\n    pass\n"
    )
    path = tmp_path / "mine.pt"
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        import parts_of_mine

        torch.save(parts_of_mine.Mine(8, 4), path)
    del sys.modules["parts_of_mine"]
    options = {"path": str(path), "input_shapes": ((1, 8),)}
    with pytest.raises(UserError, match="which is not there"):
        read_network(Source(trust=("parts_of_mine",), **options))
    network = read_network(Source(trust=(str(folder / "parts_of_mine.py"),), **options))
    assert network.outputs(torch.ones(2, 8))[0].shape == (2, 4)


@pytest.mark.parametrize("as_path", [True, False], ids=["path", "module"])
def test_that_a_factory_runs_only_after_its_module_is_trusted(
    as_path: bool, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "their_factory.py"
    source.write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from torch import nn\ndef build():\n    return nn.Linear(8, 4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = str(source) if as_path else "their_factory"
    weights = tmp_path / "w.safetensors"
    save_file(nn.Linear(8, 4).state_dict(), weights)
    options = {
        "path": str(weights),
        "factory": f"{module}:build",
        "input_shapes": ((1, 8),),
    }
    with pytest.raises(TrustNeededError) as caught:
        read_network(Source(**options))
    assert caught.value.names == (module,)
    assert not mark.exists()
    assert len(list(read_network(Source(trust=(module,), **options)).layers())) == 1
    assert mark.exists()
    sys.modules.pop("their_factory", None)


def test_that_names_of_layers_cannot_smuggle_source_into_the_graph(
    mark: Path, tmp_path: Path
) -> None:
    planted = f'a", open("{mark}", "w"), "'
    path = tmp_path / "names.pt"
    module = nn.Sequential()
    module._modules[planted] = nn.Linear(8, 4)
    torch.save(module, path)
    with pytest.raises(UserError, match="names a part of the network"):
        read_network(Source(path=str(path), input_shapes=((1, 8),)))
    assert not mark.exists()


def test_that_pickles_of_an_exported_program_are_never_loaded(
    program: Path, exploit: Planted, mark: Path
) -> None:
    evil = saved([exploit])
    rewritten(program, lambda name, data: evil if "sample_inputs" in name else data)
    network = read_network(Source(path=str(program)))
    assert network.outputs(torch.randn(2, 3, 8, 8))[0].shape == (2, 5)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_that_a_pickled_tensor_in_an_exported_program_is_refused(
    kind: str, program: Path, exploit: Planted, mark: Path
) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name != f"data/{kind}/model_{kind}_config.json":
            return data
        config = json.loads(data)
        config["config"]["planted"] = {
            "path_name": "opaque_obj_0" if kind == "constants" else "weight_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }
        return json.dumps(config).encode()

    rewritten(program, change, **{f"data/{kind}/opaque_obj_0": pickle.dumps(exploit)})
    with pytest.raises(UserError, match="pickled"):
        read_network(Source(path=str(program)))
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "_operator.methodcaller",
        "torch.ops.aten.from_file.default",
        "torch.ops.mkldnn._nothing.default",
        "#planted:op",
    ],
)
def test_that_an_exported_program_calls_nothing_but_tensor_operators(
    target: str, program: Path, mark: Path
) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        model = json.loads(data)
        node = model["graph_module"]["graph"]["nodes"][0]
        node["target"] = target
        node["inputs"] = [{"name": "a", "arg": {"as_string": f"touch {mark}"}, "kind": 1}]
        return json.dumps(model).encode()

    rewritten(program, change)
    with pytest.raises(UserError, match="refused"):
        read_network(Source(path=str(program)))
    assert not mark.exists()


def test_that_expressions_and_guards_of_a_program_are_not_evaluated(
    program: Path, mark: Path
) -> None:
    code = f"open('{mark}', 'w')"

    def change(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        model = json.loads(data)
        model["guards_code"] = [code]
        model["range_constraints"] = {code: {"min_val": 0, "max_val": 1}}
        free = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}
        model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = free
        return json.dumps(model).encode()

    rewritten(program, change)
    read_network(Source(path=str(program)))
    assert not mark.exists()


def test_that_compiled_code_in_an_exported_program_is_refused(program: Path) -> None:
    rewritten(program, lambda _, data: data, **{"data/aotinductor/model/x.so": b"\x7fELF"})
    with pytest.raises(UserError, match="compiled code"):
        read_network(Source(path=str(program)))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link/secret.bin", ""])
def test_that_an_onnx_file_reads_no_data_outside_its_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path)
    weight = numpy_helper.from_array(torch.ones(4, 4).numpy(), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    save_onnx(folder / "net.onnx", weight)
    with pytest.raises(UserError, match="outside its folder"):
        read_network(Source(path=str(folder / "net.onnx")))


def test_that_names_in_an_onnx_file_cannot_smuggle_source_into_the_graph(
    mark: Path, tmp_path: Path
) -> None:
    name = f'a", open("{mark}", "w"), "'
    save_onnx(tmp_path / "net.onnx", numpy_helper.from_array(torch.ones(4, 4).numpy(), name))
    network = read_network(Source(path=str(tmp_path / "net.onnx")))
    ones: Tensor = network.outputs(torch.ones(2, 4))[0]
    assert torch.equal(ones, torch.full((2, 4), 4.0))
    assert not mark.exists()


def save_onnx(path: Path, weight: TensorProto) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", weight.name], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    path.write_bytes(model.SerializeToString())
    assert onnx.load_model(path, load_external_data=False).graph.node


@pytest.mark.parametrize("line", ["raise SystemExit(3)", "raise type('Own', (Exception,), {})"])
def test_that_a_factory_that_gives_up_in_its_own_way_ends_in_a_sentence(
    line: str, tmp_path: Path
) -> None:
    factory, weights = tmp_path / "gives_up.py", tmp_path / "weights.pt"
    factory.write_text(f"def build():\n    {line}\n")
    torch.save(nn.Linear(3, 2).state_dict(), weights)
    source = Source(path=str(weights), factory=f"{factory}:build", trust=(str(factory),))
    with pytest.raises(UserError, match=r"gives_up\.py:build failed"):
        read_network(source)


@pytest.mark.parametrize("factory", ["gone.py:build", "not_installed_here.models:build"])
def test_that_a_factory_that_does_not_exist_is_told_before_trust_is_asked(
    factory: str, tmp_path: Path
) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(nn.Linear(8, 4).state_dict(), weights)
    with pytest.raises(UserError, match="which is not there") as caught:
        read_network(Source(path=str(weights), factory=factory, input_shapes=((1, 8),)))
    assert not isinstance(caught.value, TrustNeededError)
    assert factory.partition(":")[0] in caught.value.message
    assert str(weights) in caught.value.message
