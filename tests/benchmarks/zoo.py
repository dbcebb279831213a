"""Every network of the zoo in its published size: what holds of it, what it costs, and a peer.

`python tests/benchmarks/zoo.py` checks the targets of speed and then all networks; `--only NAME`
one of them, without those. Exits with 1 where a network fails, the one that branches
on its data aside, or a target of speed is missed. `peer_pruning.py` says how to get the peer.
"""

import argparse
import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

import peer_pruning
import zoo_checks
from architectures.zoo import ZOO, Architecture
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.network import CAPTURE_ERRORS, Network, capture

RATIO = 0.3
RUNTIME_ERRORS = (Fail, InvalidArgument, InvalidGraph, RuntimeException)
OUTPUT = "Its channels are the network's output."
CHECKS = ("opens", "counts", "prunes", "onnx older", "onnx newer")
# CPU-seconds to read, capture and couple, and memory in weights plus bytes.
SPEED = {"resnet_50": 6.0, "vit_fused": 15.0}
MEMORY_TIMES, MEMORY_MORE = 3, 600e6
CHAIN = (250, 500, 1000)
GROWTH = 1.25


@dataclass
class Row:
    """What was found of one network; `checks` hold ok or the reason, seconds are of the CPU."""

    name: str
    graph: bool
    checks: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    parameters: float = 1.0
    macs: float = 1.0
    peer: str = "-"

    @property
    def met(self) -> bool:
        """Whether all checks hold, or the network is the one that no graph can hold."""
        return not self.graph or all(verdict == "ok" for verdict in self.checks.values())


def verdict(check: Callable[[], None]) -> str:
    """Run a check; return ok, or the first line of the reason."""
    try:
        check()
    except (UserError, *RUNTIME_ERRORS, *CAPTURE_ERRORS) as error:
        message = error.message if isinstance(error, UserError) else str(error)
        return next(iter(message.splitlines()), type(error).__name__)
    return "ok"


class Examination:
    """One network under examination."""

    def __init__(self, entry: Architecture, folder: Path) -> None:
        self.entry = entry
        self.folder = folder
        self.module = zoo_checks.module_of(entry.full)
        self.files = zoo_checks.Files(entry, entry.full, self.module, folder)
        self.inputs = self.files.inputs
        self.expected = zoo_checks.outputs_of(self.module, self.inputs)
        self.row = Row(entry.name, entry.graph)

    def run(self) -> Row:
        """Run all checks, then the peer."""
        start = time.process_time()
        network = capture(self.module, self.inputs)
        captured = time.process_time()
        coupling = analyse(network)
        self.row.seconds = {
            "capture": captured - start,
            "coupling": time.process_time() - captured,
        }
        checks = self.row.checks
        checks["opens"] = verdict(lambda: self._opens(network))
        checks["counts"] = verdict(lambda: self._counts(network))
        if self.entry.graph:
            checks["prunes"] = verdict(lambda: self._prunes(network, coupling))
            checks["onnx older"] = verdict(lambda: self._from_onnx(self.files.traced_onnx))
            checks["onnx newer"] = verdict(lambda: self._from_onnx(self.files.graph_onnx))
        else:
            checks["prunes"] = next(iter(coupling.locks.values()))
        kept = [name for name, reason in coupling.locks.items() if reason == OUTPUT]
        kept = kept or [name for name, _ in network.layers()][-1:]
        peer = peer_pruning.pruned_by_peer(self.module, self.inputs, kept, RATIO)
        self.row.peer = str(peer)
        return self.row

    def _opens(self, network: Network) -> None:
        formats = {
            "pickle": self.files.pickle,
            "state dict": self.files.state_dict,
            "safetensors": self.files.safetensors,
        }
        if self.entry.graph:
            formats["pt2"] = self.files.exported_program
            formats["archive"] = lambda: self.files.archive(network)
        reasons = {name: verdict(partial(self._opens_as, each)) for name, each in formats.items()}
        failed = {name: reason for name, reason in reasons.items() if reason != "ok"}
        assert not failed, str(failed)

    def _opens_as(self, opened: Callable[[], Network]) -> None:
        self._same(opened())

    def _same(self, network: Network) -> None:
        zoo_checks.assert_same(network.outputs(*self.inputs), self.expected)

    def _counts(self, network: Network) -> None:
        zoo_checks.assert_counts(network, self.module, self.inputs)
        assert zoo_checks.parameters_of(self.module) == self.entry.parameters, "not as published"

    def _prunes(self, network: Network, coupling: Coupling) -> None:
        before = survey(network)
        start = time.process_time()
        removal = zoo_checks.everywhere(network, coupling, RATIO)
        pruned = zoo_checks.pruned_of(network, removal)
        self.row.seconds["pruning"] = time.process_time() - start
        after = survey(pruned)
        self.row.parameters = after.parameters / before.parameters
        self.row.macs = after.macs / before.macs
        self._proven(network, pruned, removal, newer=False)

    def _from_onnx(self, opened: Callable[[], Network]) -> None:
        network = opened()
        self._same(network)
        zoo_checks.assert_counts(network, self.module, self.inputs)
        removal = zoo_checks.everywhere(network, zoo_checks.analysed(network), RATIO)
        pruned = zoo_checks.pruned_of(network, removal)
        newer = opened == self.files.graph_onnx
        self._proven(network, pruned, removal, newer)

    def _proven(self, network: Network, pruned: Network, removal: Plan, newer: bool) -> None:
        zoo_checks.assert_removed(network, pruned, removal, self.inputs)
        zoo_checks.assert_trains(pruned, self.inputs)
        path = self.folder / "pruned.onnx"
        write = zoo_checks.write_drawn if newer else zoo_checks.write_traced
        write(pruned.module, zoo_checks.paired(self.inputs), path)
        found = zoo_checks.run_onnx(path, self.inputs)
        zoo_checks.assert_same(found, pruned.outputs(*self.inputs))


