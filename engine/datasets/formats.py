"""Which format a path of data is, tried one after the other."""

from pathlib import Path

from featherweight.engine.datasets import arrays, folder, idx, python_file, random_inputs
from featherweight.engine.datasets.samples import Dataset
from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.network import Network


def read_dataset(source: TaskSource, network: Network) -> Dataset:
    """Read the data of a task; random inputs where it names none.

    Raises UserError where nothing reads the path, TrustNeededError for a Python file.
    """
    if not source.data:
        return random_inputs.read(network)
    path = Path(source.data)
    if not path.exists():
        raise UserError(f"{path} does not exist.", "Name a file or a folder with the data.")
    if python_file.matches(path):
        return python_file.read(path, network.example, source.trust)
    readers = (
        (arrays.matches, arrays.read),
        (idx.matches, idx.read),
        (folder.matches, folder.read),
    )
    for matches, read in readers:
        if matches(path):
            return read(path, network.example)
    raise UserError(
        f"{path} is no data that can be read.",
        "Give an .npz file, a folder of IDX files, a folder of class folders with images, "
        "or a Python file made from the template.",
    )
