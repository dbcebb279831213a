"""Features of the last hidden layer, compared with a teacher's though they are of another size.

Through a linear map: Luo et al.: Face Model Compression by Distilling Knowledge from Neurons
(2016). By how samples lie to each other: Park et al.: Relational Knowledge Distillation (2019).
They are what goes into the last layer, the mean over positions; for relations of a network that
gives an embedding, one vector a sample without labels, that vector.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from featherweight.engine.datasets.samples import shuffled
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check
from featherweight.engine.network import Network
from featherweight.engine.recovering.catching import Caught, caught_input, caught_result, let_go
from featherweight.engine.recovering.distilling import Teacher
from featherweight.engine.recovering.losses import relation_loss, relative_error
from featherweight.engine.task import Task, evaluating

SAMPLES = 2048
MOST_FEATURES = 4096
# With less, features that hardly vary count, and learning to please the map hinders all else.
RIDGE = 0.1
MAP = "representation"
OWN, TAUGHT = "own", "taught"


class Features:
    """The features of a network and of its teacher in the last batch of both, (N, D) each."""

    def __init__(self, network: Network, teacher: Teacher, of_outputs: bool) -> None:
        """Find the last layers. Raises UserError where nothing comes before them."""
        self.network, self.teacher = network, teacher
        self._caught: Caught = {}
        if of_outputs:
            self._channels_second = False, False
            self._handles = [
                caught_result(network.module, self._caught, OWN),
                caught_result(teacher.network.module, self._caught, TAUGHT),
            ]
        else:
            source, own = _last_layer(network, teacher.task)
            theirs = _last_of(teacher.network)
            self._channels_second = _channels_second(source), _channels_second(theirs)
            self._handles = [
                caught_input(own, self._caught, OWN),
                caught_input(theirs, self._caught, TAUGHT),
            ]
        example = teacher.task.reference.example
        with evaluating(network) as own_run, evaluating(teacher.network) as taught_run:
            own_run(*example)
            taught_run(*example)
        if len(self._caught) < 2:
            self.close()
            raise _nothing_hidden()

    @property
    def own(self) -> Tensor:
        """The network's."""
        return _pooled(self._caught[OWN], self._channels_second[0])

    @property
    def taught(self) -> Tensor:
        """The teacher's."""
        return _pooled(self._caught[TAUGHT], self._channels_second[1])

    def close(self) -> None:
        """Let go of the layers."""
        let_go(self._handles)


class Representations:
    """Features compared through the linear map from the network's that is nearest to the teacher's.

    The map M = Z_t Z_sᵀ (Z_s Z_sᵀ + εI)⁻¹ is found before every epoch from the features Z_s of the
    network and Z_t of its teacher, for up to 2048 recovery samples.
    """

    def __init__(self, features: Features) -> None:
        """Check that the map fits into memory. Raises UserError where it does not."""
        self._features = features
        self._map: Tensor | None = None
        widest = max(features.own.shape[1], features.taught.shape[1])
        if widest > MOST_FEATURES:
            features.close()
            raise UserError(
                f"The last hidden layer has {widest} features, more than the {MOST_FEATURES} that "
                "a linear map is found of.",
                "Set hidden to outputs or relations.",
            )

    def renew(self, check: Check) -> dict[str, Tensor]:
        """Find the map again; return what a checkpoint has to keep. Raises CancelledError."""
        features, task = self._features, self._features.teacher.task
        order = shuffled(len(task.recovery), 0)
        squares, products = torch.zeros(()).double(), torch.zeros(()).double()
        with evaluating(features.network) as run:
            for places in task.ranges(min(SAMPLES, len(order))):
                check()
                inputs, _ = task.recovery.batch([order[place] for place in places])
                task.outputs_of(run, inputs)
                features.teacher.outputs(inputs)
                own, taught = (
                    each[: len(places)].double() for each in (features.own, features.taught)
                )
                squares, products = squares + own.T @ own, products + own.T @ taught
        squares.diagonal().add_(RIDGE * squares.diagonal().mean() + 1e-12)
        self._map = torch.linalg.solve(squares, products).T.float().contiguous()
        return {MAP: self._map}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the map of a checkpoint."""
        self._map = tensors.get(MAP)

    def loss(self) -> Tensor:
        """Return the squared error of the mapped features relative to the teacher's power."""
        if self._map is None:
            raise ValueError("the map was not found yet")
        own, taught = self._features.own, self._features.taught
        return relative_error(own @ self._map.T.to(own.device), taught)

    def close(self) -> None:
        """Let go of the layers."""
        self._features.close()


class Relations:
    """Features compared by how the samples of a batch lie to each other."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def renew(self, check: Check) -> dict[str, Tensor]:  # noqa: ARG002
        """Do nothing."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Do nothing."""

    def loss(self) -> Tensor:
        """Return the difference of distances and angles."""
        return relation_loss(self._features.own, self._features.taught)

    def close(self) -> None:
        """Let go of the layers."""
        self._features.close()


def representations_between(network: Network, teacher: Teacher) -> Representations:
    """Return the last hidden layers through a map. Raises UserError where there are none."""
    return Representations(Features(network, teacher, of_outputs=False))


def relations_between(network: Network, teacher: Teacher, samples: int) -> Relations:
    """Return the relations of so many samples a step. Raises UserError where there are none."""
    if samples < 2:
        raise UserError(
            "Relations are between samples, and a step of this training takes one.",
            "Raise the batch size, or set hidden to representation.",
        )
    return Relations(Features(network, teacher, of_outputs=_embeds(teacher.task)))


def _embeds(task: Task) -> bool:
    with evaluating(task.reference) as run:
        output = run(*task.reference.example)[0]
    return task.kind == "fidelity" and output.ndim == 2 and output.shape[1] > 1


def _last_layer(network: Network, task: Task) -> tuple[nn.Module, nn.Module]:
    """Return the last layer of the network's source, and what stands in its place."""
    last = _last_of(task.reference)
    name = [name for name, parts in network.parts.items() if parts][-1]
    return last, network.layer(network.parts[name][0])


def _last_of(network: Network) -> nn.Module:
    layers = list(network.layers())
    if len(layers) < 2:
        raise _nothing_hidden()
    return layers[-1][1]


def _nothing_hidden() -> UserError:
    return UserError(
        "The network or its teacher has no hidden layer that could be compared.",
        "Set hidden to none.",
    )


def _channels_second(layer: nn.Module) -> bool:
    # Convolutions of every kind have one; all other layers take features last.
    return hasattr(layer, "kernel_size") or isinstance(layer, _NormBase | nn.GroupNorm)


def _pooled(features: Tensor, channels_second: bool) -> Tensor:
    """Return the mean over positions: (N, D) float32."""
    # In a training in bfloat16 they are that.
    wide = features.float()
    if wide.ndim < 2:
        return wide.reshape(len(wide), -1)
    moved = wide.movedim(1, -1) if channels_second else wide
    return moved.flatten(1, -2).mean(1) if moved.ndim > 2 else moved
