import asyncio
import itertools
import logging
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asgipipe.errors import StorageFullError, UnavailableError
from asgipipe.stores.database import Operation, Transaction
from asgipipe.stores.registry import database
from asgipipe.stores.sqlite import SQLiteDatabase, watcher
from tests.stores.sqlite.faults import PATIENCE, Disk, locked, process, until

SMALL = b"{}"


def insert(number: int, data: bytes = SMALL) -> Operation[int]:
    sql = "INSERT INTO events (job_id, id, type, at, data) VALUES ('a', ?, 'log', 0, ?) ON CONFLICT DO NOTHING"
    return lambda transaction: transaction.change(sql, number, data)


def kept(transaction: Transaction) -> list[int]:
    return [int(number or 0) for (number,) in transaction.rows("SELECT id FROM events ORDER BY id")]


@asynccontextmanager
async def opened(made: SQLiteDatabase) -> AsyncIterator[SQLiteDatabase]:
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".asgipipe" / "store.db"


# Files


def test_nobody_else_may_read_it(path: Path) -> None:
    """The folder is made with 0700, and every file of the store with 0600, whatever the umask is."""

    async def scenario() -> list[tuple[str, int]]:
        async with opened(SQLiteDatabase(path)) as made:
            await made.register()
            await made.write(insert(1))
            return [(each.name, stat.S_IMODE(each.stat().st_mode)) for each in path.parent.iterdir()]

    umask = os.umask(0o000)
    try:
        modes = asyncio.run(scenario())
    finally:
        os.umask(umask)
    assert sorted(modes) == [(name, 0o600) for name in ("store.db", "store.db-shm", "store.db-wal", "store.db-workers")]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_existing_folder_keeps_its_rights(tmp_path: Path) -> None:
    """A folder that is there is used as it is."""
    tmp_path.chmod(0o755)

    async def scenario() -> None:
        async with opened(SQLiteDatabase(tmp_path / "store.db")):
            pass

    asyncio.run(scenario())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_nothing_is_made_before_it_is_opened(path: Path) -> None:
    """Making a database and asking whether it exists leaves no folder behind."""
    made = database(str(path))
    assert not made.exists()
    assert not path.parent.exists()


def test_memory_leaves_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in memory exists while it is open, and makes no file."""
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        made = database("memory:")
        assert not made.exists()
        await made.open()
        assert made.exists()
        await made.write(insert(1))
        assert await made.read(kept) == [1]
        await made.close()
        assert not made.exists()

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no file can be made the error is a 503 that does not tell the path; the log does."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")

    async def scenario() -> None:
        with pytest.raises(UnavailableError) as caught:
            await SQLiteDatabase(blocked / "store.db").open()
        assert str(tmp_path) not in caught.value.detail

    asyncio.run(scenario())
    assert str(blocked / "store.db") in caplog.text
    assert blocked.read_text() == "in the way"


def test_the_log_does_not_repeat_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture, path: Path) -> None:
    """Failures that go on for long make one line, and the recovery another."""
    disk = Disk()

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, factory=disk.factory())) as made:
            disk.faults = {"COMMIT": sqlite3.SQLITE_IOERR_WRITE}
            for number in range(5):
                with pytest.raises(UnavailableError):
                    await made.write(insert(number))
            disk.faults = {}
            await made.write(insert(9))

    with caplog.at_level(logging.INFO, "asgipipe.stores"):
        asyncio.run(scenario())
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        f"the store {path} does not work",
        f"the store {path} works again",
    ]


def test_a_file_that_is_deleted_in_use_is_made_anew(path: Path) -> None:
    """After somebody has deleted the folder, what is acknowledged is in a file that has the name."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made:
            await made.write(insert(1))
            assert await made.read(kept) == [1]
            shutil.rmtree(path.parent)
            assert await made.write(insert(2)) == 1
            assert await made.read(kept) == [2]

    asyncio.run(scenario())
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT id FROM events").fetchall() == [(2,)]
    connection.close()


# Durability


WRITE_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from asgipipe.stores.sqlite import SQLiteDatabase

