"""How long files and functions may get, and what every one of them says of itself."""

import ast
import tokenize
from collections.abc import Iterator
from io import StringIO

FILE_LINES = 400
FUNCTION_LINES = 60
VIEW_INIT_LINES = 40
PARAMETERS = 6
COMMENT_LINES_IN_A_ROW = 3
VIEWS = ("gui/views/", "gui/dialogs/", "gui/main_window.py")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_that_no_file_is_longer_than_its_limit(sources: dict[str, str]) -> None:
    lengths = {path: len(text.splitlines()) for path, text in sources.items()}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_that_no_function_is_longer_than_its_limit(trees: dict[str, ast.Module]) -> None:
    too_long = {}
    for place, function in functions(trees):
        view = place.startswith(VIEWS) and function.name == "__init__"
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > (VIEW_INIT_LINES if view else FUNCTION_LINES):
            too_long[f"{place} {function.name}"] = lines
    assert too_long == {}


def test_that_no_function_takes_more_parameters_than_a_reader_can_hold(
    trees: dict[str, ast.Module],
) -> None:
    too_many = {}
    for place, function in functions(trees):
        arguments = function.args
        names = [
            argument.arg
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        ]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > PARAMETERS:
            too_many[f"{place} {function.name}"] = count
    assert too_many == {}


def test_that_comments_stay_short_and_never_become_an_essay(sources: dict[str, str]) -> None:
    essays = []
    for path, text in sources.items():
        row = 0
        previous = -1
        for token in tokenize.generate_tokens(StringIO(text).readline):
            if token.type != tokenize.COMMENT or token.line.strip() != token.string:
                continue
            row = row + 1 if token.start[0] == previous + 1 else 1
            previous = token.start[0]
            if row == COMMENT_LINES_IN_A_ROW + 1:
                essays.append(f"{path}:{previous}")
    assert essays == []


def test_that_every_module_says_what_it_is_for(trees: dict[str, ast.Module]) -> None:
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_that_public_classes_and_functions_of_the_engine_are_documented(
    trees: dict[str, ast.Module],
) -> None:
    silent = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees.items()
        if path.startswith("engine/")
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def functions(trees: dict[str, ast.Module]) -> Iterator[tuple[str, Function]]:
    """Yield every function with its place."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}:{node.lineno}", node
