import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from asgipipe.stores.database import Database
from asgipipe.stores.registry import database
from asgipipe.tracking import bundles, store
from asgipipe.tracking.records import RecordedStep, Subject
from tests.tracking.serving import on_a_loop

SUBJECT = Subject("here", "sums", b'{"deployment_name":"here"}')
OTHER = Subject("there", "sums", b"{}")


def id_of(number: int, minute: int = 0) -> str:
    return f"01a1fc{0x30 + minute:02x}-{number:04x}-7000-9dd6-68851ed2873f"


def packed(run_id: str, name: str = "a run") -> bytes:
    steps: list[bundles.StepFacts] = [
        ("first", 5.0, 6.5),
        ("second", 6.5, 7.0, "failed", 3, "no such luck", {"tries": 3}),
        ("third", 7.0, None, "canceled", 1, None, None),
    ]
    logs = [(1, 1005.5, 20, "user", "first", "hello\nworld")]
    facts: bundles.RunFacts = (run_id, name, 1000.0, 5.0, 2.5, {"asked": True}, steps, logs)
    return bundles.packed(facts, [b'{"x":1}', b'{"output":2}', b'{"output":3}', b"", b""])


@asynccontextmanager
async def opened() -> AsyncIterator[Database]:
    kept = database("memory:")
    await kept.open()
    try:
        yield kept
    finally:
        await kept.close()


async def write(kept: Database, ids: Sequence[str], subject: Subject = SUBJECT) -> None:
    runs = {run_id: packed(run_id) for run_id in ids}
    await kept.write(lambda transaction: bundles.write(transaction, subject, runs))


async def listed(kept: Database, deployment: str | None = "here", **given: object) -> list[str]:
    """Return the ids of the list, page by page."""
    options = {"status": None, "pipeline": None, "limit": 7, **given}
    found: list[str] = []
    cursor = None
    while True:
        page = await kept.read(partial(store.page, deployment=deployment, cursor=cursor, **options))  # type: ignore[arg-type]
        found += [run.id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            return found


@on_a_loop
async def test_a_run_comes_back_whole() -> None:
    """A run in a bundle has its times, steps, payloads, log records, and both kinds of metadata."""
    async with opened() as kept:
        await write(kept, [id_of(number) for number in range(5)])
        run = await kept.read(lambda transaction: store.run(transaction, "here", id_of(3)))
        assert run is not None
        assert (run.id, run.name, run.deployment, run.pipeline) == (id_of(3), "a run", "here", "sums")
        assert (run.status, run.attempt, run.error) == ("completed", 1, None)
        assert (run.started_at, run.completed_at, run.execution_time) == (1005.0, 1007.5, 2.5)
        assert (run.parameters, run.outputs) == (b'{"x":1}', b'{"output":2}')
        assert json.loads(run.metadata or b"") == {"deployment_name": "here", "user": {"asked": True}}
        assert run.steps == [
            RecordedStep(1, "first", "completed", 1, 1005.0, 1.5, None, b'{"output":3}', None),
            RecordedStep(2, "second", "failed", 3, 1006.5, 0.5, "no such luck", None, b'{"tries":3}'),
            RecordedStep(3, "third", "canceled", 1, 1007.0, None, None, None, None),
        ]
        assert [(log.number, log.message, log.step_name) for log in run.logs] == [(1, "hello\nworld", "first")]
        for deployment, run_id in (("there", id_of(3)), ("here", id_of(9)), ("here", id_of(3, 1))):
            assert await kept.read(partial(store.run, deployment=deployment, run_id=run_id)) is None


@on_a_loop
async def test_bundles_that_overlap() -> None:
    """Runs of several bundles are listed by their ids, page by page, with those between that have rows."""
    async with opened() as kept:
        await write(kept, [id_of(number) for number in range(0, 30, 3)])
        await write(kept, [id_of(number) for number in range(1, 30, 3)])
        row = (id_of(14), "here", "sums", "failed", 1, "failed", 1.0, 2.0, 1.0, "why", None, None, None)
        await kept.write(lambda transaction: store.write(transaction, [store.Rows(row)]))
        await write(kept, [id_of(50)], OTHER)
        expected = [id_of(number) for number in range(29, -1, -1) if number % 3 < 2 or number == 14]
        assert await listed(kept) == expected
        assert await listed(kept, limit=1) == expected
        assert await listed(kept, None) == [id_of(50), *expected]
        assert await listed(kept, status="failed") == [id_of(14)]
        assert await listed(kept, status="completed") == [one for one in expected if one != id_of(14)]
        assert await listed(kept, pipeline="other") == []


@on_a_loop
async def test_many_bundles() -> None:
    """A bundle has a bound, and ends with its minute; what was written already is found written."""
    async with opened() as kept:
        ids = [id_of(number, minute) for minute in range(2) for number in range(300)]
        for _ in range(2):
            await write(kept, ids)
        counts = await kept.read(lambda transaction: transaction.rows("SELECT count FROM run_bundles ORDER BY last_id"))
        assert counts == [(200,), (100,), (200,), (100,)]
        assert await listed(kept, limit=500) == ids[::-1]
        for number in range(120):
            await write(kept, [id_of(number, 2)])
        assert (await listed(kept, limit=110))[:121] == [*(id_of(number, 2) for number in range(119, -1, -1)), ids[-1]]


@on_a_loop
async def test_old_bundles_go() -> None:
    """Bundles all of whose runs are old are deleted, a few at a time, those of other deployments never."""
    async with opened() as kept:
        for minute in range(4):
            await write(kept, [id_of(1, minute), id_of(2, minute)])
        await write(kept, [id_of(1)], OTHER)
        before = int("01a1fc320001", 16) / 1000 + 0.001
        prune = partial(store.prune_bundles, deployment="here", before=before, limit=1)
        assert [await kept.write(prune) for _ in range(3)] == [2, 2, 0]
        assert await listed(kept, None) == [id_of(2, 3), id_of(1, 3), id_of(2, 2), id_of(1, 2), id_of(1)]


@on_a_loop
async def test_a_name_without_utf8() -> None:
    """A lone surrogate in a name keeps neither the run nor its neighbours from being written."""
    async with opened() as kept:
        runs = {id_of(1): packed(id_of(1), "\ud800"), id_of(2): packed(id_of(2))}
        await kept.write(lambda transaction: bundles.write(transaction, SUBJECT, runs))
        run = await kept.read(lambda transaction: store.run(transaction, "here", id_of(1)))
        assert run is not None
        assert run.name == "?"
        assert await listed(kept) == [id_of(2), id_of(1)]
