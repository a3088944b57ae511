"""What a deployment counts, and the sums over all processes that serve it.

Each process counts in one block of float64 cells of its own: a mapped file in the `directory` that the workers of one
server share, or plain memory when there is no directory. Writing is `cells[i] += 1`; everything else happens when
somebody reads.

- Nothing is stored twice. A finished run is one increment in the histogram of its status, and all other numbers are
  sums of these cells, so they agree with each other at every moment. A cell is eight aligned bytes, which the processor
  and the kernel's copy move whole: the most that a reader can meet is a run whose seconds are not added yet.
- What a process counted outlives it: its file stays. When too many such files have gathered, a starting process folds
  them into one.
- A process is alive as long as it holds a POSIX record lock (`lockf`) on its file. `flock` would not do: it belongs to
  the open file, which a mapping keeps open and a forked child inherits, so a killed worker would look alive for as long
  as a child of its lives that a native library had forked, unseen by Python. The price of `lockf` is that closing *any*
  descriptor of a file gives up the process's lock on it; therefore a process never opens its own files again (`_own`)
  and only one of its threads at a time touches files (`_files`).
- Readers take no lock. A file appears by renaming, complete and locked; the sum of folded files replaces its
  predecessor by renaming and lists what it contains, so a file that is about to be removed is not counted twice.
"""

import errno
import logging
import math
import mmap
import os
import secrets
import sys
import threading
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2s
from pathlib import Path
from typing import Final, Literal

from asgipipe.service.histogram import BOUNDS, Histogram

if sys.platform != "win32":
    import fcntl

RunStatus = Literal["completed", "failed", "canceled"]

OTHER: Final = "other"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", OTHER)
QUANTILES: Final = ("0.5", "0.95", "0.99")

logger = logging.getLogger(__name__)

_BUCKETS: Final = len(BOUNDS) + 1


# The block of cells


_FINISHED: Final[Mapping[RunStatus, int]] = {"completed": 0, "failed": _BUCKETS, "canceled": 2 * _BUCKETS}
_REQUESTS: Final = 3 * _BUCKETS
_ROW: Final = 501  # a method's requests: first the odd statuses, then 100 to 599
_ROWS: Final = {method: _REQUESTS + row * _ROW for row, method in enumerate(METHODS)}
_OTHER_ROW: Final = _ROWS[OTHER]
_SECONDS: Final = _REQUESTS + len(METHODS) * _ROW
_STARTED: Final = _SECONDS + 1
_LAST: Final = _SECONDS + 2  # when the last run finished, in seconds since 1970
_CAPTURE_WAITS: Final = _SECONDS + 3
_CAPTURE_LOST: Final = _SECONDS + 4
_CELLS: Final = _SECONDS + 5

_LONGEST: Final = 1e9  # seconds; keeps sums finite whatever is passed in
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

_CHUNK: Final = 64  # cells; most of a block is never touched and skipped in chunks

Cells = dict[int, float]  # the cells of a block that are not zero


def _memory() -> "memoryview[float]":
    return memoryview(bytearray(8 * _CELLS)).cast("d")


def _parse(data: bytes) -> Cells:
    """Return the cells in `data`; ValueError when they cannot be counts."""
    cells: Cells = {}
    for start in range(0, _CELLS, _CHUNK):
        chunk = data[8 * start : 8 * (start + _CHUNK)]
        if chunk.strip(b"\0"):
            cells.update((index, value) for index, value in enumerate(memoryview(chunk).cast("d"), start) if value)
    last = cells.pop(_LAST, 0.0)
    if not all(0.0 < value < math.inf for value in cells.values()):
        raise ValueError("it holds numbers that no counter can have")
    if 0.0 < last <= _LATEST:
        cells[_LAST] = last
    return cells


class _Sum:
    """The cells of several processes added up."""

    def __init__(self) -> None:
        self.cells: Cells = {}
        self.in_flight = 0

    def add(self, cells: Cells, *, alive: bool) -> None:
        total = self.cells
        for index, value in cells.items():
            total[index] = max(total.get(index, 0.0), value) if index == _LAST else total.get(index, 0.0) + value
        if alive:
            finished = sum(value for index, value in cells.items() if index < _REQUESTS)
            # Never below zero: a process that was forked inside a run may finish what it did not start.
            self.in_flight += max(0, int(cells.get(_STARTED, 0.0) - finished))

    def pack(self) -> bytes:
        """Return the block of a process that counted all this and has ended."""
        block = array("d", bytes(8 * _CELLS))
        for index, value in self.cells.items():
            block[index] = value
        return block.tobytes()


