"""Open large files, each in a process of its own: seconds, and memory at the peak.

Run: python tests/benchmarks/reading.py
A file-mapped page is the file's own and can be dropped again; anonymous memory is a copy.
"""

import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

import torch
from architectures.zoo import ZOO
from safetensors.torch import save_file
from torch import nn

from featherweight.engine.events import Source

WIDTH, LAYERS = 4096, 16
FACTORY = f"""
import torch
from torch import nn

def build():
    with torch.device("meta"):
        layers = [nn.Linear({WIDTH}, {WIDTH}, bias=False) for _ in range({LAYERS})]
    return nn.Sequential(*layers)

def zoo(name):
    from architectures.zoo import ZOO
    return ZOO[name].full.build()

def resnet_50():
    return zoo("resnet_50")

def vit_split():
    return zoo("vit_split")
"""
BOUND_TIMES, BOUND_MIB = 3, 600


def main() -> None:
    """Write the files and open each in a fresh process."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "factory_of_large_files.py").write_text(FACTORY)
        large = folder / "large.safetensors"
        save_file({f"{at}.weight": torch.randn(WIDTH, WIDTH) / 64 for at in range(LAYERS)}, large)
        report(large, "build", (1, WIDTH))
        for name in ("resnet_50", "vit_split"):
            module = ZOO[name].full.build()
            for path in written(module, folder / name):
                report(path, name, (1, 3, 224, 224))


def written(module: nn.Module, stem: Path) -> list[Path]:
    """Write a network in every form."""
    paths = [stem.with_suffix(suffix) for suffix in (".pt", ".safetensors", ".pt2", ".onnx")]
    example = torch.randn(2, 3, 224, 224)
    torch.save(module.state_dict(), paths[0])
    save_file(module.state_dict(), paths[1])
    torch.export.save(torch.export.export(module, (example,)), paths[2])
    torch.onnx.export(module, (example,), paths[3], dynamo=False, opset_version=17)
    return paths


def report(path: Path, factory: str, shape: tuple[int, ...]) -> None:
    """Open a file in a process of its own and print what that took."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(False)
    child = context.Process(target=opened, args=(str(path), factory, shape, sending))
    child.start()
    wall, cpu, before, peak, copied, layers = receiving.recv()
    child.join()
    weights = path.stat().st_size / 2**20
    bound = BOUND_TIMES * weights + BOUND_MIB
    print(
        f"{path.name:24} {weights:6.0f} MiB  {layers:3} layers  {wall:5.1f} s wall {cpu:5.1f} s CPU"
        f"  peak {peak:5.0f} MiB (bound {bound:.0f})  {peak - before:5.0f} more than before,"
        f" {copied:5.0f} of it anonymous when open",
        flush=True,
    )


def opened(path: str, factory: str, shape: tuple[int, ...], sending: Connection) -> None:
    """Open a file as the window does and send what it took."""
    from featherweight.engine.session import Session

    torch.set_num_threads(1)
    before, anonymous = memory("VmHWM"), memory("RssAnon")
    builder = str(Path(path).with_name("factory_of_large_files.py"))
    source = Source(
        path=path,
        factory=f"{builder}:{factory}",
        trust=(builder,),
        input_shapes=() if path.endswith((".onnx", ".pt2")) else (shape,),
    )
    wall, cpu = time.perf_counter(), time.process_time()
    summary = Session().open(source)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    copied = memory("RssAnon") - anonymous
    taken = (wall, cpu, before, memory("VmHWM"), copied, len(summary.layers))
    sending.send(taken)


def memory(kind: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


if __name__ == "__main__":
    main()
