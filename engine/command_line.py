"""The same Session without a window: inspect, sweep, allocate, compress, export and others."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from featherweight.engine.session import Session

from featherweight.engine import allocation_command, sweep_command, worker
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Dtype, ExportFormat, IntegerOptions, Source, TaskSource
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.options import build, describe
from featherweight.engine.readings import Reading
from featherweight.engine.recipe import read_recipe, recipe_to_yaml
from featherweight.engine.terminal import Terminal
from featherweight.engine.trainings import DEVICE_VARIABLE, DEVICES
from featherweight.engine.writing.files import check_target, make_folder, write_file
from featherweight.resources.demo.sources import demo_recipe, demo_source, demo_task

MENDABLE = 2
INTERRUPTED = 130
FORMATS: dict[str, ExportFormat] = {
    ".onnx": "onnx",
    ".pt2": "pt2",
    ".safetensors": "safetensors",
    ".fwz": "archive",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 for what the person can mend, 130 where it was interrupted."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    terminal = Terminal(json=getattr(asked, "json", False))
    run: Callable[[argparse.Namespace, Terminal], None] = asked.run
    try:
        # What a factory prints is no result of ours.
        with redirect_stdout(sys.stderr):
            run(asked, terminal)
    except UserError as error:
        terminal.error(str(error))
        return MENDABLE
    except (CancelledError, KeyboardInterrupt):
        hint = " The same command goes on from the last checkpoint." if run in RESUMABLE else ""
        terminal.error(f"Stopped.{hint}")
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="featherweight",
        description="Make a neural network smaller and faster, and see what it really saves.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspect = _command(commands, "inspect", _inspect, "show where size and compute sit")
    _add_network(inspect)
    inspect.add_argument("--latency", action="store_true", help="measure the time of every layer")
    sensitivity = _command(
        commands, "sensitivity", _sensitivity, "estimate what 4 bits in each layer do to the loss"
    )
    _add_network(sensitivity)
    _add_data(sensitivity)
    sweep = _command(commands, "sweep", _sweep, "measure what each layer loses by which choice")
    _add_network(sweep)
    _add_data(sweep)
    sweep_command.add_options(sweep)
    allocate = _command(
        commands, "allocate", _allocate, "find the best choices for a budget, by what a sweep read"
    )
    _add_network(allocate)
    _add_data(allocate)
    allocation_command.add_options(allocate)
    compress = _command(commands, "compress", _compress, "run a recipe on a network")
    _add_network(compress)
    _add_data(compress)
    compress.add_argument("--recipe", required=True, type=Path, help="recipe file (YAML or JSON)")
    compress.add_argument("--output", required=True, type=Path, help="archive to write (.fwz)")
    compress.add_argument("--work", type=Path, help="folder for checkpoints (beside the output)")
    _add_device(compress)
    export = _command(commands, "export", _export, "write a network or an archive in another form")
    _add_network(export)
    _add_data(export)
    export.add_argument(
        "output", type=Path, help="file to write: .onnx, .pt2, .safetensors or .fwz"
    )
    export.add_argument("--half", action="store_true", help="ONNX with float16 arithmetic")
    for option in describe(IntegerOptions):
        export.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=float if option.kind == "number" else str,
            default=option.default,
            choices=option.choices or None,
            help=f"{option.title} of 8-bit layers in ONNX files. {option.help} "
            f"(default {option.default})".replace("%", "%%"),
        )
    demo = _command(commands, "demo", _demo, "compress and export the network that ships with us")
    demo.add_argument("--output", type=Path, default=Path("featherweight-demo"), help="folder")
    listing = _command(commands, "methods", _methods, "list the methods and their options")
    listing.add_argument("method", nargs="?", help="one of them, for its options")
    engine = _command(commands, "engine", _engine, "serve a window over stdin and stdout")
    _add_device(engine)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace, Terminal], None],
    words: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="write JSON for machines")
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help="network file")
    parser.add_argument("--factory", default="", help="module:callable that makes the network")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="NAME", help="allow code of this module"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]SHAPE",
        help="example input, batch first: 1x3x224x224, 1x128:int64 for whole numbers, or "
        "mask=1x128 for an input by its name",
    )
    parser.add_argument(
        "--value",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an input of an ONNX file that keeps one value, like sr=16000",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="data to recover and measure on")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default=os.environ.get(DEVICE_VARIABLE) or DEVICES[0],
        choices=DEVICES,
        help="where a recovery trains; auto is CUDA where there is one (default %(default)s, of "
        f"the variable {DEVICE_VARIABLE} where it is set)",
    )


def _source(asked: argparse.Namespace) -> Source:
    named = [_named(text) for text in asked.input]
    shapes = [_shape(text) for _, text in named]
    return Source(
        path=asked.network,
        factory=asked.factory,
        trust=tuple(asked.trust),
        input_shapes=tuple(shape for shape, _ in shapes),
        input_dtypes=tuple(kind for _, kind in shapes),
        input_names=tuple(name for name, _ in named) if any(name for name, _ in named) else (),
        input_values=tuple(_value(text) for text in asked.value),
    )


def _value(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise UserError(f"--value {text} has no number.", "Write it like sr=16000.") from error


def _named(text: str) -> tuple[str, str]:
    """Return the name of an input, empty where there is none, and its shape."""
    name, equals, shape = text.rpartition("=")
    parts = name.split(".")
    if equals and not (parts[0].isidentifier() and all(re.fullmatch(r"\w+", one) for one in parts)):
        raise UserError(
            f"--input {text} has no name that a network could have.",
            "Write it like mask=1x128:int64, or batch.mask=1x128:int64.",
        )
    return name, shape


def _shape(text: str) -> tuple[tuple[int, ...], Dtype]:
    sizes, _, kind = text.partition(":")
    try:
        dtype = msgspec.convert(kind or "float32", Dtype)
        shape = tuple(int(size) for size in sizes.split("x"))
    except (ValueError, msgspec.ValidationError) as error:
        hint = "Write 1x3x224x224, or 1x128:int64 for whole numbers."
        raise UserError(f"--input {text} is not a shape.", hint) from error
    if min(shape) < 1:
        raise UserError(f"--input {text} has an empty dimension.", "Every size is at least 1.")
    return shape, dtype


def _opened(asked: argparse.Namespace) -> tuple["Session", NetworkSummary]:
    from featherweight.engine.session import Session

    session = Session()
    summary = session.open(_source(asked))
    if getattr(asked, "data", ""):
        session.set_task(TaskSource(data=asked.data, trust=tuple(asked.trust)))
    return session, summary


def _inspect(asked: argparse.Namespace, terminal: Terminal) -> None:
    session, _ = _opened(asked)
    if asked.latency:
        with terminal.job() as job:
            session.measure_latency(job)
    terminal.network(session.summary)


def _sensitivity(asked: argparse.Namespace, terminal: Terminal) -> None:
    session, _ = _opened(asked)
    with terminal.job() as job:
        report = session.estimate_sensitivity(job)
    terminal.sensitivity(session.summary, report)


def _sweep(asked: argparse.Namespace, terminal: Terminal) -> None:
    session, network = _opened(asked)
    found: dict[bytes, Reading] = {}

    def tell(readings: tuple[Reading, ...]) -> None:
        found.update({msgspec.json.encode((one.layers, one.choice)): one for one in readings})

    usual, _ = session.plan_sweep(store=asked.store)
    plan, estimate = session.plan_sweep(sweep_command.plan_of(asked, usual), asked.store)
    terminal.note(
        f"{estimate.missing} settings to read, {estimate.known} known; about "
        f"{estimate.seconds:.0f} seconds of one processor."
    )
    with terminal.job() as job:
        summary = session.sweep(plan, asked.store, job, tell)
    places = [layer.name for layer in network.layers]
    readings = sorted(found.values(), key=lambda reading: places.index(reading.layers[0]))
    terminal.sweep(tuple(readings), summary)


def _allocate(asked: argparse.Namespace, terminal: Terminal) -> None:
    make_folder(asked.output.parent)
    check_target(asked.output, (asked.network, asked.data))
    session, summary = _opened(asked)
    rules = allocation_command.rules_of(asked, summary)
    with terminal.job() as job:
        session.recall_sweep(asked.store, job)
        limits = allocation_command.limits_of(asked, session.cost, session.latency)
        if asked.refine:
            allocation = session.refine_allocation(limits, rules, job, asked.least)
        else:
            allocation = session.allocate(limits, rules, asked.least, job)
    write_file(asked.output, recipe_to_yaml(allocation.recipe).encode())
    terminal.allocation(allocation, session.cost, str(asked.output))


def _compress(asked: argparse.Namespace, terminal: Terminal) -> None:
    os.environ[DEVICE_VARIABLE] = asked.device
    recipe = read_recipe(asked.recipe)
    make_folder(asked.output.parent)
    check_target(asked.output, (asked.network, str(asked.recipe), asked.data))
    session, _ = _opened(asked)
    work = asked.work or asked.output.with_suffix(".work")
    with terminal.job() as job:
        result = session.compress(recipe, asked.output.stem, str(work), job)
    written = work / result.archive
    # It may lie on another disk, from where nothing can be moved.
    write_file(asked.output, written.read_bytes())
    written.unlink()
    with suppress(OSError):
        work.rmdir()
    terminal.result(result, str(asked.output))


def _export(asked: argparse.Namespace, terminal: Terminal) -> None:
    kind = FORMATS.get(asked.output.suffix)
    if kind is None:
        known = ", ".join(FORMATS)
        raise UserError(f"{asked.output} has no ending that names a format.", f"Use {known}.")
    if asked.half and kind != "onnx":
        raise UserError(f"{asked.output} is no ONNX file.", "Leave out --half, or write .onnx.")
    kind = "onnx16" if asked.half else kind
    given = {option.name: getattr(asked, option.name) for option in describe(IntegerOptions)}
    integers = build(IntegerOptions, given, "export")
    session, _ = _opened(asked)
    with terminal.job() as job:
        export = session.export("", kind, str(asked.output), job, integers)
    terminal.export(export)


def _demo(asked: argparse.Namespace, terminal: Terminal) -> None:
    from featherweight.engine.session import Session

    output = Path(asked.output)
    session = Session()
    summary = session.open(demo_source())
    session.set_task(demo_task())
    with terminal.job() as job:
        result = session.compress(read_recipe(demo_recipe()), "demo", str(output), job)
    archive, target = output / result.archive, output / "demo.onnx"
    with terminal.job() as job:
        export = session.export(str(archive), "onnx", str(target), job)
    terminal.network(summary)
    terminal.result(result, str(archive))
    terminal.export(export)


def _methods(asked: argparse.Namespace, terminal: Terminal) -> None:
    from featherweight.engine.session import Session

    found = {method.name: method for method in Session.methods()}
    if asked.method is None:
        terminal.methods(tuple(found.values()))
    elif asked.method in found:
        terminal.method(found[asked.method])
    else:
        hint = f"Use one of: {', '.join(found)}."
        raise UserError(f"There is no method {asked.method}.", hint)


def _engine(asked: argparse.Namespace, _: Terminal) -> None:
    os.environ[DEVICE_VARIABLE] = asked.device
    worker.main()


RESUMABLE = (_compress, _demo, _sweep)
