"""What was done to deployments; each operation may be repeated."""

from asgipipe.deployers.records import HistoryEntry
from asgipipe.deployers.registry.pages import Page, cursor_after, key_before
from asgipipe.deployers.registry.rows import columns_of, record_of, stored
from asgipipe.deployers.registry.table import DEPLOYMENTS
from asgipipe.errors import DeploymentError
from asgipipe.stores.database import Row, Transaction

_COLUMNS = columns_of(HistoryEntry)
_SELECT = f"SELECT {_COLUMNS} FROM deployment_history WHERE deployment_id = ?"  # noqa: S608  # constants
_INSERT = f"INSERT INTO deployment_history (deployment_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608

MOST = 1000
"""Entries that are kept of one deployment; beyond, the oldest are forgotten."""


def append(transaction: Transaction, deployment_id: str, entry: HistoryEntry) -> HistoryEntry:
    """Add an entry; its number is the one after the last."""
    deployment = DEPLOYMENTS.get(transaction, deployment_id, lock=True)
    last = _newest(transaction, deployment.id)
    number = last.number if last is not None else 0
    numbered = HistoryEntry(number, entry.at, entry.actor, entry.action, entry.detail)
    if last == numbered:  # by the same call, whose outcome was not known
        return numbered
    numbered = HistoryEntry(number + 1, entry.at, entry.actor, entry.action, entry.detail)
    transaction.change(_INSERT, deployment.id, number + 1, entry.at, entry.actor, entry.action, stored(entry.detail))
    transaction.change(
        "DELETE FROM deployment_history WHERE deployment_id = ? AND number <= ?", deployment.id, number + 1 - MOST
    )
    return numbered


def page(transaction: Transaction, deployment_id: str, *, limit: int, cursor: str | None) -> Page[HistoryEntry]:
    """Return the newest first."""
    before = 2**62 if cursor is None else _number(cursor)
    rows = transaction.rows(f"{_SELECT} AND number < ? ORDER BY number DESC LIMIT ?", deployment_id, before, limit + 1)
    found = [_entry(row) for row in rows]
    more = len(found) > limit
    return Page(tuple(found[:limit]), cursor_after(str(found[limit - 1].number)) if more else None)


def _newest(transaction: Transaction, deployment_id: str) -> HistoryEntry | None:
    row = transaction.row(f"{_SELECT} ORDER BY number DESC LIMIT 1", deployment_id)
    return None if row is None else _entry(row)


def _entry(row: Row) -> HistoryEntry:
    return record_of(HistoryEntry, row)


def _number(cursor: str) -> int:
    key = key_before(cursor)
    if not key.isascii() or not key.isdecimal() or len(key) > 18:
        raise DeploymentError("cursor: give the one of a page before, as it was")
    return int(key)
