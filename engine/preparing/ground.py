"""What a preparation starts from."""

from collections.abc import Mapping
from dataclasses import dataclass

from featherweight.engine.applicability import Chosen
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.network import Network
from featherweight.engine.task import Task


@dataclass(frozen=True)
class Ground:
    """The source network, which stays as it is, what its layers will get, and the task."""

    network: Network
    coupling: Coupling
    chosen: Mapping[str, Chosen]
    task: Task
