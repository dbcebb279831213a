"""Channel pruning: the least important channels of coupled layers are removed together."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.channel_layers import PRODUCERS, BatchNorm, Transposed
from featherweight.engine.inspecting.coupling import FIXED, ChannelSet, Coupling
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.methods.method import Method
from featherweight.engine.network import Network
from featherweight.engine.options import Slot, number, words

Scores = npt.NDArray[np.float64]


class ChannelPruning(Method, frozen=True, kw_only=True):
    """Removal of output channels by the size of their weights.

    The score of an atom is the sum, over the output channels in it, of the channel's score divided
    by the mean score of its layer. A channel's score is the L1 or L2 norm of its filter (Li et al.
    2017, arXiv 1608.08710) or the absolute scale of its batch norm (Liu et al. 2017, network
    slimming, arXiv 1708.06519). The atoms with the lowest scores go.
    """

    name: ClassVar[str] = "channel_pruning"
    slot: ClassVar[Slot] = "structure"
    title: ClassVar[str] = "Channel pruning"
    label: ClassVar[str] = "Prune {}"
    advice: ClassVar[str] = (
        "Removes whole channels, so that file, memory and time all shrink. Retrain afterwards."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "ratio"

    ratio: Annotated[
        float, number("Removed share", "Share of the output channels to remove.", 0.0, 0.95)
    ] = 0.3
    score: Annotated[
        Literal["l1", "l2", "bn_scale"],
        words("Score", "Norm of the filters, or scale of the batch norm that follows."),
    ] = "l1"
    multiple: Annotated[
        int, number("Multiple of", "The number of channels kept is rounded up to it.", 1, 64)
    ] = 1

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why a layer has no output channels to remove, empty if it has."""
        if isinstance(layer, PRODUCERS):
            return ""
        return "It has no output channels of its own: it follows the layers before it."

    def chosen(self, network: Network, coupling: Coupling, found: ChannelSet) -> IntArray:
        """Return the atoms of a set that go, int64, the least important first.

        Atoms that lie in the same layers in equal numbers are ranked among each other, and the
        ratio holds for each such class, so that no layer loses much more than another. Raises
        UserError where the score needs a batch norm that the network lacks.
        """
        scores = self._scores(network, coupling, found)
        widths = _widths(coupling, found)
        classes = np.unique(widths, axis=0, return_inverse=True)[1].reshape(-1)
        ranked = [
            members[np.argsort(scores[members], kind="stable")]
            for kind in range(int(classes.max()) + 1)
            for members in [np.flatnonzero(classes == kind)]
        ]
        counts = self._counts(ranked, scores / widths.sum(1))
        gone = [
            members[: self._rounded(count, len(members), widths[members[0]])]
            for members, count in zip(ranked, counts, strict=True)
        ]
        removed = np.concatenate(gone)
        return found.atoms[removed[np.argsort(scores[removed], kind="stable")]]

    def _counts(self, ranked: list[IntArray], scores: Scores) -> list[int]:
        """Share the atoms to remove among classes: to those that are rounded down most first."""
        wanted = [self.ratio * len(members) for members in ranked]
        counts = [math.floor(count + 1e-9) for count in wanted]
        left = math.floor(sum(wanted) + 0.5 - 1e-9) - sum(counts)
        open_classes = [k for k, members in enumerate(ranked) if counts[k] < len(members)]
        open_classes.sort(key=lambda k: (counts[k] - wanted[k], scores[ranked[k][counts[k]]]))
        for kind in open_classes[: max(left, 0)]:
            counts[kind] += 1
        return counts

    def _rounded(self, gone: int, count: int, widths: IntArray) -> int:
        """Remove fewer, until what every layer keeps of these atoms is a multiple."""
        steps = [self.multiple // math.gcd(self.multiple, int(width)) for width in widths if width]
        step = math.lcm(*steps)
        kept = math.ceil((count - gone) / step) * step
        return max(0, count - kept)

    def _scores(self, network: Network, coupling: Coupling, found: ChannelSet) -> Scores:
        totals = np.zeros(int(found.atoms.max()) + 1)
        seen = np.zeros(len(totals), dtype=bool)
        for name, channels in coupling.channels.items():
            inside = np.isin(channels.outputs, found.atoms)
            if not inside.any():
                continue
            values = self._channel_scores(network.layer(name), name in found.layers)
            if values is None:
                continue
            share = values / max(float(values.mean()), np.finfo(np.float64).tiny)
            np.add.at(totals, channels.outputs[inside], share[inside])
            seen[channels.outputs[inside]] = True
        if not seen[found.atoms].all():
            raise UserError(
                f"Layer {found.layers[0]} is not followed by a batch norm, whose scale would be "
                "the score of its channels.",
                "Set score to l1 or l2.",
            )
        result: Scores = totals[found.atoms]
        return result

    def _channel_scores(self, layer: nn.Module, produces: bool) -> Scores | None:
        if self.score != "bn_scale":
            return _norms(layer, 1 if self.score == "l1" else 2) if produces else None
        if isinstance(layer, BatchNorm) and layer.affine:
            return layer.weight.detach().abs().double().cpu().numpy()
        return None


def plan(network: Network, coupling: Coupling, settings: Mapping[str, ChannelPruning]) -> Plan:
    """Return which channels go when layers get these settings.

    Layers of one set that have no setting follow. At least one channel stays everywhere. Raises
    UserError where a layer is locked, or where two layers of a set have different settings.
    """
    chosen = [np.zeros(0, dtype=np.int64)]
    done: dict[int, str] = {}
    for name, setting in settings.items():
        together = coupling.set_of(name)
        if together is None:
            reason = coupling.locks.get(name, "It has no output channels.")
            raise UserError(f"Layer {name} cannot lose channels: {reason}")
        first = done.setdefault(id(together), name)
        if settings[first] != setting:
            raise _unequal(first, name, settings[first], setting)
        if first == name:
            chosen.append(setting.chosen(network, coupling, together))
    return Plan(coupling, _nowhere_all(coupling, np.concatenate(chosen)))


def _unequal(first: str, second: str, one: ChannelPruning, other: ChannelPruning) -> UserError:
    option = next(
        option for option in one.__struct_fields__ if getattr(one, option) != getattr(other, option)
    )
    return UserError(
        f"Layer {first} and layer {second} lose channels together, yet the recipe gives them "
        f"{option} {getattr(one, option)} and {getattr(other, option)}.",
        "Give them the same.",
    )


@torch.no_grad()
def _norms(layer: nn.Module, order: int) -> Scores:
    """Return the norm of what makes each output channel of a layer, in their order."""
    if isinstance(layer, nn.RNNBase):
        rows = _rows_of_units(layer)
    else:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        rows = weight.detach()
    if isinstance(layer, Transposed):
        groups = layer.groups
        split = rows.reshape(groups, rows.shape[0] // groups, rows.shape[1], -1)
        rows = split.transpose(1, 2).flatten(0, 1)
    elif isinstance(layer, nn.Embedding):
        rows = rows.T
    result: Scores = torch.linalg.vector_norm(rows.flatten(1), order, dim=1).double().cpu().numpy()
    return result


def _rows_of_units(layer: nn.RNNBase) -> Tensor:
    """Return what makes each hidden unit: its rows in every gate, layer and direction."""
    units = layer.hidden_size
    matrices = [
        value.detach().reshape(-1, units, value.shape[1]).transpose(0, 1).flatten(1)
        for name, value in layer.named_parameters()
        if value.ndim == 2 and not name.startswith("weight_hr")
    ]
    return torch.cat(matrices, dim=1)


def _widths(coupling: Coupling, found: ChannelSet) -> IntArray:
    """Return how many output channels of each layer an atom holds: atoms by layers, int64."""
    widths = np.zeros((len(found.atoms), len(found.layers)), dtype=np.int64)
    for column, name in enumerate(found.layers):
        outputs = coupling.channels[name].outputs
        rows = np.searchsorted(found.atoms, outputs[outputs != FIXED])
        np.add.at(widths[:, column], rows, 1)
    return widths


def _nowhere_all(coupling: Coupling, removed: IntArray) -> IntArray:
    """Take back the most important channel wherever all of a tensor's would go.

    `removed` has the least important first.
    """
    count = int(max((found.atoms.max() for found in coupling.sets), default=0)) + 1
    rank = np.full(count, -1, dtype=np.int64)
    rank[removed] = np.arange(len(removed))
    for axis in coupling.axes:
        if (rank[axis] >= 0).all():
            rank[axis[np.argmax(rank[axis])]] = -1
    return np.flatnonzero(rank >= 0)
