"""The document: the one place where views meet. Intents go in, signals come out."""

from pathlib import Path

import msgspec
from PySide6.QtCore import QObject

from featherweight.engine.errors import UserError
from featherweight.engine.events import (
    AnyEvent,
    Described,
    Failed,
    LatencyMeasured,
    Opened,
    Predicted,
    Ready,
    SensitivityEstimated,
    Source,
    TaskSource,
    TaskSummary,
    TrustNeeded,
)
from featherweight.engine.layer import Layer, LayerDetails, NetworkSummary
from featherweight.engine.options import Slot
from featherweight.engine.recipe import Recipe
from featherweight.engine.requests import DescribeLayer, MeasureLatency, Predict
from featherweight.engine.results import Prediction, Result
from featherweight.gui.allocation_intents import AllocationIntents
from featherweight.gui.atlas_readings import AtlasReadings
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.holds import Holds
from featherweight.gui.keeper import Keeper
from featherweight.gui.layer_latency import with_latency
from featherweight.gui.layer_sensitivity import with_sensitivity
from featherweight.gui.opening import NO_DATA, Attempt, Opening, project_attempt
from featherweight.gui.project_file import Project, lost_choices, results_folder
from featherweight.gui.questions import NewestQuestion
from featherweight.gui.strength_traces import StrengthTraces
from featherweight.gui.trust_memory import TrustMemory
from featherweight.resources.demo.sources import demo_source, demo_task

# Of more selected layers the first tell of all.
MOST_TRACED = 64


