"""Bundles: runs that completed before anything was written of them, many in one row.

A row of its own costs a run 3 to 5 µs in SQLite, most of it by the row and the column, however little is in them; its
share of a bundle costs 1 µs. Runs that have to be found by more than their id and their age, or changed, have rows.

The text of a bundle is lines of JSON: a list of what is known of each run, then the payloads of all. It is made when a
bundle is full: one text of many runs takes half the time of as many texts made one by one between other work, and runs
that were kept as objects until they are written would push everything else out of the processor's cache.
"""

import json
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from asgipipe.stores.database import Row, Transaction
from asgipipe.tracking.records import COMPLETED, RecordedLog, RecordedRun, RecordedStep, Subject, with_user

MOST = 100
"""Runs in a bundle: whoever looks for one reads all."""

StepEnd = float | tuple[float | None, str, int, str | None, dict[str, object] | None]
"""The end on the monotonic clock; where the others say anything: end, status, attempt, error, metadata."""
LogFacts = tuple[int, float, int, str, str | None, str]
"""As a RecordedLog has them."""
BundledRun = tuple[Any, ...]
"""Id, name, what makes time since the epoch of the monotonic clock, start on the latter, seconds, the user's metadata
(None where none is kept), log records; name, start and StepEnd of each step; then the payloads: parameters, outputs,
and the outputs of each step, empty where they are not kept. What is read back ends before the payloads.

It is flat because the garbage collector walks every container that waits to be written: with one for each step this
cost 1 µs per run."""
_HEAD = 7
_PER_STEP = 3
_PAYLOADS = 2
"""Those of a run without steps."""
_COLUMNS = "last_id, first_id, deployment, pipeline, metadata, count, runs"
_INSERT = f"INSERT INTO run_bundles ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (last_id) DO NOTHING"  # noqa: S608  # constants
_SELECT = f"SELECT {_COLUMNS} FROM run_bundles WHERE last_id = ?"  # noqa: S608  # constants
_WINDOW = 8
"""The characters that all ids of a bundle have in common: those of one minute. What overlaps is found among them."""
_AFTER_ANY = "g"
"""Comes after every digit of an id."""
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Bundle:
    """Runs as they stand in a row."""

    last_id: str
    first_id: str
    count: int
    text: bytes


def packed(runs: Mapping[str, BundledRun]) -> list[Bundle]:
    """Return bundles of runs, given by their ids."""
    ids = sorted(runs)
    bundles: list[Bundle] = []
    begin = 0
    while begin < len(ids):
        end = min(begin + MOST, max(begin + 1, bisect(ids, ids[begin][:_WINDOW] + _AFTER_ANY)))
        text = _text([runs[run_id] for run_id in ids[begin:end]])
        bundles.append(Bundle(ids[end - 1], ids[begin], end - begin, text))
        begin = end
    return bundles


def write(transaction: Transaction, subject: Subject, bundles: Iterable[Bundle]) -> None:
    about = subject.deployment, subject.pipeline, subject.metadata
    for bundle in bundles:
        transaction.change(_INSERT, bundle.last_id, bundle.first_id, *about, bundle.count, bundle.text)


def _text(runs: Sequence[BundledRun]) -> bytes:
    facts: list[tuple[object, ...]] = []
    payloads: list[bytes] = []
    for run in runs:
        steps = (len(run) - _HEAD - _PAYLOADS) // (_PER_STEP + 1)
        end = _HEAD + _PER_STEP * steps
        facts.append(run[:end])
        payloads.extend(run[end:])
    try:
        text = to_json(facts)
    except PydanticSerializationError:  # a lone surrogate in a name
        text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")
    return b"\n".join((text, *payloads))


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


def _unpacked(bundle: Row) -> Iterator[tuple[BundledRun, list[bytes]]]:
    """Yield what is known of each run, and its payloads."""
    text = bundle[-1]
    assert isinstance(text, bytes)
    known, *payloads = text.split(b"\n")
    lines = iter(payloads)
    for facts in from_json(known):
        yield facts, list(islice(lines, _PAYLOADS + (len(facts) - _HEAD) // _PER_STEP))


def _listed(bundle: Row, facts: BundledRun) -> RecordedRun:
    run_id, name, base, began, seconds, *_ = facts
    _, _, deployment, pipeline, *_ = bundle
    times = base + began, base + began + seconds, seconds
    return RecordedRun.listed((run_id, deployment, pipeline, name, 1, COMPLETED, *times, None))


def _whole(bundle: Row, facts: BundledRun, payloads: Sequence[bytes]) -> RecordedRun:
    parameters, outputs, *outputs_of_steps = payloads
    _, _, base, _, _, metadata, logs, *parts = facts
    of_deployment = bundle[4]
    assert isinstance(of_deployment, bytes)
    steps = zip(parts[::_PER_STEP], parts[1::_PER_STEP], parts[2::_PER_STEP], outputs_of_steps, strict=True)
    return replace(
        _listed(bundle, facts),
        parameters=parameters or None,
        outputs=outputs or None,
        metadata=None if metadata is None else with_user(of_deployment, metadata),
        steps=[_step(number, base, step) for number, step in enumerate(steps, 1)],
        logs=[RecordedLog(*log) for log in logs],
    )


def _step(number: int, base: float, step: tuple[str, float, StepEnd, bytes]) -> RecordedStep:
    name, began, end, outputs = step
    ended, status, attempt, error, metadata = (end, COMPLETED, 1, None, None) if isinstance(end, float) else end
    seconds = None if ended is None else ended - began
    notes = None if metadata is None else to_json(metadata)
    return RecordedStep(number, name, status, attempt, base + began, seconds, error, outputs or None, notes)
