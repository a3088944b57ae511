import logging
import math
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgipipe.service.histogram import BOUNDS, Histogram
from asgipipe.service.metrics import METHODS, Metrics, MetricsSnapshot, RunStatus

NOW = 1_750_000_000.0

# A process that counts: it carries out the lines it reads, one after the other, and says when each is done.
WORKER = """
import os, subprocess, sys, time
from pathlib import Path
from asgipipe.service.metrics import Metrics

metrics = Metrics(sys.argv[1], Path(sys.argv[2]))

def start(runs, metrics=metrics):
    for _ in range(runs):
        metrics.run_started()

def finish(runs, metrics=metrics):
    for _ in range(runs):
        metrics.run_finished("completed", 0.5, 1.0)

for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Worker:
    """A real process with a `metrics` of its own; `do` runs a line of Python in it."""

    def __init__(self, deployment: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, deployment, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, line: str) -> str:
        """Return what the line printed."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        printed = ""
        while (answer := self.process.stdout.readline()) != "done\n":
            assert answer, f"the worker ended at {line!r}"
            printed += answer
        return printed.strip()

    def kill(self) -> None:
        """Kill the process and leave it a zombie, as a parent that does not look would."""
        self.process.kill()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


StartWorker = Callable[[], Worker]
posix = pytest.mark.skipif(sys.platform == "win32", reason="record locks are POSIX")


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker("weather", tmp_path))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Metrics]:
    """A process's metrics that have counted nothing, in the directory of the workers."""
    metrics = Metrics("weather", tmp_path)
    yield metrics
    metrics.close()


def histogram(durations: list[float]) -> Histogram:
    metrics = Metrics("a")
    for seconds in durations:
        metrics.run_finished("completed", seconds, NOW)
    return metrics.snapshot().durations


def count_and_close(directory: Path, runs: int = 1) -> None:
    metrics = Metrics("weather", directory)
    for _ in range(runs):
        metrics.run_started()
        metrics.run_finished("completed", 0.5, NOW)
        metrics.request_finished("POST", 200)
    metrics.run_started()  # and never finished
    metrics.close()


def names(directory: Path, suffix: str) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name.endswith(suffix))


def counts(snapshot: MetricsSnapshot) -> tuple[int, int]:
    return snapshot.total_executions, snapshot.in_flight


# The histogram


@given(
    st.lists(st.floats(math.log(1.01e-5), math.log(0.99e5)).map(math.exp), min_size=1, max_size=300),
    st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]),
)
@example([1.0000001] * 100, 0.99)
@example([0.001, 1000.0], 0.5)
def test_quantiles_are_close_to_the_exact_ones(durations: list[float], q: float) -> None:
    """A quantile is within 12 % of the exact one of the same durations."""
    exact = sorted(durations)[max(1, math.ceil(q * len(durations))) - 1]
    assert histogram(durations).quantile(q) == pytest.approx(exact, rel=0.12)


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 1e6)), max_size=50))
def test_counts_at_an_edge_are_exact(durations: list[float]) -> None:
    """A Prometheus bucket holds exactly the durations up to and including its edge."""
    edges = [0.001, 0.0025, 0.5, 1.0, 250.0]
    assert histogram(durations).at_most(edges) == [sum(s <= edge for s in durations) for edge in edges]


def test_round_numbers_are_edges() -> None:
    """1, 2.5 and 5 times each power of ten between 10 microseconds and 100,000 s are edges of the histogram."""
    round_numbers = {float(f"{digit}e{exponent}") for exponent in range(-5, 5) for digit in ("1", "2.5", "5")}
    assert round_numbers | {1e5} <= set(BOUNDS)
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_durations_outside_the_edges() -> None:
    """Below the first edge a quantile is off by less than 10 microseconds; above the last edge it is that edge."""
    assert histogram([1e-7]).quantile(0.5) == pytest.approx(0.0, abs=1e-5)
    assert histogram([1e8]).quantile(0.5) == 1e5


def test_no_runs_have_no_quantiles() -> None:
    """Before the first run all times are None, not zero."""
    snapshot = Metrics("a").snapshot()
    assert snapshot.execution_time_quantiles == {"0.5": None, "0.95": None, "0.99": None}
    assert snapshot.average_execution_time is None
    assert snapshot.last_execution_time is None
    assert counts(snapshot) == (0, 0)


# Counting in one process


