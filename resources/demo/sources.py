"""Where the demo lies on disk: its network, its data and its recipe."""

from importlib import resources
from pathlib import Path

from featherweight.engine.events import Source, TaskSource

PACKAGE = "featherweight.resources.demo"


def demo_folder() -> Path:
    """Return the folder of the demo on disk."""
    return Path(str(resources.files(PACKAGE)))


def demo_source() -> Source:
    """Return the demo network; its factory is our own code and therefore trusted."""
    return Source(
        path=str(demo_folder() / "network.safetensors"),
        factory=f"{PACKAGE}.network:build",
        trust=(f"{PACKAGE}.network",),
        input_shapes=((1, 1, 28, 28),),
    )


def demo_task() -> TaskSource:
    """Return the demo's labelled images."""
    return TaskSource(kind="classification", data=str(demo_folder() / "data.npz"))


def demo_recipe() -> Path:
    """Return the recipe that the demo in the terminal runs."""
    return demo_folder() / "recipe.yaml"