async def main():
    database = SQLiteDatabase(Path(sys.argv[1]))
    await database.open()
    sql = "INSERT INTO events (job_id, id, type, at, data) VALUES (?, ?, 'log', 0, x'')"
    async def client(name):
        for number in range(10**9):
            await database.write(lambda transaction: transaction.change(sql, name, number))
            print(name, number, flush=True)
    await asyncio.gather(*(client(str(n)) for n in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_outlives_a_kill(path: Path) -> None:
    """After kill -9 in the middle of many commits, everything that was acknowledged is there."""
    with process(WRITE_UNTIL_KILLED, path) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(200)]
        writer.kill()
        acknowledged += writer.stdout.readlines()
    pairs = {tuple(line.split()) for line in acknowledged if line.endswith("\n")}

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made:
            rows = await made.read(lambda transaction: transaction.rows("SELECT job_id, id FROM events"))
            assert pairs <= {(name, str(number)) for name, number in rows}
            assert await made.read(lambda transaction: transaction.row("PRAGMA integrity_check")) == ("ok",)

    asyncio.run(scenario())
    assert len(pairs) >= 200


def test_commits_are_flushed(path: Path) -> None:
    """The writer's connection has the log, and flushes every commit to the disk."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made:
            assert await made.write(lambda transaction: transaction.row("PRAGMA journal_mode")) == ("wal",)
            assert await made.write(lambda transaction: transaction.row("PRAGMA synchronous")) == (2,)

    asyncio.run(scenario())


# Row 16


@pytest.mark.parametrize("together", [False, True])
def test_a_full_disk_refuses_and_recovers(path: Path, together: bool) -> None:
    """Where the file may not grow, what needs room gets 507 and changes nothing; with room again, it is kept."""
    disk = Disk()
    large = bytes(100_000)

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, factory=disk.factory())) as made:
            disk.pages = 60
            if together:
                outcomes = [made.enqueue(insert(number, large), urgent=False) for number in range(5)]
                results = await asyncio.gather(*map(asyncio.wrap_future, outcomes), return_exceptions=True)
            else:
                results = await asyncio.gather(
                    *(made.write(insert(number, large)) for number in range(5)), return_exceptions=True
                )
            done = [number for number, result in enumerate(results) if result == 1]
            refused = [result for result in results if isinstance(result, StorageFullError)]
            assert len(done) + len(refused) == 5
            assert refused
            assert refused[0].status == 507
            assert await made.read(kept) == done
            disk.pages = None
            assert await made.write(insert(9, large)) == 1
            assert await made.read(kept) == [*done, 9]

    asyncio.run(scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """On a disk of 1 MiB that others have filled, writes get 503 or 507 and reads are answered; it recovers."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(small_disk / "store.db")) as made:
            await made.write(insert(0))
            ballast = small_disk / "ballast"
            with pytest.raises(OSError, match="No space left"):
                ballast.write_bytes(bytes(2**21))
            done = [0]
            for number in range(1, 4):
                try:
                    await made.write(insert(number, bytes(50_000)))
                except (StorageFullError, UnavailableError):
                    continue
                done.append(number)
            assert len(done) < 4
            assert await made.read(kept) == done
            ballast.unlink()
            assert await made.write(insert(9, bytes(50_000))) == 1
            assert await made.read(kept) == [*done, 9]

    asyncio.run(scenario())


# Row 17


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT])
def test_an_io_error_is_never_acknowledged(path: Path, code: int, late: bool) -> None:
    """A commit that the disk reports an error for gets 503, each of its operations; a new connection goes on."""
    disk = Disk(late=late)

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, factory=disk.factory())) as made:
            before = disk.connections
            disk.faults = {"COMMIT": code}
            results = await asyncio.gather(
                *(made.write(insert(number)) for number in range(3)),
                *(asyncio.wrap_future(made.enqueue(insert(number), urgent=False)) for number in range(3, 6)),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [UnavailableError] * 6
            disk.faults = {}
            assert await made.write(insert(9)) == 1
            assert disk.connections > before
            assert 9 in await made.read(kept)

    asyncio.run(scenario())


FAILING_FSYNC = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int failing(void) { return access(getenv("FSYNC_FAILS"), F_OK) == 0; }
int fsync(int fd) { (void)fd; if (failing()) { errno = EIO; return -1; } return 0; }
int fdatasync(int fd) { return fsync(fd); }
"""

WRITE_LINE_BY_LINE = """
import asyncio, sys
from pathlib import Path
from asgipipe.stores.sqlite import SQLiteDatabase

async def main():
    database = SQLiteDatabase(Path(sys.argv[1]))
    await database.open()
    sql = "INSERT INTO events (job_id, id, type, at, data) VALUES ('a', ?, 'log', 0, x'')"
    print("open", flush=True)
    for line in sys.stdin:
        try:
            await database.write(lambda transaction: transaction.change(sql, int(line)))
        except Exception as error:
            print(type(error).__name__, flush=True)
        else:
            print("done", flush=True)

asyncio.run(main())
"""


def test_a_flush_that_really_fails(path: Path, tmp_path: Path) -> None:
    """Where the system's own fsync reports EIO, nothing is acknowledged; when it works again, writes are."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no compiler")
    source, library, switch = tmp_path / "fsync.c", tmp_path / "fsync.so", tmp_path / "fails"
    source.write_text(FAILING_FSYNC)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    environment = os.environ | {"LD_PRELOAD": str(library), "FSYNC_FAILS": str(switch)}
    with process(WRITE_LINE_BY_LINE, path, environment=environment) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        answers = [writer.stdout.readline()]
        for number in range(6):
            if number == 2:
                switch.touch()
            if number == 4:
                switch.unlink()
            writer.stdin.write(f"{number}\n")
            writer.stdin.flush()
            answers.append(writer.stdout.readline())
    assert [answer.strip() for answer in answers] == ["open", "done", "done", *["UnavailableError"] * 2, "done", "done"]
    with sqlite3.connect(path) as connection:
        assert {0, 1, 4, 5} <= {number for (number,) in connection.execute("SELECT id FROM events")}
    connection.close()


# Row 18


def test_a_lock_of_another_process_is_waited_for_in_vain(path: Path) -> None:
    """While another process holds the write lock, writes get 503 in bounded time, reads and the loop go on."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, lock_wait=0.1, patience=0.2)) as made:
            await made.write(insert(0))
            with locked(path) as release:
                ticks = 0
                begun = time.monotonic()
                waiting = [asyncio.create_task(made.write(insert(number))) for number in range(1, 4)]
                while not all(task.done() for task in waiting):
                    assert await made.read(kept) == [0]
                    await asyncio.sleep(0.001)
                    ticks += 1
                assert [type(task.exception()) for task in waiting] == [UnavailableError] * 3
                assert time.monotonic() - begun >= 0.2
                assert ticks > 20
                await asyncio.to_thread(release)
                assert await made.write(insert(9)) == 1
            assert await made.read(kept) == [0, 9]

    asyncio.run(scenario())


def test_a_lock_that_is_released_in_time_is_waited_for(path: Path) -> None:
    """A write goes on as soon as the other process has released its lock, also after more than one try."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, lock_wait=0.05, patience=30)) as made:
            with locked(path) as release:
                waiting = asyncio.create_task(made.write(insert(1)))
                await asyncio.sleep(0.3)
                assert not waiting.done()
                await asyncio.to_thread(release)
                assert await waiting == 1

    asyncio.run(scenario())


def test_a_close_is_not_kept_waiting(path: Path) -> None:
    """With the database locked by another process, a close gives up what is queued after one patience."""

    async def scenario() -> None:
        made = SQLiteDatabase(path, lock_wait=0.05, patience=0.1)
        await made.open()
        with locked(path):
            futures = [made.enqueue(insert(number), urgent=False) for number in range(3000)]  # three groups
            await made.close()
        assert {type(future.exception(0)) for future in futures} == {UnavailableError}

    asyncio.run(scenario())


# Bounds


def test_the_queue_is_bounded(path: Path) -> None:
    """A queue that holds 20,000 operations refuses the next one with 503, and takes more later."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made:
            begun, release = threading.Event(), threading.Event()
            made.enqueue(lambda _: (begun.set(), release.wait(PATIENCE)))
            await asyncio.to_thread(begun.wait, PATIENCE)
            futures = [made.enqueue(lambda _: None) for _ in range(20_001)]
            with pytest.raises(UnavailableError, match="keep up"):
                futures[-1].result(0)
            release.set()
            await asyncio.wrap_future(futures[-2])
            assert await made.write(insert(1)) == 1

    asyncio.run(scenario())


def test_unhurried_operations_share_a_commit(path: Path) -> None:
    """Operations that are not urgent wait for each other; an urgent one takes all that wait with it at once."""
    disk = Disk()

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, factory=disk.factory(), gather=30)) as made:
            waiting = [made.enqueue(insert(number), urgent=False) for number in range(5)]
            await asyncio.sleep(0.05)
            assert not any(future.done() for future in waiting)
            await made.write(insert(9))
            assert all(future.done() for future in waiting)
            assert await made.read(kept) == [0, 1, 2, 3, 4, 9]

    asyncio.run(scenario())


def test_the_loop_is_woken_once_for_a_group(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many coroutines wait for a commit, the event loop is woken about once for all of them."""

    async def scenario() -> int:
        async with opened(SQLiteDatabase(path)) as made:
            loop = asyncio.get_running_loop()
            wakes = 0
            wake: Callable[..., asyncio.Handle] = loop.call_soon_threadsafe

            def counted(*args: object) -> asyncio.Handle:
                nonlocal wakes
                wakes += 1
                return wake(*args)

            monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
            made.enqueue(lambda _: time.sleep(0.1))
            await asyncio.gather(*(made.write(insert(number)) for number in range(500)))
            return wakes

    assert asyncio.run(scenario()) <= 3


# Forks


FORK = """
import asyncio, os, sys
from pathlib import Path
from asgipipe.errors import StoreError, UnavailableError
from asgipipe.stores.sqlite import SQLiteDatabase

SQL = "INSERT INTO events (job_id, id, type, at, data) VALUES ('a', ?, 'log', 0, x'')"
database = SQLiteDatabase(Path(sys.argv[1]))
opened_before = sys.argv[2] == "opened"

async def work(first):
    await database.open()
    worker = await database.register()
    await asyncio.gather(*(
        database.write(lambda transaction, n=n: transaction.change(SQL, n)) for n in range(first, first + 50)
    ))
    assert await database.dead([worker]) == set()
    await database.close()

async def refused():
    calls = [
        (lambda: database.write(lambda transaction: None), UnavailableError),
        (lambda: database.read(lambda transaction: None), UnavailableError),
        (lambda: asyncio.wrap_future(database.enqueue(lambda transaction: None)), UnavailableError),
        (database.register, UnavailableError),
        (database.open, StoreError),
        (SQLiteDatabase(Path(sys.argv[1])).open, StoreError),
    ]
    for call, expected in calls:
        try:
            await call()
        except expected:
            continue
        raise RuntimeError("the file was used")
    await database.close()

async def main():
    if opened_before:
        await database.open()
        await database.register()
        await database.read(lambda transaction: None)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
child = os.fork()
if child == 0:
    try:
        asyncio.run(refused() if opened_before else work(100))
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    sys.exit(0)  # collects what there is, the connections of the parent if it can
loop.run_until_complete(work(200))
status = os.waitpid(child, 0)[1]
loop.close()
sys.exit(status != 0)
"""


@pytest.mark.parametrize(
    ("when", "numbers"), [("made", [*range(100, 150), *range(200, 250)]), ("opened", range(200, 250))]
)
def test_a_fork_harms_nothing(path: Path, when: str, numbers: Sequence[int]) -> None:
    """What was made before a fork is opened after it by both; where it was open, the child is refused in every way."""
    with process(FORK, path, when) as parent:
        assert parent.stdout is not None
        assert (parent.stdout.read(), parent.wait()) == ("", 0)

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made:
            assert await made.read(kept) == list(numbers)
            assert await made.read(lambda transaction: transaction.row("PRAGMA integrity_check")) == ("ok",)

    asyncio.run(scenario())


# Workers


WORK = """
import asyncio, os, signal, sys
from pathlib import Path
from asgipipe.stores.sqlite import SQLiteDatabase

async def main():
    database = SQLiteDatabase(Path(sys.argv[1]))
    await database.open()
    print(await database.register(), flush=True)
    child = os.fork()
    if child == 0:
        signal.pause()
    print(child, flush=True)
    signal.pause()

asyncio.run(main())
"""


def test_a_killed_worker_is_dead_at_once(path: Path) -> None:
    """A worker of another process is dead as soon as that was killed, although a child that it forked lives on."""

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made:
            with process(WORK, path) as worker:
                assert worker.stdout is not None
                number = int(await asyncio.to_thread(worker.stdout.readline))
                child = int(await asyncio.to_thread(worker.stdout.readline))
                try:
                    mine = await made.register()
                    assert await made.dead([number, mine]) == set()
                    os.kill(worker.pid, signal.SIGSTOP)
                    assert await made.dead([number, mine]) == set()
                    worker.kill()
                    worker.wait()
                    os.kill(child, 0)
                    assert await made.dead([number, mine]) == {number}
                finally:
                    os.kill(child, signal.SIGKILL)

    asyncio.run(scenario())


def test_closing_one_database_leaves_the_workers_of_another(path: Path) -> None:
    """Two databases of one process share the locks: closing one does not release those of the other."""
    ask = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom asgipipe.stores.sqlite import SQLiteDatabase\n"
        "async def main():\n"
        "    database = SQLiteDatabase(Path(sys.argv[1]))\n    await database.open()\n"
        "    print(*sorted(await database.dead(map(int, sys.argv[2:]))))\n    await database.close()\n"
        "asyncio.run(main())\n"
    )

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as first:
            living = await first.register()
            async with opened(SQLiteDatabase(path)) as second:
                gone = await second.register()
                assert await first.dead([living, gone]) == set()
            assert await first.dead([living, gone]) == {gone}
            with process(ask, path, living, gone) as other:
                assert other.stdout is not None
                assert await asyncio.to_thread(other.stdout.read) == f"{gone}\n"

    asyncio.run(scenario())


