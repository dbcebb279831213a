"""Every format of data gives the samples that its files hold, or says what is wrong in them."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.network import Network, capture
from featherweight.engine.task import Task, read_task
from featherweight.resources import templates

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)
LABELS = np.arange(12) % 3


@pytest.fixture(scope="module")
def network() -> Network:
    return capture(nn.Sequential(nn.Flatten(), nn.Linear(30, 3)), (torch.zeros(2, 1, 6, 5),))


@pytest.fixture(scope="module")
def colour_network() -> Network:
    return capture(nn.Sequential(nn.Flatten(), nn.Linear(90, 3)), (torch.zeros(2, 3, 6, 5),))


def read(path: Path, network: Network, trust: tuple[str, ...] = ()) -> Task:
    return read_task(TaskSource(data=str(path), trust=trust), network)


def write_idx(path: Path, values: npt.NDArray[Any]) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    data = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_folder(folder: Path, count: int = 3, mode: str = "L") -> None:
    for name in ("ant", "bee", "cat"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            colour = 85 * number if mode == "L" else (85 * number, 0, 255)
            Image.new(mode, (5, 6), colour).save(folder / name / f"{number}.png")


def test_that_images_of_bytes_become_floats_from_zero_to_one(
    tmp_path: Path, network: Network
) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    task = read(tmp_path / "d.npz", network)
    inputs, (labels,) = task.batch(task.recovery, range(len(task.recovery)))
    assert inputs[0].shape == (8, 1, 6, 5)
    assert inputs[0].dtype == torch.float32
    found = {tuple(image.flatten().tolist()) for image in (inputs[0] * 255).round().int()}
    assert found <= {tuple(image.flatten().tolist()) for image in IMAGES}
    assert labels.dtype == torch.int64


def test_that_one_set_of_images_is_split_without_overlap(tmp_path: Path, network: Network) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    task = read(tmp_path / "d.npz", network)
    parts = [
        {tuple(image.flatten().tolist()) for image in samples.batch(range(len(samples)))[0][0]}
        for samples in (task.recovery, task.measure)
    ]
    assert [len(part) for part in parts] == [8, 4]
    assert not parts[0] & parts[1]


def test_that_mean_and_deviation_in_the_file_are_applied(tmp_path: Path, network: Network) -> None:
    np.savez(tmp_path / "d.npz", x_train=IMAGES, x_test=IMAGES, mean=0.5, deviation=[0.25])
    task = read(tmp_path / "d.npz", network)
    expected = (torch.from_numpy(IMAGES[:2]).float() / 255 - 0.5) / 0.25
    assert torch.allclose(task.measure.batch([0, 1])[0][0], expected[:, None])
    assert task.kind == "fidelity"


def test_that_channels_at_the_end_are_moved_to_where_the_network_has_them(
    tmp_path: Path, colour_network: Network
) -> None:
    images = np.random.default_rng(1).random((4, 6, 5, 3), np.float32)
    np.savez(tmp_path / "d.npz", x_train=images, x_test=images)
    inputs, _ = read(tmp_path / "d.npz", colour_network).measure.batch([2])
    assert np.array_equal(inputs[0][0].numpy(), images[2].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": IMAGES[:, :4]}, "images holds samples of shape 4×5, and the network takes 1×6"),
        ({"images": IMAGES, "labels": LABELS + 1}, "the label 3, and the network has 3 outputs"),
        ({"images": IMAGES, "labels": LABELS - 1}, "labels holds the label -1"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "labels holds 5 labels for 12 samples"),
        ({"images": IMAGES, "labels": np.eye(12)}, "which are not labels"),
        ({"images": IMAGES[:2]}, "has 2 samples"),
        ({"images": IMAGES.astype(complex)}, "images holds complex128"),
        ({"pictures": IMAGES}, "holds pictures, which says nothing of samples"),
        ({"images": IMAGES, "mean": [0.1, 0.2]}, "do not fit samples of 1 channels"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "labels for only one"),
    ],
)
def test_that_an_npz_file_that_does_not_fit_is_refused_with_its_key(
    tmp_path: Path, network: Network, arrays: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=said) as refused:
        read(tmp_path / "d.npz", network)
    assert str(tmp_path / "d.npz") in refused.value.message


def test_that_a_damaged_npz_file_is_refused_with_its_name(tmp_path: Path, network: Network) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UserError, match=r"d\.npz cannot be read"):
        read(tmp_path / "d.npz", network)


def test_that_python_objects_in_an_npz_file_are_not_unpickled(
    tmp_path: Path, network: Network
) -> None:
    np.savez(tmp_path / "d.npz", images=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(UserError, match="without Python objects"):
        read(tmp_path / "d.npz", network)


def test_that_idx_files_packed_or_not_give_images_and_labels(
    tmp_path: Path, network: Network
) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES[:4])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[:4])
    task = read(tmp_path, network)
    inputs, (labels,) = task.batch(task.measure, range(4))
    assert torch.equal((inputs[0][:, 0] * 255).round().byte(), torch.from_numpy(IMAGES[:4]))
    assert labels.tolist() == LABELS[:4].tolist()
    assert len(task.recovery) == 12


def test_that_an_idx_file_cut_short_is_refused_with_its_name(
    tmp_path: Path, network: Network
) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="train-images-idx3-ubyte has 369 bytes where"):
        read(tmp_path, network)


def test_that_class_folders_count_classes_by_name_and_read_images(
    tmp_path: Path, network: Network
) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val", count=2)
    task = read(tmp_path, network)
    inputs, (labels,) = task.batch(task.recovery, range(9))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert inputs[0][2].unique().tolist() == pytest.approx([170 / 255])
    assert len(task.measure) == 6


def test_that_coloured_images_of_another_size_are_fitted_to_the_network(
    tmp_path: Path, colour_network: Network
) -> None:
    for name in ("ant", "bee", "cat"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 24), (255, 0, 51)).save(tmp_path / name / "one.png")
    (tmp_path / "normalization.json").write_text(
        json.dumps({"mean": [0.5, 0.0, 0.0], "deviation": [0.5, 1.0, 0.1]})
    )
    inputs, _ = read(tmp_path, colour_network).measure.batch([0])
    assert inputs[0].shape == (1, 3, 6, 5)
    assert inputs[0][0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 2.0])


def test_that_arrays_in_class_folders_are_read_like_images(
    tmp_path: Path, network: Network
) -> None:
    for number, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "one.npy", IMAGES[number].astype(np.float32))
    task = read(tmp_path, network)
    inputs, (labels,) = task.batch(task.measure, [0])
    assert np.array_equal(inputs[0][0, 0].numpy(), IMAGES[int(labels[0])])


def test_that_an_image_that_cannot_be_read_is_named_when_its_turn_comes(
    tmp_path: Path, network: Network
) -> None:
    write_folder(tmp_path)
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(file.read_bytes()[:20])
    task = read(tmp_path, network)
    with pytest.raises(UserError, match=r"\d\.png cannot be read"):
        task.evaluate(network)


def test_that_more_class_folders_than_outputs_are_refused(tmp_path: Path, network: Network) -> None:
    write_folder(tmp_path)
    (tmp_path / "dog").mkdir()
    Image.new("L", (5, 6)).save(tmp_path / "dog" / "one.png")
    with pytest.raises(UserError, match="the label 3, and the network has 3 outputs"):
        read(tmp_path, network)


def test_that_a_python_file_does_not_run_before_it_is_trusted(
    tmp_path: Path, network: Network
) -> None:
    mark = tmp_path / "mark"
    file = tmp_path / "samples.py"
    file.write_text(f"open({str(mark)!r}, 'w').close()\n")
    with pytest.raises(TrustNeededError) as asked:
        read(file, network)
    assert asked.value.names == (str(file),)
    assert not mark.exists()


def test_that_the_template_is_a_data_set_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "samples.py"
    template = Path(templates.__file__).parent / "dataset_template.txt"
    file.write_text(template.read_text())
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (torch.zeros(2, 1, 28, 28),))
    task = read(file, network, trust=(str(file),))
    assert (len(task.recovery), len(task.measure), task.kind) == (256, 128, "classification")
    assert set(task.evaluate(network)) == {"top1", "top5", "loss"}


SAMPLES = """
import torch
def recovery():
    return [(torch.zeros({shape}), {label})] * 3
