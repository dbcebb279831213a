"""All networks of the zoo by name, each in its published size and in a small one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from architectures import attention, early, inception, mobile, residual, sequences, special, windows
from torch import Tensor, nn

Shapes = tuple[tuple[int, ...], ...]
SEED = 7


@dataclass(frozen=True)
class Size:
    """How to build a network in one size, and the shapes of its inputs, batch first."""

    make: Callable[[], nn.Module]
    shapes: Shapes

    def build(self) -> nn.Module:
        """Build it in eval mode with the same random weights every time."""
        torch.manual_seed(SEED)
        return self.make().eval()


@dataclass(frozen=True)
class Architecture:
    """A network: `parameters` are published, or counted by hand, for the full size.

    `words` is above every whole number of its inputs, 0 where inputs are no whole numbers; `graph`
    says whether a graph can hold it.
    """

    name: str
    parameters: int
    full: Size
    small: Size
    words: int = 0
    graph: bool = True

    def inputs(self, shapes: Shapes) -> tuple[Tensor, ...]:
        """Return random inputs of these shapes, the same every time."""
        generator = torch.Generator().manual_seed(SEED)
        return tuple(
            torch.randint(0, self.words, shape, generator=generator)
            if self.words
            else torch.randn(shape, generator=generator)
            for shape in shapes
        )


def _images(side: int, channels: int = 3) -> Shapes:
    return ((1, channels, side, side),)


def _entry(name: str, parameters: int, full: Size, small: Size, words: int = 0) -> Architecture:
    return Architecture(name, parameters, full, small, words)


Basic, Bottleneck = residual.Basic, residual.Bottleneck
_ALL = (
    _entry(
        "lenet_300_100",
        266_610,
        Size(early.Lenet300, _images(28, 1)),
        Size(partial(early.Lenet300, 64, (30, 20)), _images(8, 1)),
    ),
    _entry(
        "lenet_5",
        431_080,
        Size(early.Lenet5, _images(28, 1)),
        Size(partial(early.Lenet5, 20, (6, 10, 20)), _images(20, 1)),
    ),
    _entry(
        "alexnet",
        61_100_840,
        Size(early.Alexnet, _images(224)),
        Size(partial(early.Alexnet, (8, 12, 16, 12, 10), 32, 1, 10), _images(64)),
    ),
    _entry(
        "vgg_16",
        138_357_544,
        Size(early.Vgg16, _images(224)),
        Size(partial(early.Vgg16, (4, 6, 8, 10, 10), 32, 24, 10), _images(32)),
    ),
    _entry(
        "nin",
        966_986,
        Size(early.Nin, _images(32)),
        Size(partial(early.Nin, 12, (10, 8)), _images(16)),
    ),
    _entry(
        "resnet_18",
        11_689_512,
        Size(partial(residual.Resnet, Basic, (2, 2, 2, 2)), _images(224)),
        Size(partial(residual.Resnet, Basic, (1, 2, 1, 1), 8, 10), _images(32)),
    ),
    _entry(
        "resnet_50",
        25_557_032,
        Size(partial(residual.Resnet, Bottleneck, (3, 4, 6, 3)), _images(224)),
        Size(partial(residual.Resnet, Bottleneck, (1, 2, 1, 1), 4, 10), _images(32)),
    ),
    _entry(
        "resnet_56",
        853_018,
        Size(residual.CifarResnet, _images(32)),
        Size(partial(residual.CifarResnet, 2, 8), _images(16)),
    ),
    _entry(
        "densenet_121",
        7_978_856,
        Size(residual.Densenet, _images(224)),
        Size(partial(residual.Densenet, (2, 2, 2, 1), 6, 10), _images(32)),
    ),
    _entry(
        "googlenet",
        6_998_552,
        Size(inception.Googlenet, _images(224)),
        Size(partial(inception.Googlenet, 3, 8, 10), _images(64)),
    ),
    _entry(
        "inception_v3",
        23_834_568,
        Size(inception.InceptionV3, _images(299)),
        Size(partial(inception.InceptionV3, 16, False, 10), _images(75)),
    ),
    _entry(
        "squeezenet",
        1_235_496,
        Size(inception.Squeezenet, _images(224)),
        Size(partial(inception.Squeezenet, 4, 4, 10), _images(64)),
    ),
    _entry(
        "mobilenet_v2",
        3_504_872,
        Size(mobile.MobilenetV2, _images(224)),
        Size(partial(mobile.MobilenetV2, 3, 0.25, 10), _images(32)),
    ),
    _entry(
        "mobilenet_v3",
        5_483_032,
        Size(mobile.MobilenetV3, _images(224)),
        Size(partial(mobile.MobilenetV3, 4, 0.25, 10), _images(32)),
    ),
    _entry(
        "shufflenet_v2",
        2_278_604,
        Size(mobile.ShufflenetV2, _images(224)),
        Size(partial(mobile.ShufflenetV2, (8, 20, 40, 32), (2, 2), 10), _images(32)),
    ),
    _entry(
        "efficientnet_b0",
        5_288_548,
        Size(mobile.EfficientnetB0, _images(224)),
        Size(partial(mobile.EfficientnetB0, 3, 0.25, 10), _images(32)),
    ),
    _entry(
        "regnet_y",
        4_344_144,
        Size(residual.Regnet, _images(224)),
        Size(partial(residual.Regnet, (16, 24), (1, 2), 8, 10), _images(32)),
    ),
    _entry(
        "ds_cnn",
        23_756,
        Size(mobile.DsCnn, ((1, 1, 49, 10),)),
        Size(partial(mobile.DsCnn, 12, 2), ((1, 1, 49, 10),)),
    ),
    _entry(
        "convnext_t",
        28_589_128,
        Size(windows.Convnext, _images(224)),
        Size(partial(windows.Convnext, (12, 20), (1, 2), 10), _images(32)),
    ),
    _entry(
        "swin_t",
        28_288_354,
        Size(windows.Swin, _images(224)),
        Size(partial(windows.Swin, 16, (2, 1), 2, (32, 4), 10), _images(32)),
    ),
    _entry(
        "vit_fused",
        86_567_656,
        Size(attention.Vit, _images(224)),
        Size(partial(attention.Vit, True, 24, 2, 4, (16, 4), 10), _images(16)),
    ),
    _entry(
        "vit_split",
        86_567_656,
        Size(partial(attention.Vit, False), _images(224)),
        Size(partial(attention.Vit, False, 24, 2, 4, (16, 4), 10), _images(16)),
    ),
    _entry(
        "gpt",
        124_439_808,
        Size(attention.Gpt, ((1, 64),)),
        Size(partial(attention.Gpt, 50, 16, 24, 2, 4), ((1, 9),)),
        words=50,
    ),
    _entry(
        "bert",
        109_482_240,
        Size(attention.Bert, ((1, 64), (1, 64))),
        Size(partial(attention.Bert, 50, 16, 24, 2, 4), ((1, 9), (1, 9))),
        words=2,
    ),
    _entry(
        "lstm",
        20_000 * 128 + 2 * 4 * 128 * (128 + 128 + 2) + 2 * 4 * 128 * (256 + 128 + 2) + 2570,
        Size(sequences.LstmClassifier, ((1, 64),)),
        Size(partial(sequences.LstmClassifier, 50, 12, 10), ((1, 9),)),
        words=50,
    ),
    _entry(
        "gru",
        40 * 128 + 128 + 3 * 256 * (128 + 256 + 2) + 3 * 256 * (256 + 256 + 2) + 257 * 12,
        Size(sequences.GruClassifier, ((1, 64, 40),)),
        Size(partial(sequences.GruClassifier, 8, 12, 10), ((1, 9, 8),)),
    ),
    _entry(
        "unet",
        31_030_658,
        Size(special.Unet, _images(256, 1)),
        Size(partial(special.Unet, 4, 2), _images(16, 1)),
    ),
    _entry(
        "two_inputs",
        27 * 32 + 64 + 289 * 64 + 17 * 32 + 33 * 64 + 97 * 64 + 65 * 11,
        Size(special.TwoInputs, ((1, 3, 64, 64), (1, 16))),
        Size(partial(special.TwoInputs, 8, 5), ((1, 3, 16, 16), (1, 5))),
    ),
    _entry(
        "functional",
        28 * 32 + 288 * 64 + 64 + 64 * 32 + 10 * 32 * 64,
        Size(special.Functional, _images(32)),
        Size(partial(special.Functional, 8, 16), _images(16)),
    ),
    _entry(
        "shared",
        28 * 64 + 576 * 64 + 128 + 650,
        Size(special.Shared, _images(64)),
        Size(partial(special.Shared, 10), _images(16)),
    ),
    Architecture(
        "branching",
        17 * 64 + 2 * 65 * 64 + 650,
        Size(special.Branching, ((1, 16),)),
        Size(partial(special.Branching, 20), ((1, 16),)),
        graph=False,
    ),
)
ZOO: dict[str, Architecture] = {entry.name: entry for entry in _ALL}
