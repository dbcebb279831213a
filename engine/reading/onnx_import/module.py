"""An ONNX graph as a module: layers by dotted name, all else as functions on tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from torch import Tensor, nn

from featherweight.engine.reading.onnx_import.values import Host


@dataclass(frozen=True)
class Step:
    """One computation of the module: a layer by name, or a function, on named values."""

    run: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layer: str = ""


class OnnxNetwork(nn.Module):
    """An ONNX graph in order: layers by dotted name, all else as functions on tensors."""

    def __init__(self, inputs: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.steps: list[Step] = []
        self.known: dict[str, Host] = {}
        self.held: dict[str, str] = {}
        self.batch = 0

    def run(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the graph on its inputs, in their order. Raises ValueError for a fixed batch."""
        if self.batch and inputs[0].shape[0] != self.batch:
            raise ValueError(f"the batch is fixed at {self.batch}")
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            values.update(self.outcome(step, values))
        results = tuple(values[name] for name in self.outputs)
        return results[0] if len(results) == 1 else results

    def outcome(self, step: Step, values: dict[str, Any]) -> dict[str, Any]:
        """Run one step. Returns its results by name."""
        arguments = [self.value(name, values) for name in step.inputs]
        if step.layer:
            arguments.insert(0, self.get_submodule(step.layer))
        result = step.run(*arguments)
        results = result if isinstance(result, tuple) else (result,)
        return dict(zip(step.outputs, results, strict=False))

    def value(self, name: str, values: dict[str, Any]) -> Any:
        """Return a value by name: of this run, a tensor of the module, or a known number."""
        if name in values:
            return values[name]
        if name in self.held:
            owner, _, leaf = self.held[name].rpartition(".")
            return getattr(self.get_submodule(owner), leaf)
        return self.known[name] if name else None


def network_of(count: int) -> type[OnnxNetwork]:
    """Return a network class whose `forward` has that many arguments: torch.export counts them."""

    def forward(self: OnnxNetwork, *inputs: Tensor) -> Any:
        return self.run(*inputs)

    kind = Parameter.POSITIONAL_OR_KEYWORD
    names = ["self", *(f"input_{position}" for position in range(count))]
    signature = Signature([Parameter(name, kind) for name in names])
    forward.__dict__["__signature__"] = signature
    return type("OnnxNetwork", (OnnxNetwork,), {"forward": forward})
