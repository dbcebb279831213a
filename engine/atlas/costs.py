"""What changes cost: by how many parameters, MACs and bits the whole network gets larger.

A layer that changes in its place is counted alone, which is as exact and many times as fast.
"""

from torch import nn

from featherweight.engine.atlas.changes import Change, Changes
from featherweight.engine.inspecting.calls import run_of
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.lone_layer import NAME, alone
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.prediction import Predictor
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Cost, Prediction

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class ChangeCosts:
    """Predicts changes of one network, whose `predictor` counts what concerns several layers."""

    def __init__(self, changes: Changes, predictor: Predictor) -> None:
        self._changes, self._whole = changes, predictor
        self._calls = run_of(changes.network.shell()).calls
        self._alone: dict[str, Predictor] = {}

    def added(self, change: Change, check: Check = unchecked) -> Cost:
        """Return after less before. Raises UserError where a change cannot be, CancelledError."""
        chosen = self._changes.chosen(change, check)
        name = change.layers[0]
        methods = chosen[name]
        shared = methods.precision is not None and methods.precision.equalizes()
        if isinstance(methods.structure, ChannelPruning) or shared or not self._stands_alone(name):
            return _difference(self._whole.predict(change.recipe, chosen))
        recipe = Recipe(layers={NAME: change.choice})
        return _difference(self._predictor(name).predict(recipe, {NAME: methods}))

    def _stands_alone(self, name: str) -> bool:
        """Say whether a layer sees one input, once, samples first."""
        network, calls = self._changes.network, self._calls.get(name)
        if calls is None or calls.count != 1 or not network.example[0].ndim:
            return False
        first = calls.input_shape[:1] == network.example[0].shape[:1]
        return first and type(network.layer(name)) in PLAIN

    def _predictor(self, name: str) -> Predictor:
        if name not in self._alone:
            layer, shape = self._changes.network.layer(name), self._calls[name].input_shape
            network = alone(layer, shape).shell()
            self._alone[name] = Predictor(network, analyse(network))
        return self._alone[name]


def _difference(prediction: Prediction) -> Cost:
    after, before = prediction.after, prediction.before
    return Cost(
        parameters=after.parameters - before.parameters,
        macs=after.macs - before.macs,
        bits=after.bits - before.bits,
    )
