"""Where things lie and what they are called."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

CACHES = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
VAGUE = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
COMMANDS = ("python3 packaging/dev.py run", "python3 packaging/dev.py test")


def test_that_the_package_list_names_every_folder_of_the_tree(
    root: Path, project: dict[str, Any]
) -> None:
    mapping = project["tool"]["setuptools"]["package-dir"]
    found = {"featherweight"}
    for name in ("engine", "gui", "resources"):
        assert mapping[f"featherweight.{name}"] == name
        for marker in (root / name).rglob("__init__.py"):
            found.add(".".join(("featherweight", *marker.parent.relative_to(root).parts)))
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(found)


@pytest.mark.parametrize("name", ["engine", "gui", "resources"])
def test_that_every_folder_with_files_is_a_package(root: Path, name: str) -> None:
    folders = {path.parent for path in (root / name).rglob("*") if path.is_file()}
    outside = [
        folder.relative_to(root).as_posix()
        for folder in folders
        if not set(folder.parts) & CACHES and not (folder / "__init__.py").exists()
    ]
    assert outside == []


@pytest.mark.parametrize("name", ["packaging", "tests"])
def test_that_folders_beside_the_packages_never_become_packages(root: Path, name: str) -> None:
    markers = {path.parent.relative_to(root) for path in (root / name).rglob("__init__.py")}
    assert markers <= {Path("packaging/featherweight")}


def test_that_every_shipped_file_is_package_data(root: Path, project: dict[str, Any]) -> None:
    shipped = project["tool"]["setuptools"]["package-data"]
    forgotten = []
    for path in sorted((root / "resources").rglob("*")):
        if path.is_dir() or path.suffix == ".py" or set(path.parts) & CACHES:
            continue
        package = ".".join(("featherweight", *path.parent.relative_to(root).parts))
        if not any(fnmatch(path.name, pattern) for pattern in shipped.get(package, ())):
            forgotten.append(path.relative_to(root).as_posix())
    assert forgotten == []


def test_that_no_file_or_folder_has_a_name_that_says_nothing(sources: dict[str, str]) -> None:
    vague = [
        path
        for path in sources
        if any(VAGUE & set(Path(part).stem.split("_")) for part in Path(path).parts)
    ]
    assert vague == []


def test_that_the_readme_has_the_two_commands_and_every_folder(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert readme.splitlines().count(command) == 1
    for folder in ("engine/", "gui/", "resources/", "tests/", "packaging/"):
        assert folder in readme


def test_that_continuous_integration_runs_the_command_of_the_readme(root: Path) -> None:
    lines = (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "python3" in line] == [COMMANDS[1]]


def test_that_every_pinned_dependency_is_within_the_bounds_of_the_project(
    root: Path, project: dict[str, Any]
) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {}
    for line in (root / "packaging" / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if text := line.partition("#")[0].strip():
            pin = Requirement(text)
            (version,) = pin.specifier
            assert version.operator == "=="
            pins[canonicalize_name(pin.name)] = version.version
    declared = project["project"]
    for text in [*declared["dependencies"], *declared["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


def test_that_every_file_of_a_slot_defines_exactly_one_method(trees: dict[str, ast.Module]) -> None:
    counts = {
        path: sum(
            "name: ClassVar[str] = " in ast.unparse(node)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
        )
        for path, tree in trees.items()
        if fnmatch(path, "engine/methods/*/*.py") and not path.endswith("__init__.py")
    }
    assert counts
    assert {path: count for path, count in counts.items() if count != 1} == {}


def test_that_the_readme_shows_only_options_that_the_command_line_has(root: Path) -> None:
    lines = (root / "README.md").read_text(encoding="utf-8").splitlines()
    shown = [line.split() for line in lines if re.match(r"featherweight [a-z]+ ", line)]
    assert shown
    for _, verb, *words in shown:
        told = subprocess.run(
            [sys.executable, "-m", "featherweight", verb, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--\w+", told))


def test_that_every_link_within_the_documents_leads_to_a_file(root: Path) -> None:
    broken = [
        f"{document.name}: {target}"
        for document in sorted(root.glob("*.md"))
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
        if "://" not in target and not (root / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("name", ["engine", "gui"])
def test_that_the_map_of_a_package_names_each_of_its_parts(
    root: Path, trees: dict[str, ast.Module], name: str
) -> None:
    parts = {path.stem for path in (root / name).glob("*.py")} - {"__init__"}
    parts |= {path.parent.name for path in (root / name).glob("*/__init__.py")}
    named = set(re.findall(r"`(\w+)`", ast.get_docstring(trees[f"{name}/__init__.py"]) or ""))
    assert parts - named == set()
    assert named - parts == set()
