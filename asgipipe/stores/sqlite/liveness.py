"""Which workers of this machine live: each holds a lock on one byte of a file, which ends with its process.

POSIX record locks are not inherited by forked children, and are released by the kernel however a process ends, kill -9
included; so there is no clock to trust, and nothing to renew. Two of their properties shape this module: a process's
own locks never stand in its way, so what it holds has to be remembered; and closing any descriptor of the file releases
all of the process's locks on it, so that a process opens it once, whoever uses it there.
"""

import os
import sys
import threading
from collections.abc import Collection
from pathlib import Path


class LockFile:
    """The locks of one file; `hold` and `dead` may be called on any thread."""

    def __init__(self, path: Path) -> None:
        self.users = 0
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def hold(self, number: int) -> None:
        """Make worker `number` known as alive until `release`; raises OSError when another process holds it."""
        with self._lock:
            self._at(number, os.F_TLOCK)
            self._held.add(number)

    def release(self, number: int) -> None:
        with self._lock:
            self._held.discard(number)
            self._at(number, os.F_ULOCK)

    def dead(self, numbers: Collection[int]) -> set[int]:
        with self._lock:
            return {number for number in numbers if number not in self._held and self._is_free(number)}

    def close(self) -> None:
        os.close(self._descriptor)

    def _is_free(self, number: int) -> bool:
        try:
            self._at(number, os.F_TEST)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: somebody holds it
            return False
        return True

    def _at(self, number: int, command: int) -> None:
        os.lseek(self._descriptor, number, os.SEEK_SET)
        os.lockf(self._descriptor, command, 1)


_files: dict[Path, LockFile] = {}
_opening = threading.Lock()


class Workers:
    """The workers that one database registered; `path` None: nobody else knows of them.

    The file is opened by the first call that needs it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._numbers: set[int] = set()
        self._locks: LockFile | None = None

    def add(self, number: int) -> None:
        if self._path is not None:
            self._file(self._path).hold(number)
        self._numbers.add(number)

    def dead(self, numbers: Collection[int]) -> set[int]:
        return self._file(self._path).dead(numbers) if self._path is not None else set(numbers) - self._numbers

    def close(self) -> None:
        locks, self._locks = self._locks, None
        if locks is not None:
            for number in self._numbers:
                locks.release(number)
            _close(locks)

    def _file(self, path: Path) -> LockFile:
        if self._locks is None:
            self._locks = _open(path)
        return self._locks


def _open(path: Path) -> LockFile:
    """Return the locks of a file, made if need be: the same ones to everybody in this process."""
    path = path.resolve()
    with _opening:
        locks = _files.get(path)
        if locks is None:
            locks = _files[path] = LockFile(path)
        locks.users += 1
    return locks


def _close(locks: LockFile) -> None:
    """Let go of locks; the last one to do so closes the file."""
    with _opening:
        locks.users -= 1
        if locks.users:
            return
        for path in [path for path, known in _files.items() if known is locks]:
            del _files[path]
            locks.close()


def _forget_parent() -> None:
    """Start anew in a forked child: it holds none of its parent's locks, and a lost thread may hold `_opening`."""
    global _opening  # noqa: PLW0603  # a lock that may be held for ever cannot be mended
    for locks in _files.values():
        locks.close()
    _files.clear()
    _opening = threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_parent)
