"""The sources of the project, read once for all rules."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

FOLDERS = ("engine", "gui", "resources", "packaging", "tests")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def project(root: Path) -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def sources(root: Path) -> dict[str, str]:
    """Return the text of every Python file, by its path below the root."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
    }


@pytest.fixture(scope="session")
def trees(sources: dict[str, str]) -> dict[str, ast.Module]:
    """Return the syntax tree of every Python file, by its path below the root."""
    return {path: ast.parse(text, path) for path, text in sources.items()}
