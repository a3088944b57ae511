"""The files of a project that go into an image."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from asgipipe.deployers.image.ignore import NEVER, Ignore
from asgipipe.errors import DeploymentError
from asgipipe.settings.yamlfile import LARGEST

MARK = "# Made by asgipipe;"
"""How a Dockerfile begins that asgipipe has written; the folder it is in is no part of the project."""

_SECRET = re.compile(rb"^\s*auth_key\s*:\s*[^\s#]|://[^\s/:@]+:[^\s@]+@", re.MULTILINE)
"""A key, or a URL with a password."""

_MOST_FILES = 20_000
_MOST_BYTES = 2 * 1024**3


def project_files(project: Path) -> dict[str, Path]:
    """Return what of a project goes into an image, by relative POSIX path.

    That is all but what an image never needs, settings files with secrets (an image has settings of its own), and what
    the `.dockerignore` of the project leaves out. Raises DeploymentError when that is more than a project has.
    """
    ignored = Ignore.of([*NEVER, *_own_patterns(project)])
    found: dict[str, Path] = {}
    size = 0
    for name, path in _walk(project, ignored):
        found[name] = path
        size += path.stat().st_size
        if len(found) > _MOST_FILES or size > _MOST_BYTES:
            raise DeploymentError(
                f"{project} has more than {_MOST_FILES} files or {_MOST_BYTES // 1024**3} GiB, which is no project: "
                "name what is not needed in its .dockerignore, or deploy from a folder of its own"
            )
    return dict(sorted(found.items()))


def _own_patterns(project: Path) -> list[str]:
    try:
        return (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"{project / '.dockerignore'} cannot be read: {error}") from error


def _walk(project: Path, ignored: Ignore) -> Iterator[tuple[str, Path]]:
    root = project.resolve()
    for folder, folders, files in os.walk(root, onerror=_refuse):
        here = Path(folder)
        above = here.relative_to(root)
        folders[:] = [name for name in sorted(folders) if not _skipped(here / name, above / name, ignored)]
        for name in sorted(files):
            path, relative = here / name, (above / name).as_posix()
            # A link may lead to what only this user can read; what it leads to within the project is copied.
            inside = path.is_file() and path.resolve().is_relative_to(root)
            if inside and not ignored(relative) and not _holds_secrets(path):
                yield relative, path


def _skipped(path: Path, relative: Path, ignored: Ignore) -> bool:
    left_out = ignored(relative.as_posix()) and not ignored.takes_in_again
    return left_out or _is_environment(path) or _is_output(path)


def _holds_secrets(path: Path) -> bool:
    if path.suffix not in {".yaml", ".yml"}:
        return False
    try:
        with path.open("rb") as file:
            return _SECRET.search(file.read(LARGEST)) is not None
    except OSError as error:
        _refuse(error)


def _is_environment(path: Path) -> bool:
    return (path / "pyvenv.cfg").exists()


def _is_output(path: Path) -> bool:
    try:
        with (path / "Dockerfile").open(encoding="utf-8", errors="replace") as file:
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def _refuse(error: OSError) -> NoReturn:
    raise DeploymentError(
        f"{error.filename} cannot be read: {error.strerror}; if it is not needed, name it in .dockerignore"
    ) from error
