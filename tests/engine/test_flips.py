"""Samples that two networks put into different classes, and samples as pictures."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.datasets.normalization import Normalization
from featherweight.engine.datasets.pictures import Gallery
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, JobStarted, Progress, TaskSource
from featherweight.engine.inspecting.flips import find_flips
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.results import Flip, Picture
from featherweight.engine.task import Task, read_task

# What `before` and `after` say of four samples, and what is true: kept, lost, won, lost for lost.
BEFORE, AFTER, TRUE = (0, 1, 2, 0), (0, 2, 1, 1), (0, 1, 1, 2)
LOST = (
    Flip(sample=1, label=1, before=1, after=2),
    Flip(sample=2, label=1, before=2, after=1),
    Flip(sample=3, label=2, before=0, after=1),
)


def table(classes: tuple[int, ...]) -> Network:
    """Return a network that gives the sample of each number the class at its place."""
    layer = nn.Linear(len(classes), 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3)[list(classes)].T)
    return capture(nn.Sequential(layer), (torch.eye(len(classes))[:2],))


def task_of(network: Network, labels: tuple[int, ...] | None = TRUE) -> Task:
    truth = None if labels is None else torch.tensor(labels)
    samples = TensorSamples((torch.eye(4),), truth)
    kind = "fidelity" if labels is None else "classification"
    dataset = Dataset(samples, samples, labelled=labels is not None)
    return Task(TaskSource(kind=kind), kind, dataset, network, 3)


def test_that_every_sample_with_another_class_is_named_with_its_label_and_both_classes() -> None:
    heard: list[Event] = []
    before = table(BEFORE)
    report = find_flips(task_of(before), before, table(AFTER), Job(heard.append, 7))
    assert report == (LOST, 4)
    assert heard[0] == JobStarted(id=7, steps=1)
    assert isinstance(heard[-1], Progress)
    assert heard[-1].step == heard[-1].steps


def test_that_without_labels_the_class_of_the_original_counts_as_the_right_one() -> None:
    before, after = table(BEFORE), table(AFTER)
    flips, of = find_flips(task_of(before, None), before, after, Job())
    assert of == 4
    assert [(flip.sample, flip.label, flip.before) for flip in flips] == [
        (1, 1, 1), (2, 2, 2), (3, 0, 0),
    ]  # fmt: skip
    again, _ = find_flips(task_of(before, None), after, before, Job())
    assert [flip.after for flip in again] == [flip.label for flip in again] == [1, 2, 0]


def test_that_the_batches_of_a_network_with_a_fixed_size_leave_no_sample_out() -> None:
    before = table(BEFORE)
    fixed = dataclasses.replace(before, dynamic_batch=False)
    samples = TensorSamples((torch.eye(4)[[0, 1, 2, 3, 1]],), torch.tensor([0, 1, 1, 2, 1]))
    task = Task(TaskSource(), "classification", Dataset(samples, samples, True), fixed, 3)
    flips, of = find_flips(task, fixed, table(AFTER), Job())
    assert ([flip.sample for flip in flips], of) == ([1, 2, 3, 4], 5)


@pytest.mark.parametrize(
    ("module", "example", "said"),
    [
        (nn.Linear(4, 1), torch.zeros(2, 4), "no classes"),
        (nn.Linear(4, 3), torch.zeros(2, 5, 4), "gives 5 classes for a sample"),
        (nn.Conv2d(3, 4, 1), torch.zeros(2, 3, 6, 5), "gives 6×5 classes for a sample"),
    ],
)
def test_that_outputs_which_are_not_one_class_a_sample_are_told_so(
    module: nn.Module, example: Tensor, said: str
) -> None:
    network = capture(module, (example,))
    task = read_task(TaskSource(kind="fidelity"), network)
    with pytest.raises(UserError, match=said):
        find_flips(task, network, network, Job())


def test_that_a_comparison_can_be_cancelled() -> None:
    network, job = table(BEFORE), Job()
    job.cancel()
    with pytest.raises(CancelledError):
        find_flips(task_of(network), network, network, job)


def pixels(picture: Picture) -> np.ndarray:
    shape = (picture.height, picture.width, picture.channels)
    return np.frombuffer(picture.pixels, np.uint8).reshape(shape)


def test_that_standardized_images_get_their_own_pixels_back() -> None:
    images = np.random.default_rng(0).integers(0, 256, (150, 3, 9, 7), dtype=np.uint8)
    normalize = Normalization(torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1]))
    gallery = Gallery(TensorSamples((torch.from_numpy(images),), None, normalize))
    drawn = gallery.pictures((140, 3))
    assert [(one.sample, one.width, one.height, one.channels) for one in drawn] == [
        (140, 7, 9, 3), (3, 7, 9, 3),
    ]  # fmt: skip
    for one in drawn:
        np.testing.assert_array_equal(pixels(one), images[one.sample].transpose(1, 2, 0))


def test_that_all_pictures_of_a_set_are_on_one_scale() -> None:
    images = torch.zeros(3, 1, 4, 4)
    images[0], images[1, 0, 0, 0], images[2] = 0.5, 1.0, -1.0
    middle, spot, dark = map(pixels, Gallery(TensorSamples((images,))).pictures((0, 1, 2)))
    assert set(middle.flat) == {191}
    assert spot[0, 0, 0] == 255
    assert set(dark.flat) == {0}


def test_that_large_images_are_averaged_down_to_64_pixels_and_keep_their_shape() -> None:
    images = torch.zeros(2, 1, 100, 256)
    images[1, 0, :, 128:] = 1.0
    (picture,) = Gallery(TensorSamples((images,))).pictures((1,))
    assert (picture.width, picture.height) == (64, 25)
    np.testing.assert_array_equal(
        pixels(picture)[..., 0], np.repeat([[0] * 32 + [255] * 32], 25, 0)
    )


def flat_npz(folder: Path, shape: tuple[int, ...]) -> Task:
    images = np.random.default_rng(0).integers(0, 256, (9, *shape), dtype=np.uint8)
    np.savez(folder / "flat.npz", images=images, labels=np.arange(9) % 3)
    network = capture(nn.Linear(images[0].size, 3), (torch.zeros(2, images[0].size),))
    return read_task(TaskSource(data=str(folder / "flat.npz")), network)


@pytest.mark.parametrize(
    ("shape", "drawn"), [((6, 5), (5, 6, 1)), ((6, 5, 3), (5, 6, 3)), ((3, 6, 5), (5, 6, 3))]
)
def test_that_images_which_a_network_takes_as_rows_are_images_again(
    tmp_path: Path, shape: tuple[int, ...], drawn: tuple[int, int, int]
) -> None:
    (picture,) = Gallery(flat_npz(tmp_path, shape).measure).pictures((2,))
    assert (picture.width, picture.height, picture.channels) == drawn


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(5, 30), torch.zeros(5, 4, 6, 5), torch.zeros(5, 6, 5), torch.zeros(5, 9).long()],
)
def test_that_samples_which_are_no_images_have_no_pictures(inputs: Tensor) -> None:
    assert Gallery(TensorSamples((inputs,))).pictures((0, 1)) == ()


@pytest.mark.parametrize(
    ("asked", "said"), [(range(201), "At most 200"), ((3, 5), "no sample 5, only 5")]
)
def test_that_too_many_pictures_or_samples_that_are_not_there_are_refused(
    asked: tuple[int, ...], said: str
) -> None:
    gallery = Gallery(TensorSamples((torch.zeros(5, 1, 4, 4),)))
    with pytest.raises(UserError, match=said):
        gallery.pictures(asked)


def test_that_class_names_come_from_the_file_or_the_folders(
    tmp_path: Path, write_images: Callable[[Path, tuple[str, ...]], None]
) -> None:
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), (torch.zeros(2, 1, 4, 4),))
    images, names = np.zeros((6, 4, 4), np.uint8), np.array(["ant", "bee"])
    path = tmp_path / "named.npz"
    np.savez(path, images=images, labels=np.arange(6) % 2, class_names=names)
    write_images(tmp_path / "folders", ("ant", "bee"))
    for data in (path, tmp_path / "folders"):
        assert read_task(TaskSource(data=str(data)), network).summary().class_names == (
            "ant",
            "bee",
        )
    np.savez(path, images=images, class_names=np.arange(2))
    with pytest.raises(UserError, match="class_names is no row of words"):
        read_task(TaskSource(data=str(path)), network)


@pytest.fixture
def write_images() -> Callable[[Path, tuple[str, ...]], None]:
    """Return a function that writes three images of each class into a folder."""

    def write(folder: Path, names: tuple[str, ...]) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)
            for number in range(3):
                np.save(folder / name / f"{number}.npy", np.zeros((1, 4, 4), np.float32))

    return write
