"""What is said of a sweep before it starts, while it goes on and after it, and what can be done."""

from featherweight.engine.readings import SweepEstimate, SweepPlan
from featherweight.gui import wording
from featherweight.gui.atlas_readings import key_of
from featherweight.gui.document import Document
from featherweight.gui.item_models.sweep_families import SweepFamilies
from featherweight.gui.job import Job
from featherweight.gui.widgets.sweep_bar import SweepState


def plan_words(plan: SweepPlan, methods: int) -> str:
    """Return what a plan reads, as 5 methods, 31 settings, 2,000 samples."""
    several = "s" if methods != 1 else ""
    where = f" of {_counted(len(plan.layers), 'layer')}" if plan.layers else ""
    samples = f"{plan.samples:,}".replace(",", "\u202f")
    timed = ", timed" if plan.latency else ""
    return (
        f"{methods} method{several}, {_counted(len(plan.choices), 'setting')}{where},"
        f" at most {samples} samples each{timed}"
    )


def estimate_words(estimate: SweepEstimate) -> str:
    """Return what a plan takes, as 336 readings, about 2 min, 120 MB; 40 are there already."""
    known = f"; {_counted(estimate.known, 'is', 'are')} there already" if estimate.known else ""
    if not estimate.missing:
        return f"All {_counted(estimate.known, 'reading')} are there"
    time, memory = wording.duration(estimate.seconds), wording.size(estimate.memory)
    return f"{_counted(estimate.missing, 'reading')}, about {time}, {memory}{known}"


def sweep_state(document: Document) -> SweepState:
    """Return what to say of the sweep of a document that is planned or under way."""
    atlas, job = document.atlas, document.job
    sweep = job if job is not None and job.kind == "sweep" else None
    plan, estimate = atlas.plan, atlas.estimate
    choices = {key_of(choice): choice for choice in plan.choices} if plan else {}
    methods = len(SweepFamilies(document.methods).of(choices))
    planned = plan_words(plan, methods) if plan else ""
    if sweep is not None and sweep.active:
        return _running(sweep, planned)
    if atlas.failure or document.task is None:
        return SweepState(atlas.failure, planned)
    if estimate is None or plan is None:
        waits = "Working out what a sweep would take…" if atlas.asking else ""
        return SweepState(waits, planned)
    text = estimate_words(estimate)
    if not estimate.missing:
        if atlas.readings or not estimate.known:
            return SweepState(text, planned, "Extend")
        return SweepState(text, planned, "Show", document.can_sweep)
    stopped = sweep is not None and sweep.resumable
    word = "Resume" if stopped else "Extend" if atlas.readings else "Start"
    return SweepState(text, planned, word, document.can_sweep)


def _running(job: Job, planned: str) -> SweepState:
    parts = [job.stage.rstrip(".") or "Starting"]
    if job.steps:
        parts.append(wording.percent(job.share, 0))
    if job.left is not None:
        parts.append(f"{wording.duration(job.left)} left")
    return SweepState(", ".join(parts), planned, "Pause", job.state == "running", job.share)


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{wording.count(number)} {one if number == 1 else many or f'{one}s'}"
