"""Samples as pictures for a person to look at."""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.engine.datasets.samples import Indices, Samples, Subset, TensorSamples
from featherweight.engine.errors import UserError
from featherweight.engine.results import Picture

MOST_PICTURES = 200
LONGEST_SIDE = 64
CHANNELS = (1, 3)
# So many samples tell from where to where the numbers of a data set go.
SCALED_BY, ELEMENTS = 128, 4 * 1024 * 1024


class Gallery:
    """Draws samples of one set, all on one scale: darkest and brightest are the set's own.

    The scale is of each channel for itself, which undoes what standardized the data.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def pictures(self, numbers: Indices) -> tuple[Picture, ...]:
        """Return the pictures of these samples, in this order; none of what is no image.

        An image is (channels, height, width) with one channel or three, or a row of numbers that
        was one in its file. Its sides are at most 64; larger ones are averaged down. Raises
        UserError for more than 200 samples, for one that is not there or cannot be read.
        """
        if len(numbers) > MOST_PICTURES:
            raise UserError(f"At most {MOST_PICTURES} samples are shown at a time.")
        missing = [number for number in numbers if not 0 <= number < len(self.samples)]
        if missing:
            raise UserError(f"There is no sample {missing[0]}, only {len(self.samples)}.")
        if self._scale is None:
            return ()
        low, high = self._scale
        drawn = []
        for part, images in self._images(numbers):
            scaled = ((images - low) / (high - low).clamp_min(1e-12)).nan_to_num().clamp(0, 1)
            pixels = (_shrunk(scaled) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
            drawn += [_picture(number, pixel) for number, pixel in zip(part, pixels, strict=True)]
        return tuple(drawn)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor] | None:
        """The least and the largest number of each channel, (C, 1, 1); None without images."""
        first = range(min(SCALED_BY, len(self.samples)))
        parts = [images for _, images in self._images(first)]
        if not parts:
            return None
        low = torch.stack([part.amin((0, 2, 3)) for part in parts]).amin(0)
        high = torch.stack([part.amax((0, 2, 3)) for part in parts]).amax(0)
        return low[:, None, None], high[:, None, None]

    def _images(self, numbers: Indices) -> Iterator[tuple[Indices, Tensor]]:
        """Give samples as images (N, C, H, W), few large ones at a time; nothing for others."""
        of_one = self._of_one
        size = max(1, ELEMENTS // max(of_one, 1))
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            images = self._as_images(self.samples.batch(part)[0][0])
            if images is not None:
                yield part, images

    @cached_property
    def _of_one(self) -> int:
        return self.samples.batch([0])[0][0].numel()

    def _as_images(self, inputs: Tensor) -> Tensor | None:
        if not inputs.is_floating_point():
            return None
        if inputs.ndim == 2:
            return _unflattened(inputs, _shape_in_file(self.samples))
        return inputs if inputs.ndim == 4 and inputs.shape[1] in CHANNELS else None


def _shape_in_file(samples: Samples) -> tuple[int, ...]:
    while isinstance(samples, Subset):
        samples = samples.samples
    return samples.shape if isinstance(samples, TensorSamples) else ()


def _unflattened(rows: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return rows (N, F) as images again; shapes are (H, W), (C, H, W) or (H, W, C)."""
    if len(shape) == 2 and min(shape) > 1:
        return rows.reshape(-1, 1, *shape)
    if len(shape) == 3 and shape[0] in CHANNELS:
        return rows.reshape(-1, *shape)
    if len(shape) == 3 and shape[2] in CHANNELS:
        return rows.reshape(-1, *shape).movedim(-1, 1)
    return None


def _shrunk(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    factor = max(height, width) / LONGEST_SIDE
    if factor <= 1:
        return images
    sides = (max(1, round(height / factor)), max(1, round(width / factor)))
    return functional.interpolate(images, sides, mode="area")


def _picture(number: int, pixels: Tensor) -> Picture:
    height, width, channels = pixels.shape
    data = pixels.contiguous().numpy().tobytes()
    return Picture(sample=number, width=width, height=height, channels=channels, pixels=data)
