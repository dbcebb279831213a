"""Networks of an installed library, named instead of a file: `timm:resnet18`."""

from typing import Any

from torch import nn

from featherweight.engine.errors import USER_CODE_ERRORS, UserError, running_reason
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.opening import opened
from featherweight.engine.reading.trust import import_trusted

# Functions of libraries that make a network by its name.
MAKERS = ("create_model", "get_model")
NOTE = "The library built the network with random weights; a file brings trained ones."


def read_library(source: Source) -> Network:
    """Build a network of a library that is installed and trusted.

    Raises TrustNeededError where it is not trusted, UserError where it has no such network.
    """
    package, _, name = source.path.partition(":")
    root = package.partition(".")[0]
    trust = (package, *source.trust) if root in source.trust else source.trust
    module = import_trusted(package, trust, source.path)
    return opened(_built(module, name, source.path), source, f"{root} network", notes=(NOTE,))


def _built(module: Any, name: str, path: str) -> nn.Module:
    holders = (module, getattr(module, "models", None))
    own = [getattr(holder, name, None) for holder in holders]
    makers = [getattr(holder, maker, None) for holder in holders for maker in MAKERS]
    function = next(filter(callable, own), None)
    maker = next(filter(callable, makers), None)
    if function is None and maker is None:
        raise UserError(
            f"{path} names no network: {module.__name__} has no {name}.",
            "Write it as library:name, like timm:resnet18.",
        )
    try:
        network = function() if function else maker(name) if maker else None
    except USER_CODE_ERRORS as error:
        raise UserError(
            f"{path} cannot be built: {running_reason(error)}.", "Check the name of the network."
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{path} gives no network.", "Name a function that builds one.")
    return network