def test_runs_are_counted_by_their_end() -> None:
    """Every end has its own number, the total is their sum, and what has not ended is in flight."""
    metrics = Metrics("a")
    ends: list[RunStatus] = ["completed", "completed", "completed", "failed", "failed", "canceled"]
    for _ in range(8):
        metrics.run_started()
    for seconds, status in enumerate(ends):
        metrics.run_finished(status, float(seconds), NOW)
    snapshot = metrics.snapshot()
    assert snapshot.successful_executions == 3
    assert snapshot.failed_executions == 2
    assert snapshot.canceled_executions == 1
    assert counts(snapshot) == (6, 2)
    assert snapshot.average_execution_time == 2.5
    assert snapshot.last_execution_time == "2025-06-15T15:06:40.000Z"
    assert sum(snapshot.durations.counts) == 6


@pytest.mark.parametrize("seconds", [-1.0, math.nan, -math.inf])
def test_durations_are_never_negative(seconds: float) -> None:
    """A duration measured with a clock that jumped back counts as zero seconds."""
    metrics = Metrics("a")
    metrics.run_finished("completed", seconds, NOW)
    assert metrics.snapshot().average_execution_time == 0.0
    assert metrics.snapshot().total_executions == 1


def test_an_endless_duration_keeps_the_sums_finite() -> None:
    """An infinite duration does not spoil the average for good."""
    metrics = Metrics("a")
    metrics.run_finished("completed", math.inf, NOW)
    assert metrics.snapshot().average_execution_time == 1e9


@pytest.mark.parametrize("now", [-1.0, math.nan, math.inf, 1e15])
def test_an_impossible_time_is_no_time(now: float) -> None:
    """A clock that is wrong beyond the calendar costs the time of the last run, not the counts."""
    metrics = Metrics("a")
    metrics.run_finished("completed", 1.0, now)
    assert metrics.snapshot().last_execution_time is None
    assert metrics.snapshot().total_executions == 1


def test_requests_are_counted_by_method_and_status() -> None:
    """Each method and status has its own number; methods and statuses that HTTP does not have are "other"."""
    metrics = Metrics("a")
    for method, status in [("GET", 200), ("GET", 200), ("POST", 599), ("get", 100), ("BREW", 99), ("HEAD", 600)]:
        metrics.request_finished(method, status)
    assert metrics.snapshot().requests == {
        ("GET", "200"): 2,
        ("HEAD", "other"): 1,
        ("POST", "599"): 1,
        ("other", "100"): 1,
        ("other", "other"): 1,
    }


def test_every_method_and_status_has_a_number_of_its_own() -> None:
    """No two pairs of method and status share a cell, and none of them touches a run's."""
    metrics = Metrics("a")
    pairs = [(method, status) for method in METHODS for status in range(100, 600)]
    for method, status in pairs:
        metrics.request_finished(method, status)
    snapshot = metrics.snapshot()
    assert snapshot.requests == {(method, str(status)): 1 for method, status in pairs}
    assert (snapshot.total_executions, snapshot.in_flight, snapshot.durations.seconds) == (0, 0, 0.0)


def test_deployments_in_one_process_are_apart() -> None:
    """Two deployments without a directory count for themselves, also under the same name."""
    one, other = Metrics("a"), Metrics("a")
    one.run_started()
    assert one.snapshot().in_flight == 1
    assert other.snapshot().in_flight == 0


# Counting in several processes


@posix
def test_nothing_exists_before_something_is_counted(tmp_path: Path) -> None:
    """Building the object touches no file, so that it may happen before a server forks its workers."""
    metrics = Metrics("weather", tmp_path)
    metrics.snapshot()
    assert list(tmp_path.iterdir()) == []
    metrics.run_started()
    assert len(names(tmp_path, ".cells")) == 1
    metrics.close()


@posix
def test_all_workers_are_added_up(start_worker: StartWorker, reader: Metrics) -> None:
    """Every process sees the runs of all processes."""
    first, second = start_worker(), start_worker()
    first.do("start(5); finish(3); metrics.request_finished('GET', 200)")
    second.do("start(10); finish(10); metrics.request_finished('GET', 200)")
    reader.run_started()
    reader.run_finished("failed", 0.5, NOW)
    snapshot = reader.snapshot()
    assert counts(snapshot) == (14, 2)
    assert snapshot.requests == {("GET", "200"): 2}
    assert snapshot.average_execution_time == 0.5
    assert snapshot.last_execution_time == "2025-06-15T15:06:40.000Z"
    assert first.do("print(metrics.snapshot().total_executions)") == "14"


