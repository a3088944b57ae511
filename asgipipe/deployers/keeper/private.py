"""A folder of this user's on this machine, for what does not fit into the folder of a project."""

import os
import stat
import tempfile
from pathlib import Path

from asgipipe.errors import DeploymentError


def private_folder() -> Path:
    """Return a folder that only this user can enter. Raises DeploymentError when somebody else was there first."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and Path(given).is_dir() and os.access(given, os.W_OK):
        folder = Path(given, "asgipipe")
    else:
        folder = Path(tempfile.gettempdir(), f"asgipipe-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise DeploymentError(f"the folder {folder} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise DeploymentError(f"{folder} is not a folder that this user alone can enter: remove it")
    return folder
