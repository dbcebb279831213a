"""What flows through layers of a network, caught by hooks while it runs."""

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from featherweight.engine.length_trials import tensors_of
from featherweight.engine.recovering.arithmetic import wide

Caught = dict[str, Tensor]


def caught_outputs(layer: nn.Module, into: Caught, name: str) -> RemovableHandle:
    """Keep under a name what a layer gives, if it is one tensor, until the handle is removed."""

    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            into[name] = wide(output)

    return layer.register_forward_hook(keep)


def caught_input(layer: nn.Module, into: Caught, name: str) -> RemovableHandle:
    """Keep under a name the first input of a layer, until the handle is removed."""

    def keep(_: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            into[name] = wide(inputs[0])

    return layer.register_forward_pre_hook(keep)


def caught_result(module: nn.Module, into: Caught, name: str) -> RemovableHandle:
    """Keep under a name the first output of a whole network, until the handle is removed."""

    def keep(_: nn.Module, __: object, output: object) -> None:
        into[name] = wide(tensors_of(output)[0])

    return module.register_forward_hook(keep)


def let_go(handles: list[RemovableHandle]) -> None:
    """Remove handles, and forget them."""
    for handle in handles:
        handle.remove()
    handles.clear()