class Document(AllocationIntents):
    """One network with its task, recipe and results, and what the engine said of them.

    Views read the attributes, connect to the signals, and change things only by the methods.
    """

    def __init__(self, client: EngineClient, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(client, parent)
        self.source: Source | None = None
        self.layers: dict[str, Layer] = {}
        self.prediction: Prediction | None = None
        self.selection: tuple[str, ...] = ()
        self.latency: LatencyMeasured | None = None
        self.sensitivity: SensitivityEstimated | None = None
        self.details: dict[str, LayerDetails] = {}
        self._client, self._folder = client, folder
        self._opening = Opening(client, TrustMemory(folder / "trusted.yaml"), self)
        self._keeper = Keeper(folder / "projects", self._as_project, self)
        self._predicting = NewestQuestion(client.send)
        self._describing = NewestQuestion(client.send)
        self.strengths = StrengthTraces(client, self)
        self.atlas = AtlasReadings(client, lambda: str(self.atlas_folder), self)
        self._connect()

    def _connect(self) -> None:
        opening, runs, keeper = self._opening, self._runs, self._keeper
        self._editor.changed.connect(self._on_recipe_changed)
        self._editor.noticed.connect(lambda *said: self._object("recipe", *said))
        opening.opened.connect(self._on_opened)
        opening.task_read.connect(self._on_task_read)
        opening.trust_needed.connect(self.trust_needed)
        opening.failed.connect(self.open_failed)
        opening.missing.connect(self.network_missing)
        opening.noticed.connect(lambda *said: self._object("data", *said))
        opening.busy_changed.connect(self.busy_changed)
        runs.changed.connect(self.job_changed)
        runs.touched.connect(keeper.touch)
        runs.point_added.connect(self.point_added)
        runs.compressed.connect(lambda result: self.set_results((*self.results, result)))
        runs.exported.connect(self.exported)
        runs.estimated.connect(self._on_estimated)
        runs.read.connect(self.atlas.add)
        runs.swept.connect(self.atlas.end)
        runs.swept.connect(lambda: self.allocations.spoil())
        runs.noticed.connect(self.noticed)
        self.strengths.changed.connect(self.strength_changed)
        self.atlas.changed.connect(self.allocations.spoil)
        self.holds_changed.connect(keeper.touch)
        keeper.changed.connect(self.path_changed)
        keeper.failed.connect(lambda sentence, hint: self.noticed.emit(sentence, hint, ""))
        self._client.received.connect(self.receive)
        self._client.died.connect(self._on_died)

    @property
    def busy(self) -> str:
        """What is being read just now, empty for nothing."""
        return self._opening.busy

    def open(self, source: Source, task: TaskSource = NO_DATA) -> None:
        """Open a network, and then its task; without one, fidelity to the original."""
        self._open(Attempt(source=source, task=task))

    def open_demo(self) -> None:
        """Open the network and the images that come with the installation."""
        self.open(demo_source(), demo_task())

    def open_project(self, path: Path, network: Path | None = None) -> None:
        """Open a project file as it was left. Code it wants is asked for unless known here.

        Its network is read from where it lay, from beside the project, or from `network`.
        """
        if not self._free_to_open():
            return
        try:
            attempt = project_attempt(path, network)
            self._keeper.claim(path)
        except UserError as error:
            self.noticed.emit(error.message, error.hint, "")
            return
        self._open(attempt)

    def allow(self, needed: TrustNeeded) -> None:
        """Answer `trust_needed`: ask again with these modules trusted, and remember it."""
        self._opening.allow(needed)

    def refuse(self, needed: TrustNeeded) -> None:
        """Answer `trust_needed`: leave everything as it is."""
        self._opening.refuse(needed)

    def set_task(self, task: TaskSource) -> None:
        """Read the data that tells how good the network is."""
        if not self.busy:
            self._opening.set_task(task)

    def select(self, names: tuple[str, ...]) -> None:
        """Select layers, in this order."""
        names = tuple(name for name in names if name in self.layers)
        if names != self.selection:
            self.selection = names
            self.selection_changed.emit()

    def set_results(self, results: tuple[Result, ...]) -> None:
        """Keep these results from now on: one more, one less, or one under another name."""
        self.results = results
        self.results_changed.emit()
        self._keeper.touch()

    def measure_latency(self) -> None:
        """Time every layer; answered by `latency_changed`."""
        if self.network is not None:
            self._client.send(MeasureLatency(id=0))

    def trace_strength(self, slot: Slot) -> None:
        """Ask how far off the selected layers are, as the strength in a slot moves.

        Answered by `strength_changed`, again and again; see `strengths`.
        """
        settings = [self.setting(name, slot) for name in self.selection]
        names = {setting.method for setting in settings if setting is not None}
        method = self.method(names.pop()) if len(names) == 1 else None
        self.strengths.ask(self.recipe, self.selection[:MOST_TRACED], slot, method)

    def request_details(self, layer: str) -> None:
        """Compute what the details of one layer show; answered by `details_changed`."""
        if layer in self.details:
            self.details_changed.emit(layer)
        elif layer in self.layers:
            self._describing.ask(DescribeLayer(id=0, layer=layer))

    @property
    def path(self) -> Path | None:
        """Where the project is kept; None until there is something to keep."""
        return self._keeper.path

    @property
    def name(self) -> str:
        """What to call the document."""
        if self._keeper.titled and self.path is not None:
            return self.path.stem
        return Path(self.source.path).name if self.source else ""

    @property
    def unsaved(self) -> bool:
        """Whether a change has not reached the disk yet."""
        return self._keeper.unsaved

    @property
    def results_folder(self) -> Path:
        """The folder of archives and checkpoints."""
        return results_folder(self._keeper.placed(Path(self.name).stem))

    @property
    def atlas_folder(self) -> Path:
        """The folder of what sweeps read, of all projects: readings go by network and data."""
        return self._folder / "atlas"

    def save(self) -> None:
        """Write the project file now where something changed."""
        self._keeper.save()

    def save_as(self, path: Path) -> None:
        """Keep the project, results included, under another path from now on."""
        if self._runs.active:
            self.noticed.emit("A run writes to this project; save as another later.", "", "")
        else:
            self._keeper.move(path)

    def close(self) -> None:
        """Keep everything; a run that is under way can be resumed when the project is opened."""
        self._runs.lose_engine()
        self._keeper.save()
        self._keeper.release()
        # A dying QUndoStack tells of a last step, to whoever may be gone by then.
        self.undo_stack.blockSignals(True)

    def receive(self, event: AnyEvent) -> None:
        """Take an event of the engine."""
        asked = (self.strengths, self.atlas, self.allocations, self.flips)
        takers = (self._opening, self._runs, *asked)
        if any(taker.take(event) for taker in takers):
            return
        predicted = self._predicting.answered(event.id)
        self._describing.answered(event.id)
        match event:
            case Ready(methods=methods):
                self._editor.methods = methods
                self.methods_changed.emit()
            case Opened(network=network) if self.network is None:
                self._on_opened(Attempt(source=Source(path=network.path)), network)
            case Predicted(prediction=prediction) if predicted or not event.id:
                self.prediction = prediction
                self.prediction_changed.emit()
            case Described(details=details):
                self.details[details.name] = details
                self.details_changed.emit(details.name)
            case LatencyMeasured() if self.network is not None:
                self.layers = layers = with_latency(self.layers, event)
                self.network = msgspec.structs.replace(self.network, layers=(*layers.values(),))
                self.latency = event
                self.latency_changed.emit()
            case Failed(message=message, hint=hint, details=more):
                if predicted:
                    self.prediction = None
                    self.prediction_changed.emit()
                self._object("recipe" if predicted else "question", message, hint, more)

    def _free_to_open(self) -> bool:
        sentence = f"{self.busy} is not done yet." if self.busy else ""
        if self._runs.active:
            sentence = "A run is going; cancel it before you open another network."
        if sentence:
            self.noticed.emit(sentence, "", "")
        return not sentence

    def _open(self, attempt: Attempt) -> None:
        if self._free_to_open():
            self._opening.open(attempt)

    def _on_opened(self, attempt: Attempt, network: NetworkSummary) -> None:
        project = attempt.project
        self._keeper.save()
        self.source, self.network = attempt.source, network
        self.layers = {layer.name: layer for layer in network.layers}
        self.task = self.prediction = self.latency = self.sensitivity = None
        self.selection, self.details = (), {}
        self.results = project.results if project else ()
        self._task_source = attempt.task
        self._predicting.forget()
        self._describing.forget()
        self.strengths.forget()
        self.atlas.forget()
        self.allocations.forget()
        self.flips.forget()
        self.holds = project.holds.among(self.layers) if project else Holds()
        self._editor.begin(self.layers, project.recipe if project else Recipe())
        self._runs.begin(project.unfinished if project else None)
        self._keeper.begin(attempt.path)
        self._predicting.ask(Predict(id=0, recipe=self.recipe))
        self.network_changed.emit()
        self.recipe_changed.emit()
        self.selection_changed.emit()
        self.prediction_changed.emit()
        self.results_changed.emit()
        self.task_changed.emit()
        self.job_changed.emit()
        if project is not None and self.source.path != project.source.path:
            self._keeper.touch()
        if project is not None and (lost := lost_choices(project, self.layers)):
            self.noticed.emit(*lost)

    def _on_task_read(self, task: TaskSummary) -> None:
        if task != self.task:
            self.atlas.forget()
            self.allocations.forget()
            self.flips.forget()
        elif self.atlas.plan is not None:
            # The engine died: the new one has the task again.
            self.atlas.ask(self.atlas.plan)
        self.task = task
        self.strengths.forget()
        self._settle("data")
        self._on_estimated(None)
        self.task_changed.emit()
        if task.source != self._task_source:
            self._task_source = task.source
            self._keeper.touch()

    def _on_estimated(self, told: SensitivityEstimated | None) -> None:
        if self.network is not None and told is not self.sensitivity:
            self.sensitivity = told
            self.layers = layers = with_sensitivity(self.layers, told)
            self.network = msgspec.structs.replace(self.network, layers=(*layers.values(),))
            self.sensitivity_changed.emit()

    def _on_recipe_changed(self) -> None:
        self._settle("recipe")
        self.recipe_changed.emit()
        self._predicting.ask(Predict(id=0, recipe=self.recipe))
        self._keeper.touch()

    def _on_died(self, sentence: str, hint: str, log: str) -> None:
        self._predicting.forget()
        self._describing.forget()
        self.strengths.forget()
        self.atlas.lose_engine()
        self.allocations.lose_engine()
        self.flips.lose_engine()
        again = self._opening.lose_engine()
        self._runs.lose_engine()
        self.noticed.emit(sentence, f"{hint} {again}".rstrip(), log)
        if self.network is not None:
            self._predicting.ask(Predict(id=0, recipe=self.recipe))

    def _as_project(self) -> Project | None:
        recipe = self.recipe
        held = None if self.holds.empty else self.holds
        kept = recipe != Recipe() or held or self.results or self.unfinished
        if self.source is None or not (kept or self.path):
            return None
        return Project(
            name=Path(self.name).stem,
            source=self.source,
            task=self._task_source,
            recipe=recipe,
            holds=self.holds,
            unfinished=self.unfinished,
            results=self.results,
        )
