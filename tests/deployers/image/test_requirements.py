from pathlib import Path

import pytest

from asgipipe.deployers.image.requirements import Requirements, project_requirements
from asgipipe.errors import DeploymentError


def test_a_project_may_need_nothing(tmp_path: Path) -> None:
    """Without any of the files, nothing is installed for the project."""
    assert project_requirements(tmp_path) == Requirements()


def test_requirements_come_with_the_files_they_include(tmp_path: Path) -> None:
    """requirements.txt is found with the files it includes, at the places where it looks for them."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "requirements.txt").write_text("-r sub/more.txt\n-c https://index.example/constraints.txt\nnumpy\n")
    (tmp_path / "sub" / "more.txt").write_text("--constraint=limits.txt\nscipy\n")
    (tmp_path / "sub" / "limits.txt").write_text("scipy<2\n")
    found = project_requirements(tmp_path)
    assert found.file == "requirements.txt"
    assert sorted(found.files) == ["requirements.txt", "sub/limits.txt", "sub/more.txt"]


def test_requirements_of_others_are_refused(tmp_path: Path) -> None:
    """A file outside the project is not followed."""
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "secrets.txt").write_text("")
    (project / "requirements.txt").write_text("-r ../secrets.txt\n")
    with pytest.raises(DeploymentError, match="outside the project"):
        project_requirements(project)


def test_dependencies_of_pyproject_are_requirements(tmp_path: Path) -> None:
    """Without a requirements.txt, what pyproject.toml declares is installed."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["numpy>=2", "scipy"]\n')
    found = project_requirements(tmp_path)
    assert found.files == {"requirements.txt": b"numpy>=2\nscipy\n"}


@pytest.mark.parametrize(
    ("text", "message"),
    [('[project]\nname = "x"\ndynamic = ["dependencies"]\n', "requirements.txt"), ("[project\n", "not TOML")],
)
def test_a_pyproject_that_does_not_say_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Dependencies that only a build knows, and files that cannot be read, are errors."""
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(DeploymentError, match=message):
        project_requirements(tmp_path)


def test_a_lock_goes_before_all(tmp_path: Path) -> None:
    """With a uv.lock, its versions are installed."""
    for name in ("uv.lock", "pyproject.toml", "requirements.txt"):
        (tmp_path / name).write_text("")
    found = project_requirements(tmp_path)
    assert found.locked
    assert sorted(found.files) == ["pyproject.toml", "uv.lock"]
