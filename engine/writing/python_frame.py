"""What stands around a network in its Python source: the imports, and reading its weights."""

import re

from featherweight.engine.weight_unpacking import unpacking_source

HEADER = '"""A network that Featherweight wrote. It needs torch and safetensors, nothing else.'
USAGE = """
network = load() reads the .safetensors file of the same name beside it
\"""
"""
# By the word that needs it, in the usual order.
STANDARD = {
    "json": "import json",
    "math": "import math",
    "operator": "import operator",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
}
OTHERS = {
    "torch": "import torch",
    "safe_open": "from safetensors import safe_open",
    "load_file": "from safetensors.torch import load_file",
    "nn": "from torch import nn",
    "functional": "from torch.nn import functional",
}

LOAD = '''
def load(path=Path(__file__).with_suffix(".safetensors")) -> Network:
    """Return the network with its weights, in eval mode."""
    weights = {weights}
    for name, value in weights.items():
        if value.dtype in (torch.float16, torch.bfloat16):
            weights[name] = value.float()
{repeat}    with torch.device("meta"):
        network = Network()
    network.load_state_dict(weights, assign=True)
{tie}    return network.eval()
'''
TIES = """
# Tensors that are one and the same, and in the file once.
TIES = {ties}
"""
REPEAT = """\
    weights.update({name: weights[kept] for name, kept in TIES.items()})
"""
TIE = """\
    for name, kept in TIES.items():
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, _found(network, kept))
"""
FOUND = """
def _found(network, name):
    owner, _, leaf = name.rpartition(".")
    return getattr(network.get_submodule(owner), leaf)
"""
READ = '''
def read(path):
    """Return the tensors of the file, and what it tells of those that are packed."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return tensors, json.loads(file.metadata()["packed"])


Tensors = dict[str, torch.Tensor]
'''


def framed(network: str, ties: dict[str, str], forms: tuple[str, ...]) -> str:
    """Return the whole source: a class `Network`, and `load`, which gives it with its weights.

    `ties` are tensors by the name of the one they are the same as; `forms` are those of packed
    weights in the file.
    """
    weights = "unpacked(*read(path))" if forms else "load_file(path)"
    told = [f'    "{name}": "{kept}",' for name, kept in ties.items()]
    listed = "\n".join(["{", *told, "}"])
    load = LOAD.format(weights=weights, repeat=REPEAT if ties else "", tie=TIE if ties else "")
    tied = [TIES.format(ties=listed), load, FOUND] if ties else [load]
    parts = [network, *tied, *((READ, unpacking_source(forms)) if forms else ())]
    body = "\n\n\n".join(part.strip("\n") for part in parts)
    imports = "\n\n".join(
        "\n".join(line for word, line in group.items() if re.search(rf"\b{word}\b", body))
        for group in (STANDARD, OTHERS)
    )
    return f"{HEADER}\n{USAGE}\n{imports}\n\n\n{body}\n"
