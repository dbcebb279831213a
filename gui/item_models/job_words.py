"""What is said of a job, and what can be done with it."""

from featherweight.gui import wording
from featherweight.gui.document import Document
from featherweight.gui.item_models.run_curves import SOURCE
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
NOT_YET = "Nothing is trained yet, so there is nothing to keep"
BEST = "End the training here; the result gets the best weights so far, on the samples held out"
LAST = "End the training here; the result gets the weights as they are now"
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
        finish=_finish(document, job),
        cancel=_cancel(document, job),
    )


def _stage(job: Job) -> tuple[str, str]:
    """Return two lines: what is done, or what became of it, and how far it is."""
    if job.active:
        step = f"Step {job.step} of {job.steps}" if job.steps else ""
        if job.finishing:
            return job.stage.rstrip("."), "Ending the training early"
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


def _finish(document: Document, job: Job) -> ButtonState:
    left = document.unfinished
    recovery = left.recipe.recovery if left is not None else None
    shown = job.active and job.kind == "compress" and recovery is not None and recovery.epochs > 0
    # What the source reaches is told when the recovery begins.
    trains = bool(job.points.get(SOURCE))
    best = recovery is not None and recovery.keep == "best" and recovery.held_out > 0
    tip = NOT_YET if not trains else BEST if best else LAST
    free = trains and job.state == "running" and not job.finishing
    return ButtonState(shown, free, tip)


def _cancel(document: Document, job: Job) -> ButtonState:
    if job.kind == "sweep":
        return ButtonState()
    if job.kind == "compress" and not job.active:
        return ButtonState(document.unfinished is not None, True, FORGET)
    tip = DISCARD if job.kind == "compress" else STOP
    return ButtonState(job.active, job.state == "running", tip)
