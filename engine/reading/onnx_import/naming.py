"""Dotted names for the layers of an ONNX graph, from what exporters leave of the original ones."""

import ast
import re
from typing import Any

from onnx import NodeProto
from torch import nn

SCOPES = "pkg.torch.onnx.name_scopes"
# What exporters call tensors without a name: `onnx::Conv_12`, `val_7`, `/a/Conv_output_0`, `42`.
MADE_UP = re.compile(r"(onnx::\w+|val_\d+|\d+|.*_output_\d+|_.*|(node|tensor|const)_\w*)")
SUFFIX = re.compile(
    r"[._/](weight|kernel|bias|scale|gamma|running_mean|weight_bias|W|B|w|b|[wb]_\d+)"
    r"([._](quantized|dequantized|integers|transposed|fused))?(:\d+)?$"
)
OTHER = re.compile(r"[^\w.]+", re.ASCII)


def layer_names(node: NodeProto, tensors: list[str]) -> list[str]:
    """Return names for the layer of a node, best first: of its tensors, its scope, its operator."""
    names = [SUFFIX.sub("", name) for name in tensors if name and not MADE_UP.fullmatch(name)]
    return [plain_name(name) for name in (*names[:1], scope_of(node), node.op_type.lower()) if name]


def plain_name(name: str) -> str:
    """Return a name of letters, digits, underscores and single dots."""
    parts = [part for part in OTHER.sub("_", name).split(".") if part]
    return ".".join(part.strip("_") or "_" for part in parts) or "layer"


def free_name(root: nn.Module, wanted: list[str]) -> str:
    """Return the first name that no layer or tensor of a module has and that is inside none.

    Where all are taken it is the first with a number.
    """
    return next((name for name in wanted if _free(root, name) == name), _free(root, wanted[0]))


def _free(root: nn.Module, name: str) -> str:
    parts, free, count = name.split("."), name, 1
    for depth in range(1, len(parts)):
        if type(_found(root, ".".join(parts[:depth]))) not in (nn.Module, type(None)):
            name = free = "_".join(parts)
    while _found(root, free) is not None:
        count += 1
        free = f"{name}_{count}"
    return free


def _found(root: nn.Module, name: str) -> Any:
    found: Any = root
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def scope_of(node: NodeProto) -> str:
    """Return the dotted name of the module that a node came from, empty where nothing tells."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            scopes = _listed(entry.value)
            if len(scopes) > 1 and scopes[-2]:
                return scopes[-2]
    return _path(node.name)


def _listed(text: str) -> list[str]:
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return [str(scope) for scope in scopes] if isinstance(scopes, list) else []


def _path(name: str) -> str:
    """Turn `/stage1/stage1.0/conv1/Conv` into `stage1.0.conv1`, and keep other names."""
    if not name.startswith("/"):
        return name
    dotted = ""
    for part in name.split("/")[1:-1]:
        last = dotted.rpartition(".")[2] if dotted else ""
        if last and part.startswith(f"{last}."):
            dotted = dotted[: len(dotted) - len(last)]
            dotted += part
        else:
            dotted = f"{dotted}.{part}" if dotted else part
    return dotted
