"""The document: the one place where views meet. Intents go in, signals come out."""

from pathlib import Path

import msgspec
from featherweight.engine.errors import UserError
from featherweight.engine.events import (
    Compress,
    DescribeLayer,
    ExportResult,
    LatencyMeasured,
    MeasureLatency,
    OpenNetwork,
    Predict,
    SetTask,
    Source,
    TaskSource,
    TaskSummary,
    TrustNeeded,
)
from featherweight.engine.layer import Layer, LayerDetails, NetworkSummary
from featherweight.engine.options import MethodDescription, Slot
from featherweight.engine.recipe import FineTuning, Recipe, Setting, read_recipe, recipe_to_yaml
from featherweight.engine.results import Prediction, Result
from featherweight.gui.commands import Change, RecipeCommand, with_setting, without_choices
from featherweight.gui.demo import demo_source, demo_task
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.job import Job
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QUndoStack


class Document(QObject):
    """One network with its task, recipe and results, and what the engine said of them.

    Views read the attributes, connect to the signals, and change things only by the methods.
    """

    network_changed = Signal()  # another network, or none
    methods_changed = Signal()  # the engine is warm and said what it can do
    engine_changed = Signal()  # it started, died, or what it is busy with (`busy`) changed
    task_changed = Signal()
    recipe_changed = Signal()
    prediction_changed = Signal()
    selection_changed = Signal()
    results_changed = Signal()
    job_changed = Signal()  # state, progress or another job; see `job`
    point_added = Signal(str, int, float)  # series, step, value; also kept in job.points
    latency_changed = Signal()  # layers now carry latency and share
    details_changed = Signal(str)  # layer whose details are in `details`
    exported = Signal(object)  # engine.results.Export
    noticed = Signal(str, str, str)  # one sentence, hint, details for a log
    trust_needed = Signal(object)  # engine.events.TrustNeeded; answer with allow or refuse
    open_failed = Signal(object, str, str, str)  # Source, sentence, hint, details
    path_changed = Signal()  # `path`, or whether there is something unsaved

    def __init__(self, client: EngineClient, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.network: NetworkSummary | None = None
        self.layers: dict[str, Layer] = {}
        self.methods: tuple[MethodDescription, ...] = ()
        self.task: TaskSummary | None = None
        self.recipe = Recipe()
        self.prediction: Prediction | None = None
        self.selection: tuple[str, ...] = ()
        self.results: tuple[Result, ...] = ()
        self.job: Job | None = None
        self.latency: LatencyMeasured | None = None
        self.details: dict[str, LayerDetails] = {}
        self.path: Path | None = None
        self.busy = ""
        self.undo_stack = QUndoStack(self)

    # Opening.
    def open(self, source: Source, task: TaskSource | None = None) -> None:
        """Open a network, and then its task; without one, fidelity to the original."""

    def open_demo(self) -> None:
        """Open the network and the images that come with the installation."""

    def open_project(self, path: Path) -> None:
        """Open a project file as it was left."""

    def allow(self, needed: TrustNeeded) -> None:
        """Answer `trust_needed`: open again with these modules trusted."""

    def refuse(self, needed: TrustNeeded) -> None:
        """Answer `trust_needed`: leave everything as it is."""

    def set_task(self, task: TaskSource) -> None:
        """Read the data that tells how good the network is."""

    # Choosing.
    def select(self, names: tuple[str, ...]) -> None:
        """Select layers, in this order."""

    def set_choice(self, names: tuple[str, ...], slot: Slot, setting: Setting | None) -> None:
        """Give the layers a method in one slot (None clears it), as one step that can be undone.

        Moves of the same control that follow each other are one step. Layers that cannot take the
        method are left out and noticed; coupled layers follow channel pruning.
        """

    def clear_choices(self, names: tuple[str, ...] = ()) -> None:
        """Clear all slots of the named layers, of every layer where none is named."""

    def set_recovery(self, recovery: FineTuning | None) -> None:
        """Choose how the network is trained after compression, as one step that can be undone."""

    def load_recipe(self, path: Path) -> None:
        """Take over a recipe file, as one step that can be undone."""

    def save_recipe(self, path: Path) -> None:
        """Write the recipe so that the command line can run it."""

    def setting(self, layer: str, slot: Slot) -> Setting | None:
        """Return what a layer was given in a slot."""
        return self.recipe.choice(layer).setting(slot)

    def method(self, name: str) -> MethodDescription | None:
        """Return the description of a method."""
        return next((method for method in self.methods if method.name == name), None)

    # Asking.
    def measure_latency(self) -> None:
        """Time every layer; answered by `latency_changed`."""

    def request_details(self, layer: str) -> None:
        """Compute what the details of one layer show; answered by `details_changed`."""

    # Running.
    @property
    def can_compress(self) -> bool:
        """Whether there is a network, a task, something to do and no job under way."""
        return False

    @property
    def can_export(self) -> bool:
        """Whether there is a network and no job under way."""
        return False

    def compress(self, name: str = "") -> None:
        """Run the recipe; its result is added to `results`."""

    def cancel(self) -> None:
        """Ask the job to stop; it can be resumed."""

    def resume(self) -> None:
        """Go on with the run that was cancelled or interrupted."""

    def export(self, archive: str, form: str, path: Path) -> None:
        """Write a result (its `archive`; empty for the source network) to a file.

        `form` is onnx, pt2 or archive. Answered by `exported`.
        """

    # Keeping.
    @property
    def results_folder(self) -> Path:
        """Return the folder of archives and checkpoints."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the project file where there is something to keep."""

    def save_as(self, path: Path) -> None:
        """Keep the project, results included, under another path from now on."""

    def receive(self, event: object) -> None:
        """Take an event of the engine."""