def examined(name: str) -> Row:
    """Examine one network and print its row."""
    with tempfile.TemporaryDirectory() as folder:
        row = Examination(ZOO[name], Path(folder)).run()
    words = [row.checks.get(check, "-") for check in CHECKS]
    failed = "FAILS" if row.graph else "locked"
    cells = [word if word in ("ok", "-") else failed for word in words]
    seconds = [row.seconds.get(step, 0.0) for step in ("capture", "coupling", "pruning")]
    print(
        f"{row.name:16}"
        + "".join(f"{cell:>11}" for cell in cells)
        + "".join(f"{value:>9.2f}" for value in seconds)
        + f"{row.parameters:9.3f}{row.macs:7.3f}   {row.peer}",
        flush=True,
    )
    for check, word in zip(CHECKS, words, strict=True):
        if word not in ("ok", "-"):
            print(f"{'':16} {check}: {word}", flush=True)
    gc.collect()
    return row


def opened_and_coupled(name: str) -> None:
    """Print the CPU-seconds and the memory that reading, capture and coupling of a network take."""
    entry = ZOO[name]
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            module = entry.full.make()
        files = zoo_checks.Files(entry, entry.full, nn.Module(), Path(folder))
        path = Path(folder) / "weights.pth"
        state = {
            key: torch.ones_like(value, device="cpu") for key, value in module.state_dict().items()
        }
        torch.save(state, path)
        del state
        start = time.process_time()
        network = files.from_factory(path)
        analyse(network)
        seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = sum(value.nbytes for value in network.module.parameters())
    print(f"{seconds} {peak} {weights}")


def meets_speed() -> bool:
    """Print how long two networks take in a process of their own, and long chains."""
    met = []
    for name, limit in SPEED.items():
        command = [sys.executable, __file__, "--measure", name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds, peak, weights = map(float, printed.split()[-3:])
        most = MEMORY_TIMES * weights + MEMORY_MORE
        met.append(seconds <= limit and peak <= most)
        print(
            f"{name:16} opened and coupled in {seconds:.2f} CPU-seconds of {limit:.0f}, "
            f"{peak / 1e6:.0f} MB of {most / 1e6:.0f}: {'met' if met[-1] else 'MISSED'}",
            flush=True,
        )
    each = {length: chain_seconds(length) / length for length in CHAIN}
    for length, seconds in each.items():
        print(f"chain of {length:5} convolutions coupled in {seconds * length:6.2f} CPU-seconds")
    met.append(each[CHAIN[-1]] <= GROWTH * each[CHAIN[0]])
    print(f"{'':16} no worse than linear: {'met' if met[-1] else 'MISSED'}")
    return all(met)


def chain_seconds(length: int) -> float:
    """Return the CPU-seconds that coupling a chain of convolutions takes, the best of three."""
    layers = [part for _ in range(length) for part in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
    network = capture(nn.Sequential(*layers), (torch.randn(1, 8, 8, 8),))
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        analyse(network)
        best = min(best, time.process_time() - start)
    return best


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(ZOO))
    parser.add_argument("--measure", choices=tuple(ZOO), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure:
        opened_and_coupled(arguments.measure)
        return 0
    # First, because a process starts with the peak of memory of the one that started it.
    met = True if arguments.only else meets_speed()
    print(
        f"{'network':16}"
        + "".join(f"{check:>11}" for check in CHECKS)
        + "  capture coupling  pruning   params   MACs   Torch-Pruning: params, MACs, CPU"
    )
    rows = [examined(name) for name in ([arguments.only] if arguments.only else ZOO)]
    return 0 if met and all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
