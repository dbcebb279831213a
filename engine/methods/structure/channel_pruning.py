"""Channel pruning: the least important channels of coupled layers are removed together."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from torch import nn

from featherweight.engine.errors import UserError
from featherweight.engine.evidence import NOTHING, Found, Gradients, Need
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.channel_layers import PRODUCERS, BatchNorm
from featherweight.engine.inspecting.coupling import FIXED, ChannelSet, Coupling
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_merging import merge, merging_order
from featherweight.engine.methods.channel_readers import readers
from featherweight.engine.methods.channel_reconstruction import reconstruction_order
from featherweight.engine.methods.channel_scores import Scores, median_distances, norms
from featherweight.engine.methods.channel_surgery import make_up, removal_order
from featherweight.engine.methods.method import Method
from featherweight.engine.network import Network
from featherweight.engine.options import Slot, number, words

MERGING, SURGERY = ("merge", "scaled_merge"), ("obs", "thinet")


class ChannelPruning(Method, frozen=True, kw_only=True):
    """Removal of the output channels that matter least.

    The score of an atom is the sum, over the output channels in it, of the channel's score divided
    by the mean score of its layer. A channel's score is the L1 or L2 norm of its filter (Li et al.
    2017, arXiv 1608.08710), the absolute scale of its batch norm (Liu et al. 2017, network
    slimming, arXiv 1708.06519), the distance to the layer's other filters (He et al. 2019) or, on
    data, how much the loss changes without it (Molchanov et al. 2019, arXiv 1906.10771). `obs`,
    `thinet`, `merge` and `scaled_merge` go by the layers that read the channels, and change these
    so that they make up for what goes: see `channel_surgery`, `channel_reconstruction` and
    `channel_merging`. Where they have nothing to go by, the score is the L1 norm. The atoms with
    the lowest scores go.
    """

    name: ClassVar[str] = "channel_pruning"
    slot: ClassVar[Slot] = "structure"
    title: ClassVar[str] = "Channel pruning"
    label: ClassVar[str] = "Prune {}"
    advice: ClassVar[str] = (
        "Removes whole channels, so that file, memory and time all shrink. Retrain afterwards; the "
        "score obs loses least without."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "ratio"

    ratio: Annotated[
        float, number("Removed share", "Share of the output channels to remove.", 0.0, 0.95)
    ] = 0.3
    score: Annotated[
        Literal["l1", "l2", "bn_scale", "fpgm", "taylor", "obs", "thinet", "merge", "scaled_merge"],
        words(
            "Score",
            "Norm of the filters (l1, l2), scale of the batch norm that follows, distance from "
            "other filters (fpgm); on data, the change of the loss (taylor) or of the next layer's "
            "outputs (obs, or thinet, where channels may cancel out); what is about equal to "
            "another channel (merge), or to a multiple of it (scaled_merge). The last four adjust "
            "the next layer to what it loses.",
        ),
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

    def needs(self) -> frozenset[Need]:
        """Return what the score asks of the data."""
        if self.score in SURGERY:
            return frozenset({"moments"})
        return frozenset({"gradients"}) if self.score == "taylor" else frozenset()

    def changes_readers(self) -> bool:
        """Say whether the layers that read the channels are adjusted to what they lose."""
        return self.score in (*MERGING, *SURGERY)

    def chosen(
        self,
        network: Network,
        coupling: Coupling,
        found: ChannelSet,
        evidence: Found,
        check: Check = unchecked,
    ) -> IntArray:
        """Return the atoms of a set that go, int64, the least important first.

        Atoms that lie in the same layers in equal numbers are ranked among each other, and the
        ratio holds for each such class, so that no layer loses much more than another. Raises
        UserError where the score needs a batch norm that the network lacks.
        """
        scores = self._by_readers(network, coupling, found, evidence, check)
        if scores is None:
            scores = self._scores(network, coupling, found, evidence)
        widths = atom_widths(coupling, found)
        classes = np.unique(widths, axis=0, return_inverse=True)[1].reshape(-1)
        ranked = [
            members[np.argsort(scores[members], kind="stable")]
            for kind in range(int(classes.max()) + 1)
            for members in [np.flatnonzero(classes == kind)]
        ]
        # How many go must not hang on the data: a prediction has none.
        ties = np.zeros(len(scores)) if self.needs() else scores / widths.sum(1)
        counts = self._counts(ranked, ties)
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

    def _by_readers(
        self,
        network: Network,
        coupling: Coupling,
        found: ChannelSet,
        evidence: Found,
        check: Check,
    ) -> Scores | None:
        if self.score not in (*SURGERY, *MERGING):
            return None
        reading = list(readers(network, coupling, found.atoms))
        if self.score in MERGING:
            scaled = self.score == "scaled_merge"
            return merging_order(network, coupling, found, reading, scaled, check)
        if self.score == "thinet":
            return reconstruction_order(reading, evidence, found.atoms, check)
        count = math.ceil(self.ratio * len(found.atoms)) + len(found.layers)
        return removal_order(reading, evidence, found.atoms, count, check)

    def _scores(
        self, network: Network, coupling: Coupling, found: ChannelSet, evidence: Found
    ) -> Scores:
        totals = np.zeros(int(found.atoms.max()) + 1)
        seen = np.zeros(len(totals), dtype=bool)
        for name, channels in coupling.channels.items():
            inside = np.isin(channels.outputs, found.atoms)
            if not inside.any():
                continue
            gradients = evidence.get(name, {}).get("weight", NOTHING).gradients
            values = self._channel_scores(network.layer(name), name in found.layers, gradients)
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

    def _channel_scores(
        self, layer: nn.Module, produces: bool, gradients: Gradients | None
    ) -> Scores | None:
        if self.score == "bn_scale":
            if isinstance(layer, BatchNorm) and layer.affine:
                return layer.weight.detach().abs().double().cpu().numpy()
            return None
        if not produces:
            return None
        if self.score == "taylor" and gradients is not None and gradients.rows is not None:
            return gradients.rows.double().cpu().numpy()
        if self.score == "fpgm":
            return median_distances(layer)
        return norms(layer, 2 if self.score == "l2" else 1)


def asked(
    network: Network, coupling: Coupling, settings: Mapping[str, ChannelPruning]
) -> dict[str, frozenset[Need]]:
    """Return what these settings want to have measured, by layer."""
    wanted: dict[str, frozenset[Need]] = {}
    for name, setting in settings.items():
        together = coupling.set_of(name)
        if not setting.needs() or together is None:
            continue
        layers = together.layers
        if setting.score in SURGERY:
            layers = tuple(each.name for each in readers(network, coupling, together.atoms))
        for layer in layers or (name,):
            wanted[layer] = wanted.get(layer, frozenset()) | setting.needs()
    return wanted


def compensate(
    network: Network, plan: Plan, settings: Mapping[str, ChannelPruning], evidence: Found
) -> None:
    """Let the layers that stay make up for a plan's channels, where the scores say how, in place.

    `network` has all its channels still.
    """
    coupling, done = plan.coupling, set[int]()
    for name, setting in settings.items():
        together = coupling.set_of(name)
        if setting.score in MERGING and together is not None and id(together) not in done:
            done.add(id(together))
            reading, scaled = readers(network, coupling, together.atoms), setting.score != "merge"
            merge(network, coupling, together, list(reading), scaled, plan.atoms)
    if any(setting.score in SURGERY for setting in settings.values()):
        for reader in readers(network, coupling, plan.atoms):
            moments = reader.measured(evidence)
            if moments is not None:
                make_up(reader, moments, plan.atoms)


def plan(
    network: Network,
    coupling: Coupling,
    settings: Mapping[str, ChannelPruning],
    evidence: Found | None = None,
    check: Check = unchecked,
) -> Plan:
    """Return which channels go when layers get these settings.

    `evidence` is what was measured of what they ask. Layers of one set that have no setting follow.
    At least one channel stays everywhere. Raises UserError where a layer is locked, or where two
    layers of a set have different settings.
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
            chosen.append(setting.chosen(network, coupling, together, evidence or {}, check))
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


def atom_widths(coupling: Coupling, found: ChannelSet) -> IntArray:
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