def test_workers_that_ended_are_forgotten(path: Path) -> None:
    """The table of workers does not grow with restarts, and no number is given twice."""

    async def scenario() -> None:
        numbers = []
        for _ in range(5):
            async with opened(SQLiteDatabase(path)) as made:
                numbers.append(await made.register())
        async with opened(SQLiteDatabase(path, clock=lambda: 42.0)) as made:
            await made.register()
            rows = await made.read(lambda transaction: transaction.rows("SELECT pid, started_at FROM workers"))
            assert rows == [(os.getpid(), 42.0)]
        assert len(set(numbers)) == 5

    asyncio.run(scenario())


# Watching


def test_nobody_looks_while_nobody_watches(path: Path) -> None:
    """The thread that looks for changes lives as long as somebody watches."""
    disk = Disk()

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, factory=disk.factory())) as made:
            before = disk.connections
            ends = [made.watch(lambda: None), made.watch(lambda: None)]
            until(lambda: disk.connections == before + 1)
            ends[0]()
            ends[0]()
            assert "asgipipe-store-watch" in _threads()
            ends[1]()
            until(lambda: "asgipipe-store-watch" not in _threads())
            calls: list[int] = []
            made.watch(lambda: calls.append(1))
            until(lambda: bool(calls))

    asyncio.run(scenario())


