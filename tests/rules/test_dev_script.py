"""The one file that sets up a checkout."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def dev(root: Path) -> ModuleType:
    """Return packaging/dev.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("dev", root / "packaging" / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty checkout on which the script works instead of this one."""
    for folder in ("engine", "gui", "resources", "packaging/featherweight"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("pyproject.toml", "packaging/constraints.txt", "packaging/featherweight/own.py"):
        (tmp_path / file).write_text("")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [[], ["fly"]])
def test_that_an_unknown_verb_ends_with_the_usage_and_status_two(
    root: Path, words: list[str]
) -> None:
    script = root / "packaging" / "dev.py"
    process = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert "packaging/dev.py test" in process.stdout


def test_that_the_link_tree_shows_new_files_and_forgets_deleted_ones(
    dev: ModuleType, checkout: Path
) -> None:
    linked = checkout / ".dev" / "featherweight"
    dev.link_packages()
    (checkout / "engine" / "later.py").write_text("")
    assert (linked / "engine" / "later.py").exists()
    assert (linked / "own.py").exists()

    (checkout / "packaging" / "featherweight" / "own.py").unlink()
    dev.link_packages()
    assert sorted(path.name for path in linked.iterdir()) == ["engine", "gui", "resources"]


def test_that_changed_pins_ask_for_a_new_installation(dev: ModuleType, checkout: Path) -> None:
    before = dev.wanted_state()
    assert dev.wanted_state() == before
    (checkout / "packaging" / "constraints.txt").write_text("torch==2.13.0\n")
    assert dev.wanted_state() != before


def test_that_without_root_the_command_to_run_is_told_instead(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    with pytest.raises(dev.SetupError, match=r"Run: sudo apt-get .*install -y libegl1 libgl1$"):
        dev.install_packages(["libegl1", "libgl1"], "Qt lacks shared libraries")


def test_that_a_library_which_no_system_has_counts_as_missing(dev: ModuleType) -> None:
    assert not dev.loads("libfeatherweight-of-nobody.so.7")
