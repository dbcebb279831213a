"""The best use of a budget: its frontier, the newest allocation, and what is asked for next."""

from collections.abc import Callable
from typing import NamedTuple

from PySide6.QtCore import QObject, Signal

from featherweight.engine.events import Allocated, AnyEvent, Failed, FrontierTraced, LossPredicted
from featherweight.engine.readings import (
    Allocation,
    AllocationRules,
    Frontier,
    Guilt,
    Limits,
    RecipeLoss,
    Resource,
)
from featherweight.engine.recipe import Recipe
from featherweight.engine.requests import Allocate, AnyRequest, PredictLoss, TraceFrontier
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.questions import NewestQuestion


class Wish(NamedTuple):
    """What was asked of an allocation; wishes with the same `step` are undone together."""

    limits: Limits
    least: Resource
    step: int


class Allocations(QObject):
    """At most one question of each kind is under way, and only the newest of those that wait.

    `rules` returns what allocations must leave alone just now. `frontier` is of `resource`; where
    there is none, `trouble` says why. `allocation` is the newest one that was told of, `wish` what
    it was asked for with, and `refusal` why the newest wish cannot be had. `loss` is what `recipe`
    is predicted to lose, None while that is not known. `guilty` are the layers of a recipe that
    lose more than was predicted, None until they were asked for.
    """

    changed = Signal()
    allocated = Signal(object, int)  # Allocation, the step that it belongs to

    def __init__(
        self,
        client: EngineClient,
        rules: Callable[[], AllocationRules],
        recipe: Callable[[], Recipe],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.resource: Resource = "bits"
        self.frontier: Frontier | None = None
        self.trouble = ""
        self.allocation: Allocation | None = None
        self.wish: Wish | None = None
        self.refusal = ""
        self.guilty: tuple[Guilt, ...] | None = None
        self._client = client
        self._rules, self._recipe = rules, recipe
        self.loss: RecipeLoss | None = None
        self._asked_loss: Recipe | None = None
        self._asked: tuple[Resource, AllocationRules] | None = None
        self._step = 0
        self._tracing = NewestQuestion(client.send)
        self._allocating = NewestQuestion(self._send_wish)
        self._losing = NewestQuestion(client.send)
        self._sent_step = 0

    @property
    def tracing(self) -> bool:
        """Whether a frontier is awaited."""
        return self._tracing.pending

    @property
    def awaited(self) -> bool:
        """Whether an allocation is awaited."""
        return self._allocating.pending

    def measure_by(self, resource: Resource) -> None:
        """Let budgets be of another resource."""
        if resource != self.resource:
            self.resource = resource
            self.frontier, self.trouble = None, ""
            self.changed.emit()

    def spoil(self) -> None:
        """Note that readings changed; the next look asks for another frontier."""
        self._asked = self._asked_loss = None
        self.changed.emit()

    def look(self) -> None:
        """Ask for frontier and loss where readings, rules or recipe are others than before."""
        asked = self.resource, self._rules()
        if asked != self._asked:
            self._asked = asked
            self._tracing.ask(TraceFrontier(id=0, resource=asked[0], rules=asked[1]))
        recipe = self._recipe()
        if recipe != self._asked_loss:
            self._asked_loss, self.loss = recipe, None
            self._losing.ask(PredictLoss(id=0, recipe=recipe))

    def begin_step(self) -> None:
        """Let what is asked from now on be undone apart from what was asked before."""
        self._step += 1

    def ask(self, limits: Limits, least: Resource = "bits") -> None:
        """Ask for the best choices within limits; only the newest question is answered."""
        self.wish = Wish(limits, least, self._step)
        self.refusal, self.guilty = "", None
        self._allocating.ask(Allocate(id=0, limits=limits, rules=self._rules(), least=least))
        self.changed.emit()

    def take(self, event: AnyEvent) -> bool:
        """Take an answer; False for any other event."""
        step = self._sent_step
        if self._allocating.answered(event.id):
            self._take_allocation(event, step)
            return True
        if self._tracing.answered(event.id):
            self._take_frontier(event)
            return True
        if self._losing.answered(event.id):
            if not self._losing.pending:
                self.loss = event.loss if isinstance(event, LossPredicted) else None
                self.changed.emit()
            return True
        return False

    def take_refined(self, allocation: Allocation) -> None:
        """Take an allocation that a job corrected; it is a step of its own."""
        self.begin_step()
        self.allocation, self.guilty = allocation, None
        self.allocated.emit(allocation, self._step)
        self.begin_step()
        self.changed.emit()

    def take_guilty(self, layers: tuple[Guilt, ...]) -> None:
        """Take the layers that lose more than was predicted."""
        self.guilty = layers
        self.changed.emit()

    def forget(self) -> None:
        """Forget everything: another network or task is there."""
        self.frontier = self.allocation = self.wish = self.guilty = self.loss = None
        self.trouble = self.refusal = ""
        self.lose_engine()

    def lose_engine(self) -> None:
        """Await no answer any more."""
        self._tracing.forget()
        self._allocating.forget()
        self._losing.forget()
        self.spoil()

    def _send_wish(self, request: AnyRequest) -> int:
        self._sent_step = self.wish.step if self.wish else 0
        return self._client.send(request)

    def _take_allocation(self, event: AnyEvent, step: int) -> None:
        match event:
            case Allocated(allocation=allocation):
                self.allocation = allocation
                self.allocated.emit(allocation, step)
            case Failed(message=message, hint=hint) if not self._allocating.pending:
                self.refusal = f"{message} {hint}".rstrip()
        self.changed.emit()

    def _take_frontier(self, event: AnyEvent) -> None:
        match event:
            case FrontierTraced(frontier=frontier) if frontier.resource == self.resource:
                self.frontier, self.trouble = frontier, ""
            case Failed(message=message, hint=hint) if not self._tracing.pending:
                self.frontier, self.trouble = None, f"{message} {hint}".rstrip()
        self.changed.emit()
