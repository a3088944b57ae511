"""Bundles: runs that completed before anything was written of them, many in one row.

A row of its own costs a run 3 to 5 µs in SQLite, most of it by the row and the column, however little is in them; its
share of a bundle costs 1 µs. Runs that have to be found by more than their id and their age, or changed, have rows.

The text of a bundle is lines of JSON: of each run what is known, then its payloads.
"""

import json
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from operator import attrgetter

from pydantic_core import PydanticSerializationError, from_json, to_json

from asgipipe.stores.database import Row, Transaction, Value
from asgipipe.tracking.records import COMPLETED, RecordedLog, RecordedRun, RecordedStep, Subject, with_user

MOST = 200
"""Runs in a bundle: whoever looks for one reads all."""

StepFacts = (
    tuple[str, float, float | None] | tuple[str, float, float | None, str, int, str | None, dict[str, object] | None]
)
"""Name, start and end on the monotonic clock; where they say anything, status, attempt, error and metadata, too."""
LogFacts = tuple[int, float, int, str, str | None, str]
"""As a RecordedLog has them."""
RunFacts = tuple[str, str, float, float, float, dict[str, object] | None, Sequence[StepFacts], Sequence[LogFacts]]
"""Id, name, what makes time since the epoch of the monotonic clock, start on the latter, seconds, the user's metadata
(None where none is kept), steps, log records."""
_COLUMNS = "last_id, first_id, deployment, pipeline, metadata, count, runs"
_PLACES = "(?, ?, ?, ?, ?, ?, ?)"
_ROWS_AT_ONCE = 50
"""Rows of a statement. SQLite's binding lets go of the interpreter in every statement, and has to get it back from a
busy event loop: one for all bundles of a group has it do so once."""
_SELECT = f"SELECT {_COLUMNS} FROM run_bundles WHERE last_id = ?"  # noqa: S608  # constants
_WINDOW = 8
"""The characters that all ids of a bundle have in common: those of one minute. What overlaps is found among them."""
_AFTER_ANY = "g"
"""Comes after every digit of an id."""
_AT_ONCE = 50


def packed(facts: RunFacts, payloads: Iterable[bytes]) -> bytes:
    """Return a run as it stands in a bundle.

    `payloads` are its parameters, its outputs, and the outputs of each step; empty where they are not kept.
    """
    try:
        text = to_json(facts)
    except PydanticSerializationError:  # a lone surrogate in a name
        text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")
    return b"\n".join((text, *payloads))


def write(transaction: Transaction, subject: Subject, runs: Mapping[str, bytes]) -> None:
    """Write packed runs, given by their ids."""
    ids = sorted(runs)
    about = subject.deployment, subject.pipeline, subject.metadata
    rows: list[tuple[Value, ...]] = []
    begin = 0
    while begin < len(ids):
        end = min(begin + MOST, max(begin + 1, bisect(ids, ids[begin][:_WINDOW] + _AFTER_ANY)))
        text = b"\n".join([runs[run_id] for run_id in ids[begin:end]])
        rows.append((ids[end - 1], ids[begin], *about, end - begin, text))
        begin = end
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[begin : begin + _ROWS_AT_ONCE]
        places = ", ".join([_PLACES] * len(some))
        sql = f"INSERT INTO run_bundles ({_COLUMNS}) VALUES {places} ON CONFLICT (last_id) DO NOTHING"  # noqa: S608  # constants
        transaction.change(sql, *chain.from_iterable(some))


def find(transaction: Transaction, run_id: str) -> RecordedRun | None:
    """Return a run with its parts."""
    sql = "SELECT last_id FROM run_bundles WHERE last_id >= ? AND last_id < ? AND first_id <= ? ORDER BY last_id"
    keys = transaction.rows(sql, run_id, run_id[:_WINDOW] + _AFTER_ANY, run_id)
    bundles = chain.from_iterable(transaction.rows(_SELECT, *key) for key in keys)
    found = (_whole(bundle, *run) for bundle in bundles for run in _unpacked(bundle) if run[0][0] == run_id)
    return next(found, None)