# The snapshot


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """What all processes of a deployment have counted.

    `total_executions` are the finished runs, the sum of the three after it; runs that timed out are failed ones.
    `in_flight` are the running ones of the living processes. Times are in seconds, averages and quantiles (by name:
    "0.5", "0.95", "0.99") those of the finished runs, None when there are none. `last_execution_time` is when the last
    run finished, RFC 3339 in UTC. `requests` counts answers by method and status, each "other" where it is unusual.
    `capture_waits` is how often a run waited because its record could not be written as fast as it came, `capture_lost`
    how many rows of records could not be written at all.
    """

    total_executions: int
    successful_executions: int
    failed_executions: int
    canceled_executions: int
    in_flight: int
    average_execution_time: float | None
    execution_time_quantiles: Mapping[str, float | None]
    last_execution_time: str | None
    durations: Histogram
    requests: Mapping[tuple[str, str], int]
    capture_waits: int = 0
    capture_lost: int = 0


def _snapshot(total: _Sum) -> MetricsSnapshot:
    cells = total.cells
    buckets = {
        status: [int(cells.get(index, 0.0)) for index in range(first, first + _BUCKETS)]
        for status, first in _FINISHED.items()
    }
    durations = Histogram(tuple(map(sum, zip(*buckets.values(), strict=True))), cells.get(_SECONDS, 0.0))
    finished = sum(durations.counts)
    return MetricsSnapshot(
        total_executions=finished,
        successful_executions=sum(buckets["completed"]),
        failed_executions=sum(buckets["failed"]),
        canceled_executions=sum(buckets["canceled"]),
        in_flight=total.in_flight,
        average_execution_time=durations.seconds / finished if finished else None,
        execution_time_quantiles={name: durations.quantile(float(name)) for name in QUANTILES},
        last_execution_time=_rfc3339(cells[_LAST]) if _LAST in cells else None,
        durations=durations,
        requests=dict(_requests(cells)),
        capture_waits=int(cells.get(_CAPTURE_WAITS, 0.0)),
        capture_lost=int(cells.get(_CAPTURE_LOST, 0.0)),
    )


def _requests(cells: Cells) -> Iterator[tuple[tuple[str, str], int]]:
    for index in sorted(index for index in cells if _REQUESTS <= index < _SECONDS):
        row, status = divmod(index - _REQUESTS, _ROW)
        yield (METHODS[row], str(status + 99) if status else OTHER), int(cells[index])


