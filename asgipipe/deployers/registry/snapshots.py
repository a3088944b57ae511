"""Operations on snapshots; each may be repeated."""

import re
from dataclasses import replace

from asgipipe.deployers.records import Snapshot
from asgipipe.deployers.registry.names import LONGEST, check_name
from asgipipe.deployers.registry.pages import Page, cursor_after, key_before
from asgipipe.deployers.registry.table import DEPLOYMENTS, SNAPSHOTS
from asgipipe.errors import DeploymentError
from asgipipe.stores.database import Transaction, Value

_DIGITS = 9
"""Of the number at the end of an automatic name."""
_LOOKED_AT = 1000
_CHUNK = 100


def add(transaction: Transaction, snapshot: Snapshot, *, numbered: bool) -> Snapshot:
    """Keep a snapshot; with `numbered` its name gets the number after the last one that begins like it."""
    check_name("snapshot", snapshot.name)
    kept = next(iter(SNAPSHOTS.where(transaction, "id = ?", snapshot.id)), None)
    if kept is not None:
        return kept
    if not numbered:
        if not SNAPSHOTS.insert(transaction, snapshot):
            raise DeploymentError(
                f"there is a snapshot {snapshot.name!r} already; choose another name, or delete that one: "
                f"asgipipe snapshot delete {snapshot.name!r}"
            )
        return snapshot
    base = f"{snapshot.name[: LONGEST - _DIGITS - 1].strip()}-"
    number = _last_number(transaction, base)
    while True:  # somebody else may take a number at the same moment
        number += 1
        named = replace(snapshot, name=f"{base}{number}")
        if SNAPSHOTS.insert(transaction, named):
            return named


def page(
    transaction: Transaction, *, tag: str | None, pipeline: str | None, limit: int, cursor: str | None
) -> Page[Snapshot]:
    """Return the newest first."""
    before = None if cursor is None else key_before(cursor)
    found: list[Snapshot] = []
    while len(found) <= limit:
        chunk = _chunk(transaction, pipeline, before)
        # The databases have no word in common for looking into JSON.
        found += [snapshot for snapshot in chunk if tag is None or tag in snapshot.tags]
        if len(chunk) < _CHUNK:
            break
        before = chunk[-1].id
    more = len(found) > limit
    return Page(tuple(found[:limit]), cursor_after(found[limit - 1].id) if more else None)


def _chunk(transaction: Transaction, pipeline: str | None, before: str | None) -> list[Snapshot]:
    conditions, values = ["1 = 1"], list[Value]()
    for condition, value in (("pipeline = ?", pipeline), ("id < ?", before)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    return SNAPSHOTS.where(transaction, f"{' AND '.join(conditions)} ORDER BY id DESC LIMIT ?", *values, _CHUNK)


def delete(transaction: Transaction, key: str) -> None:
    """Forget a snapshot that no deployment needs; one that is gone is no error when it is called by its id."""
    snapshot = SNAPSHOTS.get(transaction, key, lock=True)
    users = [deployment.name for deployment in DEPLOYMENTS.where(transaction, "snapshot_id = ?", snapshot.id)]
    if users:
        names = ", ".join(sorted(users)[:5])
        raise DeploymentError(
            f"snapshot {snapshot.name!r} is what {names} {'is' if len(users) == 1 else 'are'} provisioned from; "
            "delete or update the deployment first"
        )
    SNAPSHOTS.delete(transaction, snapshot.name)


def _last_number(transaction: Transaction, base: str) -> int:
    pattern = re.sub("[!%_]", r"!\g<0>", base) + "%"
    rows = transaction.rows(
        "SELECT name FROM snapshots WHERE name LIKE ? ESCAPE '!' ORDER BY created_at DESC LIMIT ?", pattern, _LOOKED_AT
    )
    # SQLite's LIKE takes no notice of case.
    ends = [str(name)[len(base) :] for (name,) in rows if str(name).startswith(base)]
    return max((int(end) for end in ends if end.isascii() and end.isdecimal() and len(end) <= _DIGITS), default=0)
