"""A student that begins with its teacher's weights, cut to its size where the teacher is wider.

Channels that a layer of the student lacks are those of the teacher's with the smallest filters, and
go from all layers that share them at once, so that what is left still works together.
"""

import torch

from featherweight.engine.channel_removal import remove_channels
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Network
from featherweight.engine.recovering.distilling import teacher_of
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import densified


def started(network: Network, task: Task, recovery: FineTuning | None) -> Network:
    """Return the network to compress: itself, or a copy with the weights of the teacher's file.

    Layers take them that have one of the same name and kind whose tensors, once channels are cut,
    have the same shapes. Raises UserError where there is none, or the teacher does not fit.
    """
    if recovery is None or not recovery.starts_from_teacher:
        return network
    teacher = densified(teacher_of(task, recovery).network)
    _cut(teacher, network)
    theirs, made, taken = dict(teacher.layers()), network.copy(), 0
    for name, layer in made.layers():
        other = theirs.get(name)
        if other is None or type(other) is not type(layer):
            continue
        own, given = layer.state_dict(), other.state_dict()
        if {key: (value.shape, value.dtype) for key, value in own.items()} == {
            key: (value.shape, value.dtype) for key, value in given.items()
        }:
            with torch.no_grad():
                layer.load_state_dict(given)
            taken += 1
    if not taken:
        raise UserError(
            f"No layer of the network has the name and the shape of one of {recovery.teacher}.",
            "Set start to own, or name a teacher of the same family.",
        )
    return made


def _cut(teacher: Network, student: Network) -> None:
    """Remove the channels of a teacher that a student's layers of the same names lack, in place."""
    theirs, ours = analyse(teacher), analyse(student).channels
    settings = {}
    for together in theirs.sets:
        for name in filter(ours.__contains__, together.layers):
            wide, narrow = len(theirs.channels[name].outputs), len(ours[name].outputs)
            if narrow < wide:
                settings[name] = ChannelPruning(ratio=1 - narrow / wide)
                break
    if settings:
        remove_channels(teacher, plan(teacher, theirs, settings))
