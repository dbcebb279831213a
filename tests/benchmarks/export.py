"""The demo pruned by half, exported and run in ONNX Runtime beside the original.

Run it from anywhere: `python tests/benchmarks/export.py`. Every layer that can loses half of its
channels, one epoch recovers, and both files are timed by turns in one run. Exits with 1 where the
pruned one is less than 1.5 times as fast. The second row holds the same layers in 8-bit integers.
"""

import sys
import tempfile
from pathlib import Path

from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export, Result
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning
from featherweight.resources.demo import network as demo

LEAST_SPEEDUP = 1.5
BATCH = 32
PRUNING = Setting(method="channel_pruning", options={"ratio": 0.5})
INTEGERS = Setting(method="integer", options={"bits": 8})


def main() -> int:
    """Print the table; return 1 where the target is missed."""
    folder = Path(demo.__file__).parent
    session = Session()
    network = session.open(
        Source(
            path=str(folder / "network.safetensors"),
            factory=f"{demo.__name__}:build",
            trust=(demo.__name__,),
            input_shapes=((BATCH, 1, 28, 28),),
        )
    )
    session.set_task(TaskSource(data=str(folder / "data.npz")))
    free = [layer.name for layer in network.layers if "channel_pruning" not in layer.locks]
    print(
        f"{'recipe':28}{'top-1':>16}{'file':>20}{'latency':>22}{'speedup':>9}   {len(free)} layers"
    )
    met = True
    for name, choice in (
        ("half of the channels", Choice(structure=PRUNING)),
        ("half, in 8-bit integers", Choice(structure=PRUNING, precision=INTEGERS)),
    ):
        recipe = Recipe(layers=dict.fromkeys(free, choice), recovery=FineTuning(epochs=1))
        with tempfile.TemporaryDirectory() as results:
            result = session.compress(recipe, name, results, Job())
            archive, target = Path(results, result.archive), Path(results, "demo.onnx")
            export = session.export(str(archive), "onnx", str(target), Job())
        print(row(name, result, export))
        met = met and export.checks["speedup"].value >= LEAST_SPEEDUP
    print(f"at least {LEAST_SPEEDUP}×: {'met' if met else 'MISSED'}; {export.notes[-1]}")
    return 0 if met else 1


def row(name: str, result: Result, export: Export) -> str:
    """Return one line of the table: before and after."""
    top1 = [measures.figures["top1"].value for measures in (result.before, result.after)]
    sizes = [export.checks[key].value / 1000 for key in ("bytes_before", "bytes")]
    times = [export.checks[key].value for key in ("latency_before", "latency")]
    return (
        f"{name:28}{top1[0]:7.2f} >{top1[1]:6.2f} %{sizes[0]:9.1f} >{sizes[1]:6.1f} kB"
        f"{times[0]:9.4f} >{times[1]:8.4f} ms{export.checks['speedup'].value:8.2f}×"
    )


if __name__ == "__main__":
    sys.exit(main())