def test_watching_outlives_a_failing_disk(path: Path) -> None:
    """When the database cannot be read for a while, changes are told of again afterwards."""
    disk = Disk()
    calls: list[int] = []

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, factory=disk.factory(), watch_interval=0.005)) as made:
            made.watch(lambda: calls.append(1))
            until(lambda: bool(calls))
            disk.faults = {"PRAGMA data_version": sqlite3.SQLITE_IOERR_READ}
            until(lambda: len(calls) > 1)
            disk.faults = {}
            until(lambda: len(calls) > 2)
            async with opened(SQLiteDatabase(path)) as other:
                seen = len(calls)
                await other.write(insert(1))
                until(lambda: len(calls) > seen)

    asyncio.run(scenario())


def test_own_commits_are_no_news(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches is not called after commits over the same database."""
    monkeypatch.setattr(watcher, "_ANSWER", PATIENCE)
    calls: list[int] = []

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path, watch_interval=0.005)) as made:
            made.watch(lambda: calls.append(1))
            until(lambda: bool(calls))
            for number in range(10):
                await made.write(insert(number))
                await asyncio.sleep(0.02)
            assert len(calls) == 1

    asyncio.run(scenario())


def test_commits_of_others_are_seen_among_own_ones(path: Path) -> None:
    """However busily this database writes, each commit of another one is told of."""
    calls: list[int] = []

    async def write(database: SQLiteDatabase) -> None:
        for number in itertools.count(100):
            await database.write(insert(number))

    async def scenario() -> None:
        async with opened(SQLiteDatabase(path)) as made, opened(SQLiteDatabase(path)) as other:
            made.watch(lambda: calls.append(1))
            until(lambda: bool(calls))
            writing = asyncio.create_task(write(made))
            for number in range(10):
                await asyncio.sleep(0.06)  # beyond a look
                seen = len(calls)
                await other.write(insert(number))
                async with asyncio.timeout(5.0):
                    while len(calls) == seen:  # noqa: ASYNC110  # another thread adds to it
                        await asyncio.sleep(0.005)
            writing.cancel()
            await asyncio.wait([writing])

    asyncio.run(scenario())


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}
