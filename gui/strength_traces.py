"""What the engine tells of the selected layers as a strength moves, and the newest question."""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec
from PySide6.QtCore import QObject, Signal

from featherweight.engine.events import AnyEvent, Cancelled, Failed, StrengthTraced, TraceEnded
from featherweight.engine.options import MethodDescription, Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.requests import TraceStrength
from featherweight.engine.results import StrengthTrace
from featherweight.gui.engine_client import EngineClient

Question = tuple[dict[str, Choice], Slot]


class StrengthTraces(QObject):
    """Traces by layer. A curve stays while only its strength moves; another question ends it."""

    changed = Signal()

    def __init__(self, client: EngineClient, parent: QObject) -> None:
        super().__init__(parent)
        self.traces: dict[str, StrengthTrace] = {}
        self.failure = ""
        self._client = client
        self._asked: Question | None = None
        self._curves: dict[str, Choice] = {}
        self._newest = 0
        self._under_way: set[int] = set()

    def ask(
        self, recipe: Recipe, names: Sequence[str], slot: Slot, method: MethodDescription | None
    ) -> None:
        """Ask about layers; the same question is not asked twice in a row.

        `method` is the one that the layers have in the slot, None where they differ.
        """
        question: Question = {name: recipe.choice(name) for name in names}, slot
        if question == self._asked:
            return
        moved = self._asked is not None and self._asked[1] == slot
        curves = {name: _still(choice, slot, method) for name, choice in question[0].items()}
        self.traces = {
            name: msgspec.structs.replace(trace, now=None)
            for name, trace in self.traces.items()
            if moved and name in curves and curves[name] == self._curves.get(name)
        }
        self._asked, self._curves, self.failure = question, curves, ""
        if any(not choice.empty for choice in question[0].values()):
            request = TraceStrength(id=0, recipe=recipe, layers=tuple(names), slot=slot)
            self._newest = self._client.send(request)
            self._under_way.add(self._newest)
        else:
            self._newest = 0
        self.changed.emit()

    def take(self, event: AnyEvent) -> bool:
        """Take an answer; False for any other event."""
        if event.id not in self._under_way:
            return False
        newest = event.id == self._newest
        match event:
            case StrengthTraced(trace=trace):
                if newest:
                    before = self.traces.get(trace.layer)
                    if before is not None and len(before.points) > len(trace.points):
                        trace = msgspec.structs.replace(trace, points=before.points)
                    self.traces[trace.layer] = trace
                    self.changed.emit()
            case TraceEnded():
                self._under_way.discard(event.id)
            case Cancelled():
                self._under_way.discard(event.id)
                if newest:
                    # A measurement of times came in between: the next look asks again.
                    self._asked = None
            case Failed(message=message):
                self._under_way.discard(event.id)
                if newest:
                    self.failure = message
                    self.changed.emit()
        return True

    def forget(self) -> None:
        """Forget everything: another network or task is there, or the engine died."""
        self.traces, self._curves, self._asked, self.failure = {}, {}, None, ""
        self._newest = 0
        self._under_way.clear()


def error_at(trace: StrengthTrace, strength: float | None) -> float | None:
    """Return the error of the present choice: as it was told, else between its neighbours."""
    if trace.now is not None or strength is None or not trace.points:
        return trace.now
    strengths = [point for point, _ in trace.points]
    at = bisect_left(strengths, strength)
    if at in (0, len(strengths)):
        return trace.points[min(at, len(strengths) - 1)][1]
    (low, before), (high, after) = trace.points[at - 1 : at + 1]
    return before + (after - before) * (strength - low) / (high - low)


def _still(choice: Choice, slot: Slot, method: MethodDescription | None) -> Choice:
    """Return a choice without the strength in a slot: what a curve depends on."""
    setting = choice.setting(slot)
    if setting is None or method is None:
        return choice
    options = {key: value for key, value in setting.options.items() if key != method.strength}
    return choice.replaced(slot, Setting(setting.method, options))
