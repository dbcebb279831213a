"""What is said of a job, and what can be done with it."""

from featherweight.gui import wording
from featherweight.gui.document import Document
from featherweight.gui.job import Job
from featherweight.gui.widgets.job_panel import ButtonState, JobState

STATES = {
    "running": "Running",
    "cancelling": "Stopping",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
    "failed": "Failed",
    "done": "Done",
}
PAUSE = {
    "compress": "Stop here; Resume goes on from the very step, also another day",
    "sweep": "Stop after the reading under way; everything read is kept",
}
DISCARD = "Stop the run and throw away what it has done"
FORGET = "Throw away what the run has done"
STOP = "Stop it; nothing of it is kept"


def job_state(document: Document, job: Job) -> JobState:
    """Return what to say of a job of a document."""
    paused = job.state == "cancelled" and job.resumable
    state = "Paused" if paused else STATES[job.state]
    share = None if job.active and not job.steps else job.share
    stage, detail = _stage(job)
    return JobState(
        title=f"{state}: {job.name}",
        stage=stage,
        detail=detail,
        left=f"{wording.duration(job.left)} left" if job.active and job.left is not None else "",
        share=1.0 if job.state == "done" else share,
        pause=_pause(job),
        resume=_resume(document, job),
        finish=ButtonState(),
        cancel=_cancel(document, job),
    )


def _stage(job: Job) -> tuple[str, str]:
    """Return two lines: what is done, or what became of it, and how far it is."""
    if job.active:
        step = f"Step {job.step} of {job.steps}" if job.steps else ""
        return job.stage.rstrip(".") or "Starting", step
    if job.resumable:
        point = "reading" if job.kind == "sweep" else "checkpoint"
        kept = "there" if job.state == "cancelled" and job.steps else f"its last {point}"
        stopped = f"Stopped at step {job.step} of {job.steps}" if job.steps else "Stopped"
        return stopped, f"It can go on from {kept}"
    if job.state == "done":
        return "Finished", ""
    if job.state == "failed":
        return "The message above has the reason", ""
    return "Nothing of it is kept", ""


def _pause(job: Job) -> ButtonState:
    tip = PAUSE.get(job.kind, "")
    return ButtonState(job.active and bool(tip), job.state == "running", tip)


def _resume(document: Document, job: Job) -> ButtonState:
    sweeps = job.kind == "sweep" and job.resumable and document.atlas.plan is not None
    shown = not job.active and (sweeps or document.unfinished is not None)
    enabled = document.can_sweep if sweeps else document.can_resume
    return ButtonState(shown, enabled, "Go on where it was stopped")


def _cancel(document: Document, job: Job) -> ButtonState:
    if job.kind == "sweep":
        return ButtonState()
    if job.kind == "compress" and not job.active:
        return ButtonState(document.unfinished is not None, True, FORGET)
    tip = DISCARD if job.kind == "compress" else STOP
    return ButtonState(job.active, job.state == "running", tip)