@posix
def test_a_killed_worker_stays_counted(start_worker: StartWorker, reader: Metrics) -> None:
    """What a killed worker, still a zombie, had finished counts; what it was running is in flight no longer."""
    first, second = start_worker(), start_worker()
    first.do("start(5); finish(3)")
    second.do("start(2)")
    assert counts(reader.snapshot()) == (3, 4)
    first.kill()
    assert counts(reader.snapshot()) == (3, 2)
    start_worker().do("start(1); finish(1)")
    assert counts(reader.snapshot()) == (4, 2)


@posix
def test_a_frozen_worker_is_alive(start_worker: StartWorker, reader: Metrics) -> None:
    """A stopped process still runs its runs."""
    worker = start_worker()
    worker.do("start(2)")
    worker.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.process.pid, os.WSTOPPED | os.WNOWAIT)
    assert reader.snapshot().in_flight == 2


@posix
@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["python", "native"])
def test_a_child_does_not_keep_its_dead_parent_alive(fork: str, start_worker: StartWorker, reader: Metrics) -> None:
    """A process that user code or a native library forked in a worker, and that outlives it, is not taken for it."""
    worker = start_worker()
    worker.do("start(2); import ctypes; away = lambda: (os.dup2(os.open(os.devnull, os.O_RDWR), 1), time.sleep(600))")
    child = int(worker.do(f"child = {fork} or away(); print(child)"))
    try:
        assert reader.snapshot().in_flight == 2
        worker.kill()
        os.kill(child, 0)
        assert reader.snapshot().in_flight == 0
    finally:
        os.kill(child, signal.SIGKILL)


@posix
def test_a_child_that_ends_leaves_its_parent_alive(start_worker: StartWorker, reader: Metrics) -> None:
    """Forked children and programs that end, and close the files they inherited, do not make their parent look dead."""
    worker = start_worker()
    worker.do("start(2)")
    worker.do("pid = os.fork() or os._exit(0); os.waitpid(pid, 0)")
    worker.do("subprocess.run([sys.executable, '-c', ''], check=True, close_fds=False)")
    assert reader.snapshot().in_flight == 2


@posix
def test_a_forked_process_counts_for_itself(start_worker: StartWorker, reader: Metrics, tmp_path: Path) -> None:
    """A process forked from one that has counted gets a file of its own when it counts, and shares no cell with it."""
    worker = start_worker()
    worker.do("start(3); finish(1)")
    worker.do("pid = os.fork() or os._exit(start(10) or finish(10) or 0); os.waitpid(pid, 0)")
    assert len(names(tmp_path, ".cells")) == 2
    assert counts(reader.snapshot()) == (11, 2)
    worker.do("finish(2)")
    assert counts(reader.snapshot()) == (13, 0)


@posix
def test_a_forked_process_counts_in_its_own_memory(start_worker: StartWorker) -> None:
    """Without a directory, a forked process starts at zero and its parent does not see it."""
    worker = start_worker()
    worker.do("alone = Metrics('alone'); start(3, alone); total = lambda: alone.snapshot().in_flight")
    worker.do("pid = os.fork() or os._exit(start(1, alone) or total()); status = os.waitpid(pid, 0)[1]")
    assert worker.do("print(os.waitstatus_to_exitcode(status), total())") == "1 3"


@posix
def test_reading_in_the_same_process_keeps_its_locks(start_worker: StartWorker, reader: Metrics) -> None:
    """Two objects of one deployment in one process read each other without making each other look dead."""
    worker = start_worker()
    worker.do("start(1); other = Metrics('weather', Path(sys.argv[2])); start(2, other)")
    assert worker.do("print(metrics.snapshot().in_flight, other.snapshot().in_flight)") == "3 3"
    assert reader.snapshot().in_flight == 3


@posix
def test_a_closed_block_stays_counted(reader: Metrics, tmp_path: Path) -> None:
    """Closing ends the runs in flight and keeps the counts; what is counted later is counted too."""
    metrics = Metrics("weather", tmp_path)
    metrics.run_started()
    metrics.run_started()
    metrics.run_finished("completed", 0.5, NOW)
    metrics.close()
    assert counts(reader.snapshot()) == counts(metrics.snapshot()) == (1, 0)
    metrics.run_finished("completed", 0.5, NOW)
    assert counts(reader.snapshot()) == (2, 0)
    metrics.close()