measure = recovery
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1 +", "SyntaxError"),
        ("import torch", r"no function recovery\(\)"),
        ("def recovery(): return 1 / 0", r"recovery\(\) failed: ZeroDivisionError"),
        ("def recovery(): return []\nmeasure = recovery", "gives no samples"),
        ("def recovery(): return [3]\nmeasure = recovery", "not a pair"),
        (SAMPLES.format(shape="2, 2", label=0), r"is of shape \[\(2, 2\)\]"),
        (SAMPLES.format(shape="1, 6, 5", label="'cat'"), "the label 'cat'"),
    ],
)
def test_that_a_python_file_with_a_fault_is_refused_with_its_place(
    tmp_path: Path, network: Network, code: str, said: str
) -> None:
    file = tmp_path / "samples.py"
    file.write_text(code)
    with pytest.raises(UserError, match=said) as refused:
        read(file, network, trust=(str(file),))
    assert str(file) in refused.value.message


def test_that_a_python_label_without_an_output_is_refused_while_measuring(
    tmp_path: Path, network: Network
) -> None:
    file = tmp_path / "samples.py"
    file.write_text(SAMPLES.format(shape="1, 6, 5", label=3))
    task = read(file, network, trust=(str(file),))
    with pytest.raises(UserError, match="a sample has the label 3, and the network has 3 outputs"):
        task.evaluate(network)


def test_that_a_python_file_without_labels_is_compared_with_the_original(
    tmp_path: Path, network: Network
) -> None:
    file = tmp_path / "samples.py"
    file.write_text(SAMPLES.format(shape="1, 6, 5", label=None))
    task = read(file, network, trust=(str(file),))
    assert task.metrics == ("agreement", "snr", "relative_error")


def test_that_a_path_that_holds_no_data_is_refused_with_what_to_give(
    tmp_path: Path, network: Network
) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "missing.npz", network)
    with pytest.raises(UserError, match="is no data that can be read"):
        read(tmp_path / "notes.txt", network)
