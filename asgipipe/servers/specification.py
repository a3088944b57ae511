"""What the processes of one `asgipipe serve` command share: a private file, named in the environment.

A worker, or the process that `--reload` starts anew, reads the file, loads the targets and resolves the settings
itself, so it sees what was edited meanwhile. The file holds strings only.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from asgipipe.errors import ServerError

VARIABLE = "ASGIPIPE_SPECIFICATION"


@dataclass(frozen=True, slots=True)
class Specification:
    """One command line, as strings.

    `values` are settings given on the command line, by field; `generated_key` is the key of deployments that ask
    for a made-up one; `metrics_directory` is where the workers put the counters they share; `directory` is the private
    folder that holds this file, None before there is one.
    """

    targets: tuple[str, ...]
    config_file: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    generated_key: str | None = None
    metrics_directory: str | None = None
    directory: str | None = None

    def __repr__(self) -> str:  # values and generated_key may be secret
        return f"<specification of {', '.join(self.targets)}>"


def read() -> Specification:
    """Read the specification that the environment names.

    Raises ServerError when there is none: the application was not started by `asgipipe serve`.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        raise ServerError(f"the environment variable {VARIABLE} is not set; use 'asgipipe serve' to start the server")
    try:
        members = json.loads(Path(place).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ServerError(f"the specification {place} that {VARIABLE} names cannot be read: {error}") from error
    return Specification(**{**members, "targets": tuple(members["targets"])})


def write(specification: Specification) -> None:
    """Write `specification` into its directory, readable by this user only, and name the file in the environment."""
    if specification.directory is None:
        raise ValueError("a specification is written into a directory of its own")
    path = Path(specification.directory, "specification.json")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(specification), file)
    os.environ[VARIABLE] = str(path)


def share(specification: Specification, folder: Path) -> None:
    """Put `specification` into the private `folder`, where its workers also put their counters."""
    metrics = folder / "metrics"
    metrics.mkdir(mode=0o700)
    write(replace(specification, directory=str(folder), metrics_directory=str(metrics)))


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """A folder that only this user can enter; it is gone afterwards, and so is its name in the environment."""
    folder = Path(tempfile.mkdtemp(prefix="asgipipe-"))
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove the private `folder`, and its name from the environment."""
    os.environ.pop(VARIABLE, None)
    shutil.rmtree(folder, ignore_errors=True)


# The first failure of a worker, for the one message of the parent's


def report_failure(directory: str, message: str) -> None:
    """Leave `message` for the parent process; the first of several workers wins."""
    with contextlib.suppress(OSError):
        descriptor, written = tempfile.mkstemp(dir=directory)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(message)
        # The parent finds a whole message or none: the end of another worker may make it look at any moment.
        os.link(written, Path(directory, "failure"))


def reported_failure(directory: str) -> str | None:
    """Return what a worker left with `report_failure`, once."""
    path = Path(directory, "failure")
    try:
        message = path.read_text(encoding="utf-8")
    except OSError:
        return None
    path.unlink(missing_ok=True)
    return message