@posix
def test_deployments_in_one_directory_are_apart(reader: Metrics, tmp_path: Path) -> None:
    """The files of another deployment in the same directory do not count."""
    count_and_close(tmp_path)
    other = Metrics("forecast", tmp_path)
    other.run_finished("completed", 1.0, NOW)
    assert reader.snapshot().total_executions == 1
    assert other.snapshot().total_executions == 1
    other.close()


# Files that are not as they should be


def break_file(path: Path, how: str) -> None:
    """Put something unusable where a worker's file was."""
    data = path.read_bytes()
    path.unlink()
    match how:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "foreign":
            path.write_bytes(os.urandom(len(data)))
        case "another version":
            path.write_bytes(data.replace(b"cells 1", b"cells 0"))
        case "nan":
            path.write_bytes(data[:-8] + b"\xff" * 8 + data[-8:])
        case "negative":
            path.write_bytes(data[:64] + b"\0" * 7 + b"\xc0" + data[72:])
        case "folder":
            path.mkdir()
        case "link":
            (path.parent / "elsewhere").write_bytes(data)
            path.symlink_to(path.parent / "elsewhere")
        case "pipe":
            os.mkfifo(path)


BROKEN = ["empty", "truncated", "foreign", "another version", "nan", "negative", "folder", "link", "pipe"]


