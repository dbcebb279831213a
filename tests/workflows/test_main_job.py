"""The main job in the real window: open, choose, compress, cancel, resume, export, compare."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PySide6.QtWidgets import QListWidget, QProgressBar

from featherweight.gui.widgets.line_chart import LineChart
from featherweight.resources.demo.sources import demo_folder

LABELS = npt.NDArray[np.int64]
ENGINE_LABELS = """
import sys
import numpy as np
from featherweight.engine.events import Source
from featherweight.engine.reading.formats import read_network
from featherweight.engine.task import read_task
from featherweight.resources.demo.sources import demo_task

network = read_network(Source(path=sys.argv[1]))
np.save(sys.argv[2], read_task(demo_task(), network).labels(network))
"""


def labels_of_archive(archive: Path, folder: Path) -> LABELS:
    """Return the labels that the engine gives the 2,000 images, with the network of a result."""
    found = folder / "labels.npy"
    subprocess.run([sys.executable, "-c", ENGINE_LABELS, archive, found], check=True)
    labels: LABELS = np.load(found)
    return labels


def labels_of_onnx(path: Path) -> LABELS:
    """Return the labels that ONNX Runtime gives the 2,000 images, with an exported file."""
    with np.load(demo_folder() / "data.npz") as data:
        images = data["measure_images"].astype(np.float32) / 255
        images = (images - data["mean"]) / data["deviation"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: images})
    labels: LABELS = output.argmax(1)
    return labels


def drawn(chart: LineChart) -> int:
    """Return how many points the curves on the screen have."""
    return sum(len(curve.getData()[0]) for curve in chart.plot.listDataItems())


def test_that_the_demo_is_compressed_by_clicking_and_exported_with_the_same_labels(
    person: Any, tmp_path: Path
) -> None:
    document = person.document
    person.open_demo()
    person.choose_for_three_layers()

    person.click("compress_button")
    accuracy = person.find(LineChart, "accuracy_chart")
    loss = person.find(LineChart, "loss_chart")
    progress = person.find(QProgressBar, "job_progress")
    person.wait(lambda: drawn(accuracy) > 0)
    seen = drawn(accuracy)
    assert document.job.state == "running"
    assert 0 < progress.value() < progress.maximum()
    person.wait(lambda: drawn(accuracy) > seen and drawn(loss) > 1)
    assert document.job.state == "running"
    assert document.results == ()

    person.click("pause_button")
    person.wait(lambda: document.job.state == "cancelled")
    stopped, shown = document.job.step, accuracy.count("accuracy")
    assert 0 < stopped < document.job.steps
    person.click("resume_button")
    assert accuracy.count("accuracy") == shown
    person.wait(lambda: document.job.step > stopped)
    person.wait(lambda: document.results)
    assert accuracy.count("accuracy") == 5
    assert person.find(QListWidget, "results_list").count() == 1

    (result,) = document.results
    archive = document.results_folder / result.archive
    assert archive.stat().st_size == result.after.figures["bytes"].value
    assert result.after.figures["bytes"].value < result.before.figures["bytes"].value / 2
    exported = tmp_path / "small.onnx"
    person.click("export_button")
    person.choose("export_format", "ONNX (.onnx)")
    person.fill("export_path", str(exported))
    person.click("export_start_button")
    person.wait(lambda: person.sees("export_summary"))
    person.click("export_close_button")
    expected = labels_of_archive(archive, tmp_path)
    assert len(expected) == 2000
    assert (labels_of_onnx(exported) == expected).all()


def test_that_the_recipe_of_the_window_gives_the_terminal_the_same_bytes(
    person: Any, tmp_path: Path
) -> None:
    document = person.document
    person.open_demo()
    person.choose_for_three_layers()
    person.click("compress_button")
    person.wait(lambda: document.results)
    recipe, output = tmp_path / "recipe.yaml", tmp_path / "terminal.fwz"
    person.trigger("save_recipe")
    person.answer_with_file(recipe)
    source, task = document.source, document.task.source
    shape = "x".join(map(str, source.input_shapes[0]))
    options = {"--factory": source.factory, "--trust": source.trust[0], "--input": shape}
    options |= {"--data": task.data, "--recipe": str(recipe), "--output": str(output)}
    command = ["compress", source.path, *(word for pair in options.items() for word in pair)]
    subprocess.run([sys.executable, "-m", "featherweight", *command], check=True)
    window = document.results_folder / document.results[0].archive
    assert output.read_bytes() == window.read_bytes()
