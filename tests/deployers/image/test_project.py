from collections.abc import Callable
from pathlib import Path

import pytest

from asgipipe.deployers.image import project
from asgipipe.deployers.image.project import MARK, project_files
from asgipipe.errors import DeploymentError


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    return write


def test_the_files_of_a_project_are_found_in_order(tmp_path: Path, write: Callable[..., None]) -> None:
    """All are there by their relative path, but for environments and what was made for an image before."""
    write(
        **{
            "main.py": "",
            "pkg/b.py": "",
            "pkg/a.py": "",
            "oddly-named-environment/pyvenv.cfg": "",
            "oddly-named-environment/lib/x.py": "",
            "container/Dockerfile": f"{MARK} and so on",
            "container/app/main.py": "",
        }
    )
    assert list(project_files(tmp_path)) == ["main.py", "pkg/a.py", "pkg/b.py"]


def test_the_dockerignore_of_the_project_is_followed(tmp_path: Path, write: Callable[..., None]) -> None:
    """It leaves files out, and takes in what is never taken in otherwise."""
    write(
        **{
            ".dockerignore": "data\n!certs/authority.pem\n",
            "main.py": "",
            "data/large.bin": "",
            "certs/authority.pem": "",
            "certs/own.pem": "",
        }
    )
    assert list(project_files(tmp_path)) == [".dockerignore", "certs/authority.pem", "main.py"]


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("    auth_key: a-secret-key", False),
        ("    store_url: postgresql://app:secret@db.example/jobs", False),
        ("    store_url: postgresql://app@db.example/jobs", True),
        ("    auth_key:  # from the environment", True),
    ],
)
def test_settings_with_secrets_are_left_out(tmp_path: Path, write: Callable[..., None], line: str, stays: bool) -> None:
    """A settings file that holds a key or a password does not get into an image, another one does."""
    write(**{"main.py": "", "settings.yaml": f"settings:\n  deployment:\n{line}\n"})
    assert ("settings.yaml" in project_files(tmp_path)) is stays


def test_links_lead_nowhere_else(tmp_path: Path, write: Callable[..., None]) -> None:
    """A link within the project is copied as what it leads to, one that leads out of it is left out."""
    write(**{"main.py": "the text"})
    (tmp_path / "again.py").symlink_to("main.py")
    (tmp_path / "passwords").symlink_to("/etc/passwd")
    (tmp_path / "nothing").symlink_to("nowhere")
    assert list(project_files(tmp_path)) == ["again.py", "main.py"]


def test_a_folder_that_is_no_project_is_refused(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More files than a project has are an error that names the way out."""
    monkeypatch.setattr(project, "_MOST_FILES", 2)
    write(**{f"{number}.txt": "" for number in range(3)})
    with pytest.raises(DeploymentError, match=r"\.dockerignore"):
        project_files(tmp_path)
