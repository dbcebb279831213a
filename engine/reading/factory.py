"""Networks of files that hold weights only: a factory builds the network, the weights go in."""

from collections.abc import Mapping

from torch import Tensor, nn

from featherweight.engine.errors import USER_CODE_ERRORS, UserError
from featherweight.engine.events import Source
from featherweight.engine.reading.trust import import_trusted

SHOWN = 3
LONGEST_NAME = 80
WRAPPERS = ("module.", "_orig_mod.")

State = Mapping[str, Tensor]


def built_network(source: Source, tensors: int) -> nn.Module:
    """Call the factory of a source. Raises UserError, and TrustNeededError for foreign code.

    `tensors` is how many the file holds, for the sentence that asks for a factory.
    """
    if not source.factory:
        raise UserError(
            f"{source.path} holds weights only ({tensors} tensors), not the network itself.",
            "Name the function that builds the network: --factory module:function or "
            "--factory path/to/file.py:function.",
        )
    module_name, _, name = source.factory.rpartition(":")
    if not module_name or not name:
        raise UserError(
            f"{source.factory} names no factory.",
            "Write it as module:function or path/to/file.py:function.",
        )
    module = import_trusted(module_name, source.trust, source.path)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UserError(f"{module_name} has no function {name}.", "Check the name of the factory.")
    try:
        network = factory()
    except USER_CODE_ERRORS as error:
        raise UserError(
            f"The factory {source.factory} failed: {type(error).__name__}: {error}.",
            "It has to build the network when it is called without arguments.",
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"The factory {source.factory} gave {type(network).__name__}, not a network.",
            "It has to return a torch.nn.Module.",
        )
    return network


def load_weights(network: nn.Module, state: State, path: str) -> None:
    """Put the tensors of a file into a network; they are used as they are, not copied.

    Prefixes of wrappers (`module.`) are taken off; a tensor that the network uses twice may be
    there once. Raises UserError with the first names that do not fit.
    """
    state = _unwrapped(state, network)
    ties = _ties(network)
    for names in ties:
        present = [name for name in names if name in state]
        if present:
            state = {**state, **dict.fromkeys(names, state[present[0]])}
    own = network.state_dict()
    missing = [
        name for name in own if name not in state and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        raise _mismatch(path, missing, unexpected)
    _check_fit(path, own, state)
    network.load_state_dict(state, strict=False, assign=True)
    for names in ties:
        _tie(network, names)


def _unwrapped(state: State, network: nn.Module) -> dict[str, Tensor]:
    own = network.state_dict()
    prefixes = [word for word in WRAPPERS if not any(name.startswith(word) for name in own)]
    while state and any(all(name.startswith(word) for name in state) for word in prefixes):
        state = {name.partition(".")[2]: value for name, value in state.items()}
    return dict(state)


def _ties(network: nn.Module) -> list[list[str]]:
    by_parameter: dict[Tensor, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        by_parameter.setdefault(parameter, []).append(name)
    return [names for names in by_parameter.values() if len(names) > 1]


def _tie(network: nn.Module, names: list[str]) -> None:
    first = network.get_parameter(names[0])
    for name in names[1:]:
        owner, _, leaf = name.rpartition(".")
        network.get_submodule(owner).register_parameter(leaf, first)


def _mismatch(path: str, missing: list[str], unexpected: list[str]) -> UserError:
    parts = []
    if missing:
        parts.append(f"it lacks {_listed(missing)}")
    if unexpected:
        parts.append(f"it has {_listed(unexpected)} that the network does not")
    return UserError(
        f"{path} does not fit the network of the factory: {' and '.join(parts)}.",
        "Name the factory of the network that the file was saved from.",
    )


def _check_fit(path: str, own: State, state: State) -> None:
    for name, tensor in own.items():
        if name in state and state[name].is_floating_point() != tensor.is_floating_point():
            kinds = (str(kind.dtype).removeprefix("torch.") for kind in (state[name], tensor))
            raise UserError(
                f"{path} does not fit the network of the factory: {name} is {next(kinds)} in the "
                f"file and {next(kinds)} in the network.",
                "Save the weights as floating-point numbers.",
            )
        if name in state and state[name].shape != tensor.shape:
            raise UserError(
                f"{path} does not fit the network of the factory: {name} is "
                f"{_shape(state[name])} in the file and {_shape(tensor)} in the network.",
                "Name the factory of the network that the file was saved from.",
            )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    shown = ", ".join(" ".join(name.split())[:LONGEST_NAME] for name in names[:SHOWN])
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({shown}{more})"
