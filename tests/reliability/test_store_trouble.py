"""What clients are told while the store has trouble, and what becomes of what was accepted."""

import select
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Serve
from tests.reliability.following import all_events, is_whole, job, submit
from tests.servers.command import Command, until

ASYNC = "/invoke?mode=async"
LARGE = "x" * 100_000


def serves_as_ever(running: Command, *, reading: int = 200) -> bool:
    """Whether a run and a probe are answered as if nothing was, and a list of jobs with the status `reading`."""
    asked = (raw.invoke({"text": "y"}), raw.request("GET", "/health"), raw.request("GET", "/jobs"))
    return [raw.ask(running.port, sent).status for sent in asked] == [200, 200, reading]


def ended_well(running: Command, job_ids: list[str]) -> bool:
    return all(job(running.port, job_id)["status"] == "completed" for job_id in job_ids)


def readable(connection: raw.Connection) -> bool:
    return bool(select.select([connection.socket], [], [], 0)[0])


@pytest.mark.parametrize(("kind", "status"), [("full", 507), ("failing", 503)])
def test_a_disk_in_trouble_refuses_jobs_and_recovers(serve: Serve, kind: str, status: int) -> None:
    """Rows 16 and 17: what cannot be kept is 507 or 503, never 202; what was accepted is kept, without a restart."""
    with serve("troubled.py:troubled", "--log-level", "critical") as running:
        port = running.port
        accepted = [submit(port, {})]
        until(lambda: ended_well(running, accepted), "the first job")
        assert raw.ask(port, raw.request("GET", f"/trouble?kind={kind}")).status == 200
        refused: list[raw.Answer] = []
        while len(refused) < 3:
            answer = raw.ask(port, raw.invoke({"text": LARGE}, path=ASYNC))
            if answer.status == 202:
                accepted.append(answer.json()["job_id"])
            else:
                refused.append(answer)
            assert len(accepted) < 50, "there is no end of the disk"
        assert {answer.status for answer in refused} == {status}
        assert all(answer.is_problem() and answer.is_secured() for answer in refused)
        assert kind == "full" or all(answer.retry_after >= 1 for answer in refused)
        assert serves_as_ever(running, reading=200 if kind == "full" else 503)  # a disk that fails fails readers too
        assert raw.ask(port, raw.request("GET", "/trouble?kind=none")).status == 200
        until(lambda: ended_well(running, accepted), "the jobs that were accepted")
        accepted.append(submit(port, {"text": LARGE}))
        assert is_whole(all_events(port, accepted[-1]))
        assert raw.ask(port, raw.request("GET", "/jobs")).json()["total"] == len(accepted)


def test_a_lock_of_another_process_blocks_nobody_else(serve: Serve, tmp_path: Path) -> None:
    """Row 18: a job is refused with 503 after a while; until then, and after, everything else is answered at once."""
    with serve("troubled.py:troubled", "--log-level", "critical") as running, raw.Connection(running.port) as waiting:
        port = running.port
        first = submit(port, {})
        until(lambda: ended_well(running, [first]), "the first job")
        with closing(sqlite3.connect(tmp_path / ".asgipipe" / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting.send(raw.invoke(path=ASYNC))
            answered = 0
            while not readable(waiting):
                assert serves_as_ever(running)
                answered += 1
            refused = waiting.answer()
            assert (refused.status, refused.is_problem()) == (503, True)
            assert refused.retry_after >= 1
            assert answered > 20
            other.execute("ROLLBACK")
        second = submit(port, {})
        until(lambda: ended_well(running, [first, second]), "the job after the lock")
