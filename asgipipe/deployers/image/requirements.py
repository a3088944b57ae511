"""What a project needs, as it says itself: in uv.lock, in requirements.txt, or in pyproject.toml."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asgipipe.errors import DeploymentError

REQUIREMENTS = "requirements.txt"
LOCK = "uv.lock"
PYPROJECT = "pyproject.toml"

_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)")
_MOST_FILES = 50


@dataclass(frozen=True, slots=True)
class Requirements:
    """Files for the installation, by their place relative to the project.

    `locked` says that versions are those of a uv.lock among them; otherwise `file` is what is installed, if there is
    anything.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    file: str | None = None
    locked: bool = False


def project_requirements(project: Path) -> Requirements:
    """Raises DeploymentError for files that cannot be read."""
    if (project / LOCK).is_file() and (project / PYPROJECT).is_file():
        return Requirements({name: _read(project / name) for name in (PYPROJECT, LOCK)}, locked=True)
    if (project / REQUIREMENTS).is_file():
        files: dict[str, bytes] = {}
        _collect(project.resolve(), REQUIREMENTS, files)
        return Requirements(files, REQUIREMENTS)
    if (project / PYPROJECT).is_file():
        return _declared(project / PYPROJECT)
    return Requirements()


def _collect(project: Path, name: str, files: dict[str, bytes]) -> None:
    """Add the file and those it includes."""
    if name in files:
        return
    if len(files) == _MOST_FILES:
        raise DeploymentError(f"{project / REQUIREMENTS} includes more than {_MOST_FILES} files")
    files[name] = _read(project / name)
    for line in files[name].decode("utf-8", "replace").splitlines():
        found = _INCLUDE.match(line)
        if found and "://" not in found[1]:
            included = (project / name).parent.joinpath(found[1]).resolve()
            if not included.is_relative_to(project):
                raise DeploymentError(f"{project / name} includes {found[1]}, which is outside the project")
            _collect(project, included.relative_to(project).as_posix(), files)


def _declared(pyproject: Path) -> Requirements:
    try:
        project = tomllib.loads(_read(pyproject).decode("utf-8")).get("project", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeploymentError(f"{pyproject} is not TOML: {error}") from error
    if "dependencies" in project.get("dynamic", ()):
        raise DeploymentError(
            f"{pyproject} leaves its dependencies to its build: write those of the pipeline into a {REQUIREMENTS}"
        )
    declared = project.get("dependencies", [])
    if not declared:
        return Requirements()
    return Requirements({REQUIREMENTS: "".join(f"{line}\n" for line in declared).encode()}, REQUIREMENTS)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeploymentError(f"{path} cannot be read: {error.strerror}") from error