@posix
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_left_out_and_reported_once(
    how: str, reader: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands in the place of a worker's file, the others are still added up, and the log names it once."""
    count_and_close(tmp_path, runs=2)
    (broken,) = names(tmp_path, ".cells")
    break_file(tmp_path / broken, how)
    count_and_close(tmp_path, runs=3)
    assert reader.snapshot().total_executions == 3
    assert reader.snapshot().total_executions == 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert broken in record.getMessage()


@posix
def test_the_log_about_broken_files_is_bounded(
    reader: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Many broken files make a few lines in the log."""
    count_and_close(tmp_path)
    (name,) = names(tmp_path, ".cells")
    for number in range(100):
        (tmp_path / name.replace(".cells", f"-{number}.cells")).write_bytes(b"")
    assert reader.snapshot().total_executions == 1
    assert len(caplog.records) == 20


@posix
def test_a_missing_directory_leaves_each_process_its_own_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its directory a process goes on counting in memory, answers, and says so in the log."""
    metrics = Metrics("weather", tmp_path / "missing")
    metrics.run_started()
    assert metrics.snapshot().in_flight == 1
    assert metrics.snapshot().in_flight == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]
    assert all("missing" in record.getMessage() for record in caplog.records)
    metrics.close()


@posix
def test_a_full_disk_leaves_each_process_its_own_counts(
    reader: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the disk has no room for the file, nothing of it is left, counts are kept in memory, and the log says so."""
    count_and_close(tmp_path)
    monkeypatch.setattr(os, "write", lambda _descriptor, data: len(data) // 2)
    reader.run_started()
    assert counts(reader.snapshot()) == (1, 1)
    assert len(list(tmp_path.iterdir())) == 1
    assert "No space left" in caplog.text


# Folding


@posix
def test_files_of_ended_processes_are_folded(reader: Metrics, tmp_path: Path) -> None:
    """A hundred and fifty restarts leave a bounded number of files and every count."""
    for _ in range(150):
        count_and_close(tmp_path)
    assert len(list(tmp_path.iterdir())) < 70
    snapshot = reader.snapshot()
    assert counts(snapshot) == (150, 0)
    assert snapshot.requests == {("POST", "200"): 150}
    assert snapshot.durations.seconds == 75.0
    assert snapshot.last_execution_time == "2025-06-15T15:06:40.000Z"


@posix
def test_living_processes_are_not_folded(start_worker: StartWorker, reader: Metrics, tmp_path: Path) -> None:
    """A process that is alive while others are folded goes on counting."""
    worker = start_worker()
    worker.do("start(2)")
    for _ in range(70):
        count_and_close(tmp_path)
    assert len(names(tmp_path, ".cells")) < 70
    worker.do("finish(2)")
    assert counts(reader.snapshot()) == (72, 0)


@posix
def test_a_fold_that_is_cut_off_counts_nothing_twice(
    reader: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a process dies between writing the sum and removing what is in it, nobody adds it a second time."""
    with monkeypatch.context() as context:
        context.setattr(Path, "unlink", lambda *_args, **_options: (_ for _ in ()).throw(OSError("killed here")))
        for _ in range(66):
            count_and_close(tmp_path)
    assert len(names(tmp_path, ".sum")) == 1
    assert len(names(tmp_path, ".cells")) == 66
    assert reader.snapshot().total_executions == 66
    count_and_close(tmp_path)
    assert len(names(tmp_path, ".cells")) < 10
    assert reader.snapshot().total_executions == 67


@posix
def test_only_one_process_folds_at_a_time(start_worker: StartWorker, reader: Metrics, tmp_path: Path) -> None:
    """While another process folds, a starting one leaves the files alone and serves."""
    for _ in range(64):
        count_and_close(tmp_path)
    key = names(tmp_path, ".cells")[0].partition("-")[0]
    worker = start_worker()
    worker.do(f"import fcntl; lock = open(Path(sys.argv[2]) / '{key}.lock', 'w'); fcntl.lockf(lock, fcntl.LOCK_EX)")
    count_and_close(tmp_path)
    count_and_close(tmp_path)
    assert len(names(tmp_path, ".cells")) == 66
    worker.do("lock.close()")
    count_and_close(tmp_path)
    assert len(names(tmp_path, ".cells")) < 5
    assert reader.snapshot().total_executions == 67


@posix
def test_abandoned_drafts_are_removed(start_worker: StartWorker, tmp_path: Path) -> None:
    """A file that a killed process had begun goes with the next fold; one that is being made stays."""
    for _ in range(65):
        count_and_close(tmp_path)
    key = names(tmp_path, ".cells")[0].partition("-")[0]
    (tmp_path / f"{key}-1-abandoned.new").write_bytes(b"")
    worker = start_worker()
    worker.do(
        f"import fcntl; draft = open(Path(sys.argv[2]) / '{key}-2-begun.new', 'w'); fcntl.lockf(draft, fcntl.LOCK_EX)"
    )
    count_and_close(tmp_path)
    assert names(tmp_path, ".new") == [f"{key}-2-begun.new"]


@posix
def test_a_broken_sum_is_reported_and_replaced(
    reader: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sum that cannot be read is left out, named in the log, and the next fold writes a good one."""
    for _ in range(66):
        count_and_close(tmp_path)
    (name,) = names(tmp_path, ".sum")
    (tmp_path / name).write_bytes(b"broken")
    assert reader.snapshot().total_executions == 1
    assert name in caplog.text
    for _ in range(66):
        count_and_close(tmp_path)
    assert reader.snapshot().total_executions == 67


@posix
def test_readers_never_see_a_count_twice_or_not_at_all(
    start_worker: StartWorker, reader: Metrics, tmp_path: Path
) -> None:
    """While one process restarts and folds again and again, every total that another one reads is right: they grow."""
    worker = start_worker()
    worker.do("def restart(): start(1); finish(1); metrics.close()")
    assert worker.process.stdin
    worker.process.stdin.write("for _ in range(300): restart()\n")
    worker.process.stdin.write(f"Path({str(tmp_path / 'finished')!r}).touch()\n")
    worker.process.stdin.flush()
    totals = []
    while not (tmp_path / "finished").exists():
        assert worker.process.poll() is None
        totals.append(reader.snapshot().total_executions)
    assert totals == sorted(totals)
    assert reader.snapshot().total_executions == 300


@posix
def test_a_file_taken_for_abandoned_is_made_again(
    reader: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose new file disappears before it has its name makes another one."""
    rename = Path.rename
    lost: list[Path] = []

    def lose_the_first(draft: Path, target: Path) -> Path:
        if not lost:
            lost.append(draft)
            draft.unlink()
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", lose_the_first)
    reader.run_started()
    assert len(lost) == 1
    assert len(names(tmp_path, ".cells")) == 1
    assert reader.snapshot().in_flight == 1


def test_an_object_that_is_gone_leaves_nothing_behind() -> None:
    """What watches for forks does not keep the counters of deployments that are gone."""
    metrics = Metrics("a")
    metrics.run_started()
    gone = weakref.ref(metrics)
    del metrics
    assert gone() is None
