"""Squares of every sample's own gradient, from one backward pass for a batch.

A layer's input and the gradient of its output give the gradient of its weight for each sample
alone (Goodfellow 2015, arXiv 1510.01799), which torch.func computes for any kind of layer.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from featherweight.engine.calibrating.patches import groups_of
from featherweight.engine.coefficient_layers import CoefficientLayer, TransformLinear
from featherweight.engine.evidence import Convolution, Gradients, InputMoments, Transposed
from featherweight.engine.functional_layers import run, without_tensors
from featherweight.engine.jobs import Check
from featherweight.engine.network import Network
from featherweight.engine.structured_convolutions import StructuredConvolution

ELEMENTS_AT_ONCE = 1 << 24


def gradient_lock(layer: nn.Module) -> str:
    """Return why a layer's gradients cannot be told sample by sample, a sentence; or empty."""
    kinds = nn.Linear | Convolution | Transposed | nn.Embedding | CoefficientLayer
    if isinstance(layer, kinds):
        return ""
    return f"Gradients of {type(layer).__name__} layers cannot be told sample by sample."


class GradientSums:
    """Hooks on layers that sum squared gradients; close it to take them off.

    Run a batch, call backward on the sum of its losses, then `add` with the batch's size, and how
    many rows it was filled up to where the network takes no other number.
    """

    def __init__(self, network: Network, names: frozenset[str]) -> None:
        layers = {name: network.layer(name) for name in sorted(names)}
        self._sums = {
            name: _Sum(layer) for name, layer in layers.items() if not gradient_lock(layer)
        }
        self._exits = ExitStack()
        self._count = 0
        for name, total in self._sums.items():
            hook = layers[name].register_forward_hook(_keeping(total))
            self._exits.callback(hook.remove)

    def close(self) -> None:
        """Take the hooks off."""
        self._exits.close()

    def add(self, samples: int, rows: int, check: Check) -> None:
        """Take what the last backward pass left into the sums."""
        self._count += samples
        for total in self._sums.values():
            check()
            total.add(rows)

    def found(self) -> Mapping[str, Gradients]:
        """Return the means over all samples."""
        return {name: total.gradients(max(self._count, 1)) for name, total in self._sums.items()}


def _keeping(total: "_Sum") -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def keep(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            at = len(total.calls)
            total.calls.append((total.seen(inputs[0].detach()), torch.zeros(0)))

            def receive(gradient: Tensor) -> None:
                total.calls[at] = (total.calls[at][0], gradient.detach())

            output.register_hook(receive)

    return keep


class _Sum:
    def __init__(self, layer: nn.Module) -> None:
        # Run without its hooks; a bias has no part in the gradient of the weight.
        self.settings = without_tensors(layer)
        self.others = {
            name: value.detach()
            for name, value in (*layer.named_parameters(), *layer.named_buffers())
            if name not in ("weight", "bias")
        }
        self.inward = layer if isinstance(layer, TransformLinear) else None
        if self.inward:
            # Its coefficients multiply what it sees as weights do: no sample needs all of W.
            self.settings = without_tensors(nn.Linear(1, 1))
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.weight = layer.get_parameter("weight").detach()
        self.squares, self.total = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        view = InputMoments(groups_of(layer), (), torch.zeros(0), isinstance(layer, Transposed))
        self.view = None if isinstance(layer, nn.Embedding) else view
        outputs = self.view.matrix(self.weight).flatten(0, 1).shape[0] if self.view else 0
        self.rows = torch.zeros(outputs)

    def seen(self, x: Tensor) -> Tensor:
        """Return what the weight is multiplied with."""
        if not self.inward:
            return x
        rows = x.reshape(1, -1, x.shape[-1])
        return self.inward.seen(self.others, rows).reshape(*x.shape[:-1], -1)

    def add(self, samples: int) -> None:
        calls = [
            (_by_sample(x, samples), _by_sample(gradient, samples))
            for x, gradient in self.calls
            if len(x) % samples == 0 and gradient.numel()
        ]
        self.calls.clear()
        if isinstance(self.settings, nn.Linear) and _are_vectors(calls):
            self._add_products(*calls[0])
            return
        together = max(1, ELEMENTS_AT_ONCE // self.weight.numel())
        for start in range(0, samples if calls else 0, together):
            part = slice(start, start + together)
            each = sum(self._of_samples(x[part], gradient[part]) for x, gradient in calls)
            assert isinstance(each, Tensor)
            self.total += each.sum(0)
            self.squares += each.square().sum(0)
            if self.view:
                products = each * self.weight
                for product in products:
                    sums = self.view.matrix(product).sum(2).reshape(-1)
                    self.rows += sums.square()

    def _of_samples(self, x: Tensor, gradient: Tensor) -> Tensor:
        def of_one(one: Tensor, its_gradient: Tensor) -> Tensor:
            def output(weight: Tensor) -> Tensor:
                result: Tensor = run(self.settings, {**self.others, "weight": weight}, (one,))
                return result

            found: Tensor = vjp(output, self.weight)[1](its_gradient)[0]
            return found

        if isinstance(self.settings, Convolution | Transposed | StructuredConvolution):
            # As one convolution of as many groups as samples they take twenty times as long.
            return torch.stack(list(map(of_one, x, gradient)))
        result: Tensor = vmap(of_one)(x, gradient)
        return result

    def _add_products(self, x: Tensor, gradient: Tensor) -> None:
        """Add up gradients that are the outer product of two vectors, without any of them."""
        x, gradient = x.flatten(1), gradient.flatten(1)
        self.total += gradient.T @ x
        self.squares += gradient.square().T @ x.square()
        self.rows += (gradient * (x @ self.weight.T)).square().sum(0)

    def gradients(self, count: int) -> Gradients:
        rows = self.rows / count if self.view else None
        return Gradients(self.squares / count, rows, self.total / count)


def _are_vectors(calls: list[tuple[Tensor, Tensor]]) -> bool:
    """Say whether a sample has one input and one output, in one call."""
    return len(calls) == 1 and all(tensor[0].numel() == tensor.shape[-1] for tensor in calls[0])


def _by_sample(tensor: Tensor, samples: int) -> Tensor:
    """Return (samples, parts of a sample, …): the windows and steps of a sample lie together."""
    return tensor.reshape(samples, len(tensor) // samples, *tensor.shape[1:])