def _rfc3339(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Counting


class Metrics:
    """The counters of one deployment in this process.

    `deployment` names the deployment among those that share `directory`, a folder on a local disk that exists and that
    only this server's processes write to; best on a file system in memory, where no counter ever waits for a disk.
    Without it, the counts are those of this process.

    The counting methods belong to the thread of the event loop, because `+=` on a cell is not atomic. Another
    thread, such as one that finishes a run which was given up, hands the call over:
    `loop.call_soon_threadsafe(metrics.run_finished, status, seconds, now)`.

    The block is made by `open`, or by the first thing counted, so an object built before a fork shares nothing; one
    that was open gets a new block in the child as soon as it counts. A directory that cannot be used never stops a
    request: the process then counts in memory, and the log says so once.
    """

    __slots__ = ("__weakref__", "_cells", "_directory", "_file")

    def __init__(self, deployment: str, directory: Path | None = None) -> None:
        if directory is not None and sys.platform == "win32":
            logger.warning("%s: /metrics shows each worker alone, because Windows has no record locks", deployment)
            directory = None
        self._directory = None if directory is None else _Directory(directory, deployment)
        self._cells: memoryview[float] | None = None
        self._file: _CellFile | None = None
        _instances.add(self)

    def run_started(self) -> None:
        cells = self._cells
        if cells is None:
            cells = self.open()
        cells[_STARTED] += 1.0

    def run_finished(self, status: RunStatus, seconds: float, now: float) -> None:
        """Count a run that took `seconds`; `now` is the time in seconds since 1970. A time-out is `failed`."""
        cells = self._cells
        if cells is None:
            cells = self.open()
        if not 0.0 <= seconds <= _LONGEST:  # a clock that jumped
            seconds = _LONGEST if seconds > _LONGEST else 0.0
        cells[_FINISHED[status] + bisect_left(BOUNDS, seconds)] += 1.0
        cells[_SECONDS] += seconds
        cells[_LAST] = now

    def request_finished(self, method: str, status: int) -> None:
        cells = self._cells
        if cells is None:
            cells = self.open()
        row = _ROWS.get(method, _OTHER_ROW)
        cells[row + status - 99 if 100 <= status <= 599 else row] += 1.0

    def capture_waited(self) -> None:
        self.open()[_CAPTURE_WAITS] += 1.0

    def capture_lost(self, rows: int) -> None:
        self.open()[_CAPTURE_LOST] += rows

    def open(self) -> "memoryview[float]":
        """Make this process's block, and fold the files of ended ones when there are many; nothing when it is open."""
        with _files:
            if self._cells is None:
                self._file = self._directory.create() if self._directory else None
                self._cells = self._file.cells if self._file else _memory()
            return self._cells

    def close(self) -> None:
        """End this process's part: its counts stay in the directory, its runs are in flight no longer.

        Whatever is counted later opens a new block. Counts in memory simply stay.
        """
        with _files:
            if self._file is not None:
                self._file.close()
                self._file = self._cells = None

    def snapshot(self) -> MetricsSnapshot:
        """Add up all processes. It reads one small file for each, and never raises for what it finds there."""
        total = _Sum()
        with _files:
            if self._cells is not None:
                total.add(_parse(self._cells.tobytes()), alive=True)
            if self._directory is not None:
                self._directory.add_to(total, without=self._file.name if self._file else None)
        return _snapshot(total)

    def _forked(self) -> None:
        if self._file is not None:
            with suppress(BufferError):  # a thread that the fork left behind was reading; the mapping then stays unused
                self._file.close()
        self._file = self._cells = None


# Files


_MAGIC: Final = b"asgipipe cells 1\n"
_LAYOUT: Final = blake2s(repr((BOUNDS, METHODS, _CELLS, sys.byteorder)).encode(), digest_size=16).digest()
_HEADER: Final = 64
_SIZE: Final = _HEADER + 8 * _CELLS
_MOST_ENDED: Final = 64  # files of ended processes, before they are folded
_MOST_REMEMBERED: Final = 1024  # names of folded files
_MOST_NAMES: Final = 128 * _MOST_REMEMBERED  # bytes
_MOST_REPORTS: Final = 20

_files = threading.Lock()  # one thread at a time: record locks do not keep threads of a process apart
_own: "dict[str, _CellFile]" = {}  # the files of this process, by name; reading one through the disk would unlock it
_instances: "weakref.WeakSet[Metrics]" = weakref.WeakSet()


def _after_fork() -> None:
    global _files  # noqa: PLW0603 - its owner may be a thread that does not exist in the child
    _files = threading.Lock()
    for metrics in list(_instances):
        metrics._forked()
    _own.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


def _lock(descriptor: int) -> None:
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_locked(descriptor: int) -> bool:
    """Say whether another process holds the lock. Shared, so that two who ask do not take each other for the owner."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return True
        raise
    return False


class _CellFile:
    """This process's cells in a file, locked for as long as the process lives."""

    __slots__ = ("_descriptor", "_map", "cells", "name")

    def __init__(self, directory: Path, stem: str, header: bytes) -> None:
        self.name = f"{stem}.cells"
        draft = directory / f"{stem}.new"
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _lock(self._descriptor)
            # Written, not only made longer: storing into a hole of a file on a full disk would end the process.
            _write(self._descriptor, header + bytes(_SIZE - _HEADER))
            self._map = mmap.mmap(self._descriptor, _SIZE)
            draft.rename(directory / self.name)
        except BaseException:
            os.close(self._descriptor)
            draft.unlink(missing_ok=True)
            raise
        self.cells = memoryview(self._map)[_HEADER:].cast("d")
        _own[self.name] = self

    def close(self) -> None:
        _own.pop(self.name, None)
        self.cells.release()
        self._map.close()
        os.close(self._descriptor)


@contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    # What is found may be no regular file: do not follow a link, do not wait for a pipe.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class _Folded:
    """The sum of files that are gone or about to go, and their names."""

    cells: Cells
    names: tuple[str, ...]


class _Directory:
    """The files of one deployment in the folder that its processes share."""

    def __init__(self, path: Path, deployment: str) -> None:
        key = blake2s(deployment.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        self._path = path
        self._prefix = f"{key}-"
        self._folded_name = f"{key}.sum"
        self._lock_name = f"{key}.lock"
        self._header = (_MAGIC + _LAYOUT + key.encode()).ljust(_HEADER, b"\0")
        self._reported: set[str] = set()

    def create(self) -> _CellFile | None:
        """Make this process's file; None, and a line in the log, when that is impossible."""
        try:
            file = self._new_file()
        except OSError as error:
            self._report(str(self._path), f"{error.strerror}; this process counts in memory, which others cannot see")
            return None
        try:
            self._fold()
        except OSError as error:
            self._report(self._folded_name, f"ended processes could not be folded: {error.strerror}")
        return file

    def _new_file(self, attempts: int = 3) -> _CellFile:
        try:
            return _CellFile(self._path, f"{self._prefix}{os.getpid()}-{secrets.token_hex(8)}", self._header)
        except (FileNotFoundError, BlockingIOError):
            # A process that folds may be looking at the new file, or have taken it for an abandoned one.
            if attempts == 1:
                raise
            return self._new_file(attempts - 1)

    def add_to(self, total: _Sum, *, without: str | None) -> None:
        """Add every process's counts but those in the file called `without`, which the caller has already."""
        members = {name: member for name in self._names(".cells") if name != without and (member := self._member(name))}
        # Read last: a file folded in the meantime is either gone from `members` or listed here.
        folded = self._folded()
        total.add(folded.cells, alive=False)
        for name, (cells, alive) in members.items():
            if name not in folded.names:
                total.add(cells, alive=alive)

    def _names(self, suffix: str) -> list[str]:
        try:
            names = [path.name for path in self._path.iterdir()]
        except OSError as error:
            self._report(str(self._path), f"{error.strerror}; only this process is counted")
            return []
        return sorted(name for name in names if name.startswith(self._prefix) and name.endswith(suffix))

    def _member(self, name: str) -> tuple[Cells, bool] | None:
        """Return what one process counted and whether it is alive; None when that cannot be read."""
        own = _own.get(name)
        if own is not None:
            return _parse(own.cells.tobytes()), True
        try:
            with _opened(self._path / name) as descriptor:
                cells = self._unpack(os.pread(descriptor, _SIZE + 1, 0))
                return cells, _is_locked(descriptor)
        except FileNotFoundError:  # folded since the directory was listed
            return None
        except (OSError, ValueError) as error:
            self._report(name, f"{error}; it is not counted")
            return None

    def _folded(self) -> _Folded:
        try:
            with _opened(self._path / self._folded_name) as descriptor:
                data = os.pread(descriptor, _SIZE + _MOST_NAMES, 0)
            return _Folded(self._unpack(data[:_SIZE]), tuple(data[_SIZE:].decode("ascii").split()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._report(self._folded_name, f"{error}; it is not counted")
        return _Folded({}, ())

    def _unpack(self, data: bytes) -> Cells:
        if len(data) != _SIZE:
            raise ValueError(f"it has not the {_SIZE} bytes of a file of counters")
        if not data.startswith(self._header):
            raise ValueError("it is not a file of this deployment, or another version of asgipipe wrote it")
        return _parse(data[_HEADER:])

    def _fold(self) -> None:
        """Put the counts of ended processes into one file when there are more than `_MOST_ENDED` of them."""
        if len(self._names(".cells")) <= _MOST_ENDED:
            return
        with _opened(self._path / self._lock_name, os.O_RDWR | os.O_CREAT) as descriptor:
            try:
                _lock(descriptor)
            except BlockingIOError:  # another process is folding
                return
            self._fold_ended()

    def _fold_ended(self) -> None:
        ended: dict[str, Cells] = {}
        for name in self._names(".cells"):
            member = self._member(name)
            if member is not None and not member[1] and len(ended) < _MOST_REMEMBERED // 2:
                ended[name] = member[0]
        if len(ended) <= _MOST_ENDED:
            return
        folded = self._folded()
        total = _Sum()
        total.add(folded.cells, alive=False)
        for name, cells in ended.items():
            if name not in folded.names:  # left behind by a process that was killed here
                total.add(cells, alive=False)
        earlier = [name for name in folded.names if name not in ended]
        self._replace_folded(total, [*ended, *earlier][:_MOST_REMEMBERED])
        for name in ended:
            (self._path / name).unlink(missing_ok=True)
        self._remove_drafts()

    def _replace_folded(self, total: _Sum, names: list[str]) -> None:
        draft = self._path / f"{self._folded_name}.new"
        with _opened(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            _write(descriptor, self._header + total.pack() + "\n".join(names).encode())
        draft.replace(self._path / self._folded_name)

    def _remove_drafts(self) -> None:
        """Remove what processes left behind that were killed while they made their file."""
        for name in self._names(".new"):
            with suppress(FileNotFoundError), _opened(self._path / name) as descriptor:
                # One that is not locked yet may lose its file here; it then counts in a new one.
                if not _is_locked(descriptor):
                    (self._path / name).unlink()

    def _report(self, subject: str, problem: str) -> None:
        """Log each problem once, and no more than `_MOST_REPORTS` of them."""
        line = f"{subject}: {problem}"
        if line not in self._reported and len(self._reported) < _MOST_REPORTS:
            self._reported.add(line)
            logger.warning("metrics: %s", line)
