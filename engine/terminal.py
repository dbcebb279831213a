"""What the command line shows: tables, progress bars, or JSON for machines."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from featherweight.engine import events
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.jobs import Job
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.options import SLOTS, MethodDescription
from featherweight.engine.readings import Allocation, Reading, SweepSummary
from featherweight.engine.recipe import Choice
from featherweight.engine.results import Control, Cost, Export, Result
from featherweight.resources.help.pages import method_page

if TYPE_CHECKING:
    from featherweight.engine.atlas.sensitivity import SensitivityReport

BYTE_UNITS = ("B", "kB", "MB", "GB")
COUNT_UNITS = ("", "k", "M", "G")
RATED = ("parameters", "macs", "bytes")


class Terminal:
    """Results go to stdout, as tables or as one JSON object; all else goes to stderr."""

    def __init__(self, json: bool) -> None:
        self._json = json
        # As it is now: later, what user code prints is led elsewhere.
        self._out = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
        self._aside = Console(stderr=True, highlight=False, emoji=False, markup=False)

    def error(self, sentence: str) -> None:
        """Say what went wrong."""
        self._aside.print(f"featherweight: {sentence}", soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Say something beside the result."""
        self._aside.print(sentence, soft_wrap=True)

    @contextmanager
    def job(self) -> Iterator[Job]:
        """Give a job whose progress is a bar; the first Ctrl-C cancels it at its next check.

        The second one stops it at once, without a checkpoint.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._aside, disable=self._json) as bar:
            task = bar.add_task("Starting", total=None)

            def show(event: events.Event) -> None:
                if isinstance(event, events.JobStarted):
                    bar.update(task, total=event.steps, completed=event.resumed_at)
                elif isinstance(event, events.Progress):
                    bar.update(task, completed=event.step, description=event.stage)

            job = Job(show)

            def stop(*_: object) -> None:
                job.cancel()
                signal.signal(signal.SIGINT, signal.default_int_handler)

            before = signal.signal(signal.SIGINT, stop)
            try:
                yield job
            finally:
                signal.signal(signal.SIGINT, before)

    def network(self, summary: NetworkSummary) -> None:
        """Show a network's layers."""
        if self._json:
            return self._machine(summary)
        timed = any(layer.latency for layer in summary.layers)
        table = Table(title=summary.path, title_justify="left", box=box.SIMPLE)
        table.add_column("layer", no_wrap=True, overflow="ellipsis")
        table.add_column("kind and shape")
        for title in ("parameters", "MACs", "latency")[: 3 if timed else 2]:
            table.add_column(title, justify="right", no_wrap=True)
        for layer in summary.layers:
            cells = [layer.name, f"{layer.kind} {layer.summary}"]
            cells.append(_share(layer.parameters, summary.parameters))
            cells.append("not counted" if layer.macs is None else _share(layer.macs, summary.macs))
            if timed:
                cells.append(figure_text("latency", layer.latency) if layer.latency else "")
            table.add_row(*cells)
        self._out.print(table)
        size = scaled(summary.file_bytes, BYTE_UNITS, 1000)
        counts = f"{scaled(summary.parameters)} parameters, {scaled(summary.macs)} MACs a sample"
        self._out.print(f"{len(summary.layers)} layers, {counts}, file {size}")
        for sentence in (*summary.notes, summary.graph_lock):
            if sentence:
                self._out.print(sentence)
        for operation in summary.uncounted:
            self._out.print(f"Not counted: {operation}")
        return None

    def sensitivity(self, summary: NetworkSummary, report: "SensitivityReport") -> None:
        """Show the estimated sensitivity of layers, the most sensitive first."""
        if self._json:
            return self._machine(report)
        table = Table(title=summary.path, title_justify="left", box=box.SIMPLE)
        table.add_column("layer", no_wrap=True, overflow="ellipsis")
        table.add_column("kind and shape")
        for title in ("parameters", "rise of the loss", "basis"):
            table.add_column(title, justify="right", no_wrap=True)
        layers = {layer.name: layer for layer in summary.layers}
        for name, rise in sorted(report.layers.items(), key=lambda told: -told[1].value):
            layer = layers[name]
            parameters = _share(layer.parameters, summary.parameters)
            kind = f"{layer.kind} {layer.summary}"
            table.add_row(name, kind, parameters, f"{rise.value:.3g}", rise.basis)
        self._out.print(table)
        self._out.print(
            f"By how much the loss ({report.loss}) would rise were a layer's weights alone held in "
            f"4-bit integers; by the gradients of {report.samples} samples."
        )
        for reason in dict.fromkeys(report.reasons.values()):
            names = [name for name, its in report.reasons.items() if its == reason]
            self._out.print(f"Not told of {', '.join(names)}: {reason}")
        return None

    def sweep(self, readings: tuple[Reading, ...], summary: SweepSummary) -> None:
        """Show what every setting loses and saves, layer by layer."""
        if self._json:
            return self._machine({"readings": readings, "summary": summary})
        table = Table(box=box.SIMPLE)
        for title in ("layers", "setting"):
            table.add_column(title)
        for title in ("damage", f"fall of {summary.metric or 'metric'}", "bits", "samples"):
            table.add_column(title, justify="right", no_wrap=True)
        for reading in readings:
            setting = ", ".join(filter(None, _words(reading.choice)))
            names = ", ".join(reading.layers)
            if reading.damage is None:
                continue
            fall, cost = reading.metric, reading.cost
            table.add_row(
                names,
                setting,
                f"{reading.damage.value:.3g} ± {reading.damage.error:.1g}",
                f"{fall.value:.2f} ± {fall.error:.2f}" if fall else "",
                scaled(cost.bits) if cost else "",
                str(reading.samples),
            )
        self._out.print(table)
        kind = "KL divergence" if summary.damage == "divergence" else "relative squared error"
        self._out.print(
            f"{summary.readings} readings, {summary.known} of them known before, "
            f"{summary.failed} failed. Damage is the {kind} of the outputs."
        )
        for reason in dict.fromkeys(reading.reason for reading in readings if reading.reason):
            self._out.print(f"Not read: {reason}")
        return None

    def allocation(self, allocation: Allocation, source: Cost, path: str) -> None:
        """Show what every layer takes, and what the whole is predicted to cost and to lose."""
        if self._json:
            return self._machine(allocation)
        table = Table(title=path, title_justify="left", box=box.SIMPLE)
        for title in ("layer", *SLOTS):
            table.add_column(title)
        for name, choice in allocation.recipe.layers.items():
            table.add_row(name, *_words(choice))
        self._out.print(table)
        for resource in ("parameters", "macs", "bits"):
            before, after = getattr(source, resource), getattr(allocation.cost, resource)
            rate = before / after if after else float("inf")
            self._out.print(
                f"{resource}: {scaled(before)} to {scaled(after)}, {rate:.2f}× (estimated)"
            )
        if allocation.bytes is not None:
            self._out.print(f"file: {allocation.bytes:,} bytes (measured)")
        basis = "measured" if allocation.measured else "estimated"
        self._out.print(f"damage: {allocation.damage:.4g} ({basis})")
        if (drop := allocation.drop) is not None:
            self._out.print(f"drop: {drop.value:.2f} ± {drop.error:.2f} points ({basis})")
        self._out.print(f"Written: {path}", soft_wrap=True)
        return None

    def result(self, result: Result, path: str) -> None:
        """Show a result's figures before and after, and where it is."""
        if self._json:
            return self._machine(result)
        before, after = result.before.figures, result.after.figures
        self._comparison(result.name, before, after)
        for control in result.controls:
            self._control(control, after)
        predicted = result.predicted
        self._out.print(
            f"Predicted {scaled(predicted.parameters)} parameters, {scaled(predicted.macs)} MACs, "
            f"{scaled(predicted.bits / 8, BYTE_UNITS, 1000)} without the container"
        )
        self._out.print(f"Written: {path}", soft_wrap=True)
        return None

    def export(self, export: Export) -> None:
        """Show what was written and checked."""
        if self._json:
            return self._machine(export)
        title = f"Exported as {export.format}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        for title in ("check", "value", "basis"):
            table.add_column(title, justify="left" if title != "value" else "right")
        for name, figure in export.checks.items():
            table.add_row(name.replace("_", " "), figure_text(name, figure), figure.basis)
        self._out.print(table)
        for sentence in export.notes:
            self._out.print(sentence)
        self._out.print(f"Written: {export.path}", soft_wrap=True)
        return None

    def methods(self, found: tuple[MethodDescription, ...]) -> None:
        """List methods."""
        if self._json:
            return self._machine(found)
        table = Table(box=box.SIMPLE)
        for title in ("slot", "method", "gain", "retraining", "advice"):
            table.add_column(title)
        for method in found:
            table.add_row(method.slot, method.name, method.gain, method.retrain, method.advice)
        self._out.print(table)
        return None

    def method(self, method: MethodDescription) -> None:
        """Show one method with its options."""
        if self._json:
            return self._machine(method)
        self._out.print(f"{method.title} ({method.slot}: {method.name})")
        self._out.print(method.advice)
        table = Table(box=box.SIMPLE)
        for title in ("option", "default", "allowed", "meaning"):
            table.add_column(title)
        for option in method.options:
            allowed = ", ".join(map(str, option.choices)) or (
                "true, false"
                if option.kind == "switch"
                else f"{option.minimum:g} to {option.maximum:g} {option.unit}".strip()
            )
            table.add_row(option.name, str(option.default), allowed, option.help)
        self._out.print(table)
        _, _, page = method_page(method.name).partition("\n")
        self._out.print(Markdown(page))
        return None

    def _comparison(
        self, title: str, before: Mapping[str, Figure], after: Mapping[str, Figure]
    ) -> None:
        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        table.add_column("figure")
        for column in ("before", "after", "rate", "basis"):
            table.add_column(column, justify="right")
        for name, figure in after.items():
            old = before.get(name)
            rate = f"{ratio(old, figure).value:.2f}×" if old and name in RATED else ""
            table.add_row(
                name,
                figure_text(name, old) if old else "",
                figure_text(name, figure),
                rate,
                figure.basis,
            )
        self._out.print(table)

    def _control(self, control: Control, after: Mapping[str, Figure]) -> None:
        """Show what was measured of a control, and by how much the result is below it."""
        figures = control.figures
        told = ", ".join(f"{name} {figure_text(name, one)}" for name, one in figures.items())
        self._out.print(f"{control.kind} control: {told}")
        for name, figure in figures.items():
            if figure.unit == "%" and name in after:
                drop = figure.value - after[name].value
                self._out.print(
                    f"drop of {name} against the {control.kind} control: {drop:.2f} points "
                    f"({figure.basis})"
                )

    def _machine(self, value: object) -> None:
        self._out.file.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def scaled(value: float, units: tuple[str, ...] = COUNT_UNITS, step: int = 1000) -> str:
    """Return a number with three digits and a unit: 1.23 M."""
    power = 0
    while abs(value) >= step and power < len(units) - 1:
        value /= step
        power += 1
    digits = f"{value:.3g}" if power else f"{value:.0f}"
    return f"{digits} {units[power]}".strip()


def figure_text(name: str, figure: Figure) -> str:
    """Return a figure as a person reads it."""
    if figure.unit == "%":
        return f"{figure.value:.2f} %"
    if figure.unit == "B":
        return scaled(figure.value, BYTE_UNITS)
    if name in ("parameters", "macs"):
        return scaled(figure.value)
    return f"{figure.value:.4g} {figure.unit}".strip()


def _words(choice: Choice) -> list[str]:
    words = []
    for slot in SLOTS:
        setting = choice.setting(slot)
        options = () if setting is None else map(str, setting.options.values())
        words.append("" if setting is None else " ".join((setting.method, *options)))
    return words


def _share(part: int, whole: int) -> str:
    return f"{scaled(part)} ({part / whole:.0%})" if whole else scaled(part)
