"""What tests are called, and what no file may say."""

import ast
import re
from pathlib import Path
from statistics import median

EMPTY_WORDS = {"correctly", "handled", "handles", "properly", "works"}
TEXT = {"", ".cfg", ".css", ".csv", ".desktop", ".html", ".in", ".json", ".md", ".py", ".qss"}
TEXT |= {".sh", ".spec", ".svg", ".toml", ".txt", ".yaml", ".yml"}
FOLDERS = (".ci", "engine", "gui", "packaging", "resources", "tests")
# Written in halves, so that this file does not say them either.
FORBIDDEN = [
    first + second
    for first, second in (
        (r"(?<![\w.)}])/wo", r"rk/"),
        (r"/tmp/", r"venv"),
        (r"(?<![\w.])/op", r"t/"),
        (r"/ro", r"ot/"),
        (r"/ho", r"me/\w"),
        (r"pyp", r"i\.org"),
        (r"pythonho", r"sted"),
        (r"npm", r"js\.(com|org)"),
        (r"debian\.", r"org"),
        (r"hugging", r"face\.co"),
        (r"\bclau", r"de\b"),
        (r"\banth", r"ropic\b"),
        (r"\bchat", r"gpt\b"),
        (r"\bAI ass", r"istant\b"),
    )
]


def test_that_every_test_is_named_after_a_behaviour(trees: dict[str, ast.Module]) -> None:
    names = names_of_tests(trees)
    for place, words in names.items():
        assert words[:2] == ["test", "that"], place
        assert not EMPTY_WORDS & set(words), place
    assert median(len(words) - 2 for words in names.values()) >= 6


def test_that_no_two_test_files_share_a_name(trees: dict[str, ast.Module]) -> None:
    files = [Path(path).name for path in trees if Path(path).name.startswith("test_")]
    assert sorted(files) == sorted(set(files))


def test_that_no_file_names_one_machine_or_where_packages_come_from(root: Path) -> None:
    pattern = re.compile("|".join(FORBIDDEN), re.IGNORECASE)
    said = []
    for path in text_files(root):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if found := pattern.search(line):
                said.append(f"{path.relative_to(root)}:{number} {found[0]}")
    assert said == []


def names_of_tests(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Return the words of every test's name, by its place."""
    return {
        f"{path}:{node.lineno} {node.name}": node.name.split("_")
        for path, tree in trees.items()
        if path.startswith("tests/") and Path(path).name.startswith("test_")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    }


def text_files(root: Path) -> list[Path]:
    """Return the text files of the project."""
    files = [path for path in root.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [path for path in (root / folder).rglob("*") if path.is_file()]
    return [path for path in files if path.suffix in TEXT and not is_cache(path, root)]


def is_cache(path: Path, root: Path) -> bool:
    """Say whether a file lies where tools keep what they may lose."""
    folders = path.relative_to(root).parts[1:-1]
    return any(folder.startswith((".", "__")) for folder in folders)
