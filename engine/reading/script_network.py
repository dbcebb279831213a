"""A script beside its weights as layers: what opens where no graph can hold a script's code."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.length_trials import tensors_of
from featherweight.engine.reading.calling import flattened
from featherweight.engine.reading.script_layers import Settings, layer_of
from featherweight.engine.weight_forms import CompactLayer

# The tensors of one attribute of the script, by their names; in a list where it holds one.
Slot = tuple[str, str, list[str] | str]


class ScriptNetwork(nn.Module):
    """The layers of a script, which hold its weights; called, it lends them to the script.

    A layer may be replaced by a compact one, and gradients reach what the layers hold.
    """

    def __init__(self, script: Any) -> None:
        super().__init__()
        nodes = list(_nodes(script.inlined_graph))
        known = Settings(nodes)
        parameters: dict[Tensor, nn.Parameter] = {}
        slots: list[Slot] = []
        for path, part in script.named_modules(remove_duplicate=False):
            layer = layer_of(part, known.of(path), parameters) if path else self
            if path:
                owner, _, name = path.rpartition(".")
                self.get_submodule(owner).add_module(name, layer)
            else:
                _hold(self, part, parameters)
            slots += [(path, name, _joined(path, name)) for name, _ in _tensors(part)]
        lists = _lists(script, nodes, dict(_all_tensors(script)))
        # Kept out of the registry: all its tensors belong to the layers.
        self.__dict__["_script"] = script
        self.__dict__["_slots"] = (*slots, *lists)
        self._lend({})

    def forward(self, **inputs: Tensor) -> Any:
        """Run the script on the weights that the layers hold now."""
        script = self.__dict__["_script"]
        for path, part in script.named_modules(remove_duplicate=False):
            if part._c.hasattr("training"):
                part._c.setattr("training", self.get_submodule(path).training)
        self._lend(self._held())
        try:
            return script(*inputs.values())
        finally:
            self._lend({})

    def owners(self) -> dict[int, str]:
        """Return the layer of each tensor that the script computes with, by its memory.

        It is filled while the script runs, and empty at any other time.
        """
        held: dict[int, str] = self.__dict__.get("_owners", {})
        return held

    def _held(self) -> dict[str, Tensor]:
        held: dict[str, Tensor] = {}
        for path, layer in self.named_modules(remove_duplicate=False):
            own = layer.weights() if isinstance(layer, CompactLayer) else _own(layer)
            held.update({_joined(path, name): value for name, value in own.items()})
        return held

    def _lend(self, held: dict[str, Tensor]) -> None:
        """Give the script its tensors; without any, it holds none."""
        none = torch.empty(0)
        for path, attribute, names in self.__dict__["_slots"]:
            owner = _at(self.__dict__["_script"], path)._c
            if isinstance(names, str):
                owner.setattr(attribute, held.get(names, none))
            else:
                owner.setattr(attribute, [held.get(name, none) for name in names])
        self.__dict__["_owners"] = {
            value.untyped_storage().data_ptr(): name.rpartition(".")[0]
            for name, value in held.items()
            if type(value) in (Tensor, nn.Parameter)
        }


def script_network(script: Any, names: list[str], path: str) -> nn.Module:
    """Return a script as a module of layers whose `forward` takes tensors of these names."""
    return flattened(ScriptNetwork(script), names, len(names), path)


def _hold(module: nn.Module, script: Any, parameters: dict[Tensor, nn.Parameter]) -> None:
    for name, value in layer_of(script, None, parameters).named_parameters(recurse=False):
        module.register_parameter(name, value)
    for name, value in script.named_buffers(recurse=False):
        module.register_buffer(name, value)


def _own(layer: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(layer.named_parameters(recurse=False)),
        **dict(layer.named_buffers(recurse=False)),
    }


def _tensors(part: Any) -> Iterator[tuple[str, Tensor]]:
    yield from part.named_parameters(recurse=False)
    yield from part.named_buffers(recurse=False)


def _all_tensors(script: Any) -> Iterator[tuple[str, Tensor]]:
    yield from script.named_parameters()
    yield from script.named_buffers()


def _lists(script: Any, nodes: list[Any], tensors: dict[str, Tensor]) -> Iterator[Slot]:
    """Give the lists that hold tensors of the script a second time, as recurrent layers do.

    Raises TypeError where such tensors are held in another way: they could not be replaced.
    """
    names = {_memory(value): name for name, value in tensors.items() if value.numel()}
    attributes = {Settings.path(node.output()) for node in nodes if node.kind() == "prim::GetAttr"}
    for whole in sorted(filter(None, attributes - set(tensors))):
        path, _, attribute = whole.rpartition(".")
        held = _at(script, path)._c.getattr(attribute)
        known = [value for value in tensors_of(held) if _memory(value) in names]
        if not known:
            continue
        if not isinstance(held, list) or len(known) != len(held):
            raise TypeError(f"it holds weights a second time in {whole}")
        yield path, attribute, [names[_memory(value)] for value in held]


def _memory(value: Tensor) -> tuple[Any, ...]:
    return value.data_ptr(), tuple(value.shape), value.stride()


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _at(script: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        script = getattr(script, part)
    return script


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