def newest(
    transaction: Transaction, deployment: str | None, pipeline: str | None, before: str | None
) -> Iterator[RecordedRun]:
    """Yield the runs whose id is less than `before`, the newest first, without their parts."""
    waiting: list[RecordedRun] = []
    for bundle in _newest(transaction, deployment, pipeline, before):
        while waiting and waiting[-1].id > str(bundle[0]):
            yield waiting.pop()
        runs = [_listed(bundle, facts) for facts, _ in _unpacked(bundle) if before is None or facts[0] < before]
        waiting = sorted(waiting + runs, key=attrgetter("id"))
    yield from reversed(waiting)


def _newest(
    transaction: Transaction, deployment: str | None, pipeline: str | None, before: str | None
) -> Iterator[Row]:
    """Yield the bundles that have such runs, by their last one."""
    below = None if before is None else before[:_WINDOW] + _AFTER_ANY
    while True:
        given = {"deployment = ?": deployment, "pipeline = ?": pipeline, "first_id < ?": before, "last_id < ?": below}
        conditions = {condition: value for condition, value in given.items() if value is not None}
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT last_id FROM run_bundles {where} ORDER BY last_id DESC LIMIT {_AT_ONCE}"  # noqa: S608  # constants
        keys = transaction.rows(sql, *conditions.values())
        for key in keys:
            yield from transaction.rows(_SELECT, *key)
        if len(keys) < _AT_ONCE:
            return
        below = str(keys[-1][0])


def prune(transaction: Transaction, deployment: str, before: str, limit: int) -> int:
    """Delete the oldest bundles of which every id is less than `before`, `limit` at most; return how many runs."""
    sql = (
        "DELETE FROM run_bundles WHERE last_id IN "
        "(SELECT last_id FROM run_bundles WHERE deployment = ? AND last_id < ? ORDER BY last_id LIMIT ?) "
        "RETURNING count"
    )
    return sum(count for (count,) in transaction.rows(sql, deployment, before, limit) if isinstance(count, int))


def _unpacked(bundle: Row) -> Iterator[tuple[RunFacts, list[bytes]]]:
    text = bundle[-1]
    assert isinstance(text, bytes)
    lines = iter(text.split(b"\n"))
    for line in lines:
        facts = from_json(line)
        *_, steps, _ = facts
        yield facts, list(islice(lines, 2 + len(steps)))


def _listed(bundle: Row, facts: RunFacts) -> RecordedRun:
    run_id, name, base, began, seconds, *_ = facts
    _, _, deployment, pipeline, *_ = bundle
    times = base + began, base + began + seconds, seconds
    return RecordedRun.listed((run_id, deployment, pipeline, name, 1, COMPLETED, *times, None))


def _whole(bundle: Row, facts: RunFacts, payloads: Sequence[bytes]) -> RecordedRun:
    parameters, outputs, *outputs_of_steps = payloads
    _, _, base, _, _, metadata, steps, logs = facts
    of_deployment = bundle[4]
    assert isinstance(of_deployment, bytes)
    pairs = zip(steps, outputs_of_steps, strict=True)
    return replace(
        _listed(bundle, facts),
        parameters=parameters or None,
        outputs=outputs or None,
        metadata=None if metadata is None else with_user(of_deployment, metadata),
        steps=[_step(number, base, step, body) for number, (step, body) in enumerate(pairs, 1)],
        logs=[RecordedLog(*log) for log in logs],
    )


def _step(number: int, base: float, facts: StepFacts, outputs: bytes) -> RecordedStep:
    name, began, ended = facts[:3]
    status, attempt, error, metadata = (COMPLETED, 1, None, None) if len(facts) == 3 else facts[3:]
    seconds = None if ended is None else ended - began
    notes = None if metadata is None else to_json(metadata)
    return RecordedStep(number, name, status, attempt, base + began, seconds, error, outputs or None, notes)
