"""Large payloads, in files that are named by what is in them."""

import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from asgipipe.errors import StoreError
from asgipipe.settings.stores import MEMORY, is_postgresql

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

GRACE = 3600.0
"""Seconds that a file is kept after it was last asked for, though no row names it: its row may be on the way."""


def content_hash(body: bytes) -> str:
    return sha256(body).hexdigest()


class ArtifactFiles(ABC):
    """A folder of files; its methods block, so they are called in a thread of their own. They raise OSError."""

    @abstractmethod
    def put(self, body: bytes) -> str:
        """Keep a payload and return its hash; it is there, whole, when this returns."""

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """Return the payload of that hash, None when it is gone."""

    @abstractmethod
    def delete(self, name: str) -> bool:
        """Delete a file that no row names; return False when it was asked for of late, to be tried again later."""


class Folder(ArtifactFiles):
    """Files on a disk, in 256 folders. Nothing is made before the first payload."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def put(self, body: bytes) -> str:
        name = content_hash(body)
        path = self._file(name)
        if path.exists():
            os.utime(path)
            return name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return name

    def get(self, name: str) -> bytes | None:
        try:
            return self._file(name).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> bool:
        path = self._file(name)
        try:
            if self._clock() - path.stat().st_mtime < GRACE:
                return False
            path.unlink()
        except FileNotFoundError:
            pass
        return True

    def _file(self, name: str) -> Path:
        return self._path / name[:2] / f"{name}.json"


class RemoteFolder(ArtifactFiles):
    """Files where fsspec finds them; every payload is written anew, so that its time says when it was asked for."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._system, self._root = _file_system(url)
        self._clock = clock

    def put(self, body: bytes) -> str:
        name = content_hash(body)
        path = self._file(name)
        self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(path, body)
        return name

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self._system.cat_file(self._file(name)))
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> bool:
        path = self._file(name)
        try:
            if self._clock() - self._system.modified(path).timestamp() < GRACE:
                return False
            self._system.rm_file(path)
        except FileNotFoundError:
            pass
        return True

    def _file(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name[:2]}/{name}.json"


def keeps_files(artifact_url: str | None, store_url: str | None) -> bool:
    """Say whether large payloads are kept in files: PostgreSQL and memory keep them themselves unless told where."""
    return artifact_url is not None or not (store_url == MEMORY or is_postgresql(store_url or ""))


def artifact_files(artifact_url: str | None, place: str) -> ArtifactFiles:
    """Return the files of an `artifact_url`; without one the folder `artifacts` beside the store's file, its `place`.

    Raises StoreError when what a URL needs is not installed.
    """
    if artifact_url is None:
        return Folder(Path(place).parent / "artifacts")
    return RemoteFolder(artifact_url) if "://" in artifact_url else Folder(Path(artifact_url).expanduser().absolute())


def _file_system(url: str) -> "tuple[AbstractFileSystem, str]":
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise StoreError(f"artifact_url {url} needs fsspec: pip install fsspec ({error})") from error
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(f"artifact_url {url}: {error}") from error
    return system, path
