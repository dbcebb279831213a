"""What is known of every layer with every choice tried on it alone, and what is planned next."""

from collections.abc import Callable, Iterable

from PySide6.QtCore import QObject, QTimer, Signal

from featherweight.engine.events import AnyEvent, Failed, SweepPlanned
from featherweight.engine.options import SLOTS, Scalar
from featherweight.engine.readings import DamageOf, Reading, SweepEstimate, SweepPlan, SweepSummary
from featherweight.engine.recipe import Choice
from featherweight.engine.requests import PlanSweep
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.questions import NewestQuestion

# Readings that come in together are told of together.
TOLD_MS = 150

SettingKey = tuple[str, str, tuple[tuple[str, Scalar], ...]]
ChoiceKey = tuple[SettingKey, ...]


class AtlasReadings(QObject):
    """Readings by layer and choice; a reading of coupled layers is there for each of them.

    `store` returns the folder of what was read before, empty where there is none yet.

    `plan` is what a sweep would read next, `estimate` what that would take (both None until asked
    for); `failure` says why it is not known. `summary` is of the last sweep that came to its end.
    `damage` and `metric` say what readings are of, once a plan was answered. `revisions` grow where
    a layer has other readings.
    """

    changed = Signal()
    planned = Signal()

    def __init__(self, client: EngineClient, store: Callable[[], str], parent: QObject) -> None:
        super().__init__(parent)
        self.plan: SweepPlan | None = None
        self.estimate: SweepEstimate | None = None
        self.failure = ""
        self.summary: SweepSummary | None = None
        self.damage: DamageOf | None = None
        self.metric = ""
        self.readings: dict[str, dict[ChoiceKey, Reading]] = {}
        self.choices: dict[ChoiceKey, Choice] = {}
        self.revisions: dict[str, int] = {}
        self._revision = 0
        self._store = store
        self._planning = NewestQuestion(client.send)
        self._tell = QTimer(self, singleShot=True, interval=TOLD_MS)
        self._tell.timeout.connect(self.changed)

    def ask(self, plan: SweepPlan | None) -> None:
        """Plan this next, None for what is sensible, and ask what it would take; see `planned`."""
        self.plan, self.estimate, self.failure = plan, None, ""
        self._planning.ask(PlanSweep(id=0, plan=plan, store=self._store()))
        self.planned.emit()

    @property
    def asking(self) -> bool:
        """Whether an estimate is awaited."""
        return self._planning.pending

    def take(self, event: AnyEvent) -> bool:
        """Take an answer about a plan; False for any other event."""
        if not self._planning.answered(event.id):
            return False
        if not self._planning.pending:
            match event:
                case SweepPlanned(plan=plan, estimate=estimate):
                    self.plan, self.estimate = plan, estimate
                    self._name(estimate.damage, estimate.metric)
                case Failed(message=message, hint=hint):
                    self.failure = f"{message} {hint}".rstrip()
            self.planned.emit()
        return True

    def add(self, readings: Iterable[Reading]) -> None:
        """Take readings; each takes the place of an earlier one of the same layers and choice."""
        self._revision += 1
        for reading in readings:
            key = key_of(reading.choice)
            self.choices.setdefault(key, reading.choice)
            for name in reading.layers:
                self.readings.setdefault(name, {})[key] = reading
                self.revisions[name] = self._revision
        if not self._tell.isActive():
            self._tell.start()

    def end(self, summary: SweepSummary | None) -> None:
        """Note that a sweep came to its end, or was stopped (None), and ask what is missing now."""
        self.summary = summary or self.summary
        self._tell.start()
        self.ask(self.plan)

    def _name(self, damage: DamageOf, metric: str) -> None:
        if (damage, metric) != (self.damage, self.metric):
            self.damage, self.metric = damage, metric
            self._tell.start()

    def forget(self) -> None:
        """Forget everything: another network or task is there."""
        self.plan = self.estimate = self.summary = self.damage = None
        self.readings, self.choices, self.revisions, self.failure = {}, {}, {}, ""
        self.metric = ""
        self._planning.forget()
        self._tell.stop()
        self.changed.emit()
        self.planned.emit()

    def lose_engine(self) -> None:
        """Await no answer any more; what was read stays."""
        self._planning.forget()
        self.planned.emit()


def key_of(choice: Choice) -> ChoiceKey:
    """Return a choice as something that dictionaries can look up."""
    settings = [(slot, choice.setting(slot)) for slot in SLOTS]
    return tuple(
        (slot, setting.method, tuple(sorted(setting.options.items())))
        for slot, setting in settings
        if setting is not None
    )
