"""The project file and what is remembered beside it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.recipe import Choice, Recipe, Setting, from_yaml, to_yaml
from featherweight.engine.trainings import FineTuning, Preparation, Reconstruction
from featherweight.gui.project_file import (
    Project,
    Unfinished,
    free_path,
    read_project,
    results_folder,
    write_project,
)
from featherweight.gui.trust_memory import TrustMemory

texts = st.text(max_size=20)
recipes = st.builds(
    Recipe,
    layers=st.dictionaries(
        texts,
        st.builds(
            Choice,
            structure=st.none()
            | st.builds(Setting, texts, st.dictionaries(texts, st.integers() | texts)),
        ),
        max_size=3,
    ),
    preparation=st.none() | st.builds(Preparation, epochs=st.integers(1, 1000)),
    reconstruction=st.none() | st.builds(Reconstruction, steps=st.integers(1, 1000)),
    recovery=st.none() | st.builds(FineTuning, epochs=st.integers(0, 1000)),
)
projects = st.builds(
    Project,
    name=texts,
    source=st.builds(
        Source,
        path=texts,
        factory=texts,
        trust=st.lists(texts).map(tuple),
        input_shapes=st.lists(st.lists(st.integers(1, 9)).map(tuple)).map(tuple),
    ),
    task=st.none() | st.builds(TaskSource, data=texts),
    recipe=recipes,
    unfinished=st.none() | st.builds(Unfinished, name=texts, recipe=recipes),
)


@given(projects)
def test_that_every_project_reads_back_as_it_was_written(project: Project) -> None:
    assert from_yaml(to_yaml(project), Project, "here") == project


def test_that_a_damaged_project_names_the_file_and_the_field(tmp_path: Path) -> None:
    path = tmp_path / "net.featherweight"
    write_project(path, Project(name="net", source=Source(path="net.pt")))
    path.write_text(path.read_text().replace("path: net.pt", "path: 7"))
    with pytest.raises(UserError) as caught:
        read_project(path)
    assert str(path) in caught.value.message
    assert "field source.path" in caught.value.message


def test_that_a_file_which_is_no_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.featherweight"
    path.write_bytes(b"\x00\xff{[")
    with pytest.raises(UserError) as caught:
        read_project(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_that_an_empty_project_is_refused_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "net.featherweight"
    path.touch()
    with pytest.raises(UserError, match="is empty"):
        read_project(path)


def test_that_a_missing_project_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_project(tmp_path / "gone.featherweight")


def test_that_a_project_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "taken.featherweight"
    path.mkdir()
    with pytest.raises(UserError, match="cannot be saved"):
        write_project(path, Project(name="net", source=Source(path="net.pt")))
    assert list(tmp_path.iterdir()) == [path]


def test_that_an_untitled_project_takes_neither_file_nor_results_of_another(
    tmp_path: Path,
) -> None:
    assert free_path(tmp_path, "net").name == "net.featherweight"
    (tmp_path / "net.featherweight").touch()
    results_folder(tmp_path / "net 2.featherweight").mkdir()
    assert free_path(tmp_path, "net").name == "net 3.featherweight"


def test_that_trust_is_remembered_for_one_file_only(tmp_path: Path) -> None:
    TrustMemory(tmp_path / "trusted.yaml").allow("a.pt", ("models",))
    again = TrustMemory(tmp_path / "trusted.yaml")
    assert again.known("a.pt", ("os",)) == ("models",)
    assert again.known("b.pt", ("models",)) == ()


def test_that_a_damaged_trust_memory_trusts_nothing_but_our_own_code(tmp_path: Path) -> None:
    (tmp_path / "trusted.yaml").write_text("files: all")
    memory = TrustMemory(tmp_path / "trusted.yaml")
    own = "featherweight.resources.demo.network"
    assert memory.known("a.pt", ("models", own)) == (own,)
