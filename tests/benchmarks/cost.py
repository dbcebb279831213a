"""What compressing a network of 138 million weights costs: VGG-16 with random weights.

Run it with `python tests/benchmarks/cost.py`; it prints CPU-seconds beside their bounds and exits
with 1 where one is missed.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.structure.cp import Cp
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.weight_forms import StoredForm

WIDTHS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256))
DEEP = ((256, 512), *((512, 512),) * 5)
MOST_OVERHEAD = 1.003
FEWEST_SYMBOLS = 80e6


def main() -> int:
    """Print the table; return 1 where a bound is missed."""
    torch.manual_seed(0)
    missed = 0
    weights = [torch.randn(outputs, inputs, 3, 3) * 0.05 for inputs, outputs in (*WIDTHS, *DEEP)]
    sizes = ((4096, 25088), (4096, 4096), (1000, 4096))
    weights += [torch.randn(*size) * 0.01 for size in sizes]
    count = sum(weight.numel() for weight in weights)
    forms: list[StoredForm] = []

    def share() -> None:
        forms.extend(Codebook(clusters=16).trainable(each, None).settled() for each in weights)

    missed += row(f"16 shared values, {count / 1e6:.0f} M weights", 15.0, share)
    coded, entropy, seconds = 0, 0.0, 0.0
    for form in forms:
        symbols = form.symbols()
        began = time.process_time()
        coded += Ans().encode(symbols).values
        seconds += time.process_time() - began
        entropy += bits_of(symbols.values)
    rate = count / seconds
    missed += told(
        "ANS, symbols a CPU-second", f"{rate / 1e6:.0f} M", "80 M", rate < FEWEST_SYMBOLS
    )
    overhead = coded / entropy
    missed += told(
        "ANS, bits over entropy", f"{overhead:.4f}", f"{MOST_OVERHEAD}", overhead > MOST_OVERHEAD
    )
    layer = with_weight(nn.Linear(25088, 4096), weights[-3])
    keep = 256 * (25088 + 4096) / (25088 * 4096)
    missed += row("SVD 4096×25088, rank 256", 12.0, lambda: Svd(keep=keep).rewritten(layer))
    kernel = nn.Conv2d(512, 512, 3)
    missed += row("Tucker 512×512×3×3", 0.5, lambda: Tucker(keep=0.36).rewritten(kernel))
    share_of_cp = 256 * (512 + 512 + 6) / (512 * 512 * 9)
    missed += row("CP 512×512×3×3, rank 256", 8.0, lambda: Cp(keep=share_of_cp).rewritten(kernel))
    return 1 if missed else 0


def row(title: str, most: float, work: Callable[[], object]) -> int:
    """Time a piece of work in CPU-seconds; return 1 where it takes more than `most`."""
    began = time.process_time()
    work()
    taken = time.process_time() - began
    return told(title, f"{taken:.2f} s", f"{most} s", taken > most)


def told(title: str, found: str, bound: str, bad: bool) -> int:
    """Print one line; return 1 where it is bad."""
    print(f"{title:36}{found:>12}{bound:>12}{'  MISSED' if bad else ''}", flush=True)
    return int(bad)


def with_weight(layer: nn.Linear, weight: Tensor) -> nn.Linear:
    """Put a weight into a layer."""
    layer.weight = nn.Parameter(weight)
    return layer


def bits_of(symbols: np.typing.NDArray[np.uint32]) -> float:
    """Return the entropy of symbols times their number, in bits."""
    counts = np.bincount(symbols).astype(np.float64)
    used = counts[counts > 0]
    return float((used * np.log2(len(symbols) / used)).sum())


if __name__ == "__main__":
    sys.exit(main())
