"""What a document tells those who show it."""

from PySide6.QtCore import QObject, Signal


class DocumentSignals(QObject):
    """The signals of a document, apart from how it comes to send them."""

    network_changed = Signal()  # another network
    methods_changed = Signal()  # the engine is warm and said what it can do
    busy_changed = Signal()  # what is being read just now; see `busy`
    task_changed = Signal()
    recipe_changed = Signal()
    prediction_changed = Signal()
    strength_changed = Signal()  # what is known of the selection's errors; see `strengths`
    holds_changed = Signal()  # what allocations must leave alone; see `holds`
    choices_allocated = Signal(object)  # names of layers whose choices an allocation changed
    selection_changed = Signal()
    results_changed = Signal()
    job_changed = Signal()  # state, progress or another job; see `job`
    point_added = Signal(str, int, float)  # series, step, value; also kept in job.points
    rate_found = Signal(object)  # engine.events.LearningRateFound
    latency_changed = Signal()  # layers now carry latency and share
    sensitivity_changed = Signal()  # layers now carry sensitivity or why not, or none any more
    details_changed = Signal(str)  # layer whose details are in `details`
    exported = Signal(object)  # engine.results.Export
    noticed = Signal(str, str, str)  # one sentence, hint, details for a log
    notice_over = Signal(str)  # a sentence that was noticed and holds no more
    trust_needed = Signal(object)  # engine.events.TrustNeeded; answer with allow or refuse
    open_failed = Signal(object, str, str, str)  # Source, sentence, hint, details
    network_missing = Signal(object, str)  # path of the project, where its network lay
    path_changed = Signal()  # `path`, or whether something is unsaved

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._standing: dict[str, str] = {}

    def _object(self, matter: str, sentence: str, hint: str, details: str) -> None:
        """Notice something that holds until `matter` is settled."""
        self._standing[matter] = sentence
        self.noticed.emit(sentence, hint, details)

    def _settle(self, matter: str) -> None:
        sentence = self._standing.pop(matter, "")
        if sentence:
            self.notice_over.emit(sentence)
