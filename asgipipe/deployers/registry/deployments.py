"""Operations on deployments; each may be repeated."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from asgipipe.deployers.records import Claim, DeploymentRecord, Status
from asgipipe.deployers.registry import deployers
from asgipipe.deployers.registry.names import check_name
from asgipipe.deployers.registry.pages import Page, cursor_after, key_before
from asgipipe.deployers.registry.rows import names_of
from asgipipe.deployers.registry.table import DEPLOYMENTS, SNAPSHOTS
from asgipipe.errors import DeploymentError
from asgipipe.stores.database import Transaction, Value

_KEPT = ("id", "name", "claim", "created_at")
_SAVED = tuple(name for name in names_of(DeploymentRecord) if name not in _KEPT)


def add(transaction: Transaction, record: DeploymentRecord) -> DeploymentRecord:
    check_name("deployment", record.name)
    deployers.find(transaction, record.deployer, lock=True)
    _check_snapshot(transaction, record)
    if DEPLOYMENTS.insert(transaction, record):
        return record
    known = DEPLOYMENTS.get(transaction, record.name)
    if known != record:
        raise DeploymentError(
            f"there is a deployment {known.name!r} of {known.owner} already; update it, or choose another name"
        )
    return known


def page(
    transaction: Transaction,
    *,
    deployer: str | None,
    snapshot_id: str | None,
    owner: str | None,
    limit: int,
    cursor: str | None,
) -> Page[DeploymentRecord]:
    """Return them by name."""
    conditions, values = ["name > ?"], list[Value]([key_before(cursor) if cursor is not None else ""])
    for column, value in (("deployer", deployer), ("snapshot_id", snapshot_id), ("owner", owner)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    condition = f"{' AND '.join(conditions)} ORDER BY name LIMIT ?"
    found = DEPLOYMENTS.where(transaction, condition, *values, limit + 1)
    more = len(found) > limit
    return Page(tuple(found[:limit]), cursor_after(found[limit - 1].name) if more else None)


def claim(
    transaction: Transaction, deployment_id: str, claim: Claim, is_dead: Callable[[Claim], bool]
) -> DeploymentRecord:
    """Take the right to work on a deployment, which nobody has, or somebody who is dead."""
    record = DEPLOYMENTS.get(transaction, deployment_id, lock=True)
    holder = record.claim
    if holder is not None and holder != claim and not is_dead(holder):
        raise DeploymentError(f"{_working(record.name, holder)}; try again when that has ended")
    claimed = replace(record, claim=claim)
    DEPLOYMENTS.update(transaction, claimed, ("claim",))
    return claimed


def release(transaction: Transaction, deployment_id: str, claim: Claim) -> None:
    """Give the right back; what somebody else holds by now stays with them."""
    record = DEPLOYMENTS.find(transaction, deployment_id, lock=True)
    if record is not None and record.claim == claim:
        DEPLOYMENTS.update(transaction, replace(record, claim=None), ("claim",))


def save(transaction: Transaction, record: DeploymentRecord, claim: Claim, now: float) -> DeploymentRecord:
    """Write what may change of a deployment, while `claim` is held."""
    known = DEPLOYMENTS.get(transaction, record.id, lock=True)
    _check_claim(known, claim)
    if record.wanted is Status.RUNNING or record.snapshot_id != known.snapshot_id:
        _check_snapshot(transaction, record)
    saved = replace(record, name=known.name, created_at=known.created_at, claim=claim, updated_at=now)
    DEPLOYMENTS.update(transaction, saved, _SAVED)
    return saved


def delete(transaction: Transaction, deployment_id: str, claim: Claim) -> None:
    """Forget a deployment and its history, while `claim` is held; one that is gone is no error."""
    record = DEPLOYMENTS.find(transaction, deployment_id, lock=True)
    if record is None:
        return
    _check_claim(record, claim)
    DEPLOYMENTS.delete(transaction, record.name)
    transaction.change("DELETE FROM deployment_history WHERE deployment_id = ?", record.id)


def _check_snapshot(transaction: Transaction, record: DeploymentRecord) -> None:
    """Raise when its snapshot is gone, or runs already; it is locked, so that both stay as they are."""
    snapshot = SNAPSHOTS.get(transaction, record.snapshot_id, lock=True)
    if record.wanted is not Status.RUNNING:
        return
    others = DEPLOYMENTS.where(
        transaction,
        "snapshot_id = ? AND wanted = ? AND id <> ? ORDER BY name LIMIT 1",
        record.snapshot_id,
        Status.RUNNING.value,
        record.id,
    )
    if others:
        other = others[0].name
        raise DeploymentError(
            f"snapshot {snapshot.name!r} runs already, as {other}; make another snapshot, or end that one: "
            f"asgipipe deployment deprovision {other!r}"
        )


def _check_claim(record: DeploymentRecord, claim: Claim) -> None:
    if record.claim == claim:
        return
    if record.claim is None:
        raise DeploymentError(f"deployment {record.name!r} is not claimed any more; run the command again")
    raise DeploymentError(f"{_working(record.name, record.claim)}, who took it over; look what it came to")


def _working(name: str, holder: Claim) -> str:
    since = datetime.fromtimestamp(holder.since, UTC)
    return (
        f"{holder.actor} works on deployment {name!r}: {holder.operation}, in process {holder.pid} on {holder.host} "
        f"since {since:%Y-%m-%d %H:%M:%S} UTC"
    )
