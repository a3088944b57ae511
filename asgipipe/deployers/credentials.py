"""The keys of deployments that this user has, in a file that nobody else may read."""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from asgipipe.errors import DeploymentError
from asgipipe.stores.sqlite.places import flush, make_folder

CONFIG_DIR = "ASGIPIPE_CONFIG_DIR"
"""The variable that names the folder, where it is not to be the usual one of the system."""

MOST = 1000
"""Keys that are kept; beyond, those that were put first are forgotten."""

_LARGEST = 1024 * 1024
_PATIENCE = 5.0
"""Seconds to wait for another process that writes, which takes milliseconds."""
_INTERVAL = 0.02


class Credentials:
    """The keys, by the id of their deployment; every method reads or writes the file anew.

    `folder` is where the file is, by default the user's own for settings. Nothing is made before the first `put`. Every
    method raises DeploymentError when the file cannot be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<credentials in {self._folder or 'the usual folder'}>"

    @property
    def place(self) -> Path:
        return (self._folder or _usual_folder()) / "credentials.json"

    def get(self, deployment_id: str) -> str | None:
        return self._keys().get(deployment_id)

    def put(self, deployment_id: str, key: str) -> None:
        with self._locked():
            keys = {known: value for known, value in self._keys().items() if known != deployment_id}
            self._write({**keys, deployment_id: key})

    def remove(self, deployment_id: str) -> None:
        if self.get(deployment_id) is None:
            return
        with self._locked():
            self._write({known: value for known, value in self._keys().items() if known != deployment_id})

    def _keys(self) -> Mapping[str, str]:
        try:
            with self.place.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._refusal(f"cannot be read: {error.strerror}") from None
        try:
            found = json.loads(data) if len(data) <= _LARGEST else None
        except ValueError:
            found = None
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
            raise self._refusal("is no file of ours: move it away, or give ASGIPIPE_CONFIG_DIR another folder")
        return keys

    def _write(self, keys: Mapping[str, str]) -> None:
        newest = dict(list(keys.items())[-MOST:])
        folder = self.place.parent
        try:
            # A file of mkstemp's is this user's alone from its first byte on.
            descriptor, written = tempfile.mkstemp(prefix=".credentials-", dir=folder)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump({"keys": newest}, file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                Path(written).replace(self.place)
            except BaseException:
                Path(written).unlink(missing_ok=True)
                raise
            flush(folder)
        except OSError as error:
            raise self._refusal(f"cannot be written: {error.strerror}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers out: each would put back what it has read before."""
        try:
            make_folder(self.place.parent)
            descriptor = os.open(self.place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._refusal(f"cannot be written: {error.strerror}") from None
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._refusal("is being written by another process; try again") from None
                time.sleep(_INTERVAL)
            else:
                return

    def _refusal(self, reason: str) -> DeploymentError:
        return DeploymentError(f"{self.place} {reason}")


def _usual_folder() -> Path:
    """Return the folder of the system for a user's settings, as `click.get_app_dir` has it."""
    given = os.environ.get(CONFIG_DIR)
    if given:
        return Path(given)
    if sys.platform == "win32":
        above = os.environ.get("APPDATA") or "~"
    elif sys.platform == "darwin":
        above = "~/Library/Application Support"
    else:
        above = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(above).expanduser() / "asgipipe"
    except RuntimeError:
        raise DeploymentError(f"this user has no home folder: set {CONFIG_DIR} to a folder for keys") from None
