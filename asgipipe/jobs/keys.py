"""Idempotency keys: a row for each, made together with what it stands for.

    taken by a sync run ──► answered ──► expired
         │                                  ▲
         └─► void: given back, or its owner is dead
    taken by a job: answered from the beginning

A key that is expired or void is taken anew. While its owner lives, a sync run keeps its key beyond the lifetime.
"""

from collections.abc import Collection
from dataclasses import dataclass

from asgipipe.errors import ConflictError, ValidationError
from asgipipe.jobs.jobs import IdempotencyKey, Replay
from asgipipe.jobs.rows import locking
from asgipipe.stores.database import Transaction

_ACCEPTED = 202

_COLUMNS = "fingerprint, owner, run_id, status, body, expires_at"
_ASSIGNED = "fingerprint = ?, owner = ?, run_id = ?, status = ?, expires_at = ?"
_WHERE = "WHERE deployment = ? AND caller = ? AND key = ?"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """What stands in the way of taking a key; `owner` is the worker of a sync run that has not been answered."""

    fingerprint: str
    owner: int | None
    run_id: str
    status: int | None
    body: bytes | None
    expires_at: float

    def free(self, now: float, dead: Collection[int]) -> bool:
        return self.owner in dead if self.running else self.expires_at <= now

    @property
    def running(self) -> bool:
        return self.status is None

    def replay(self, fingerprint: str) -> Replay:
        """Return what the key stands for.

        Raises ValidationError when that was another request, ConflictError while it runs.
        """
        if fingerprint != self.fingerprint:
            message = "this key was used with another request; send a new key with a new request"
            raise ValidationError(
                f"Idempotency-Key: {message}.",
                errors=[{"loc": ["header", "idempotency-key"], "msg": message, "type": "idempotency_key_reused"}],
            )
        if self.running:
            raise ConflictError(
                "The first request with this Idempotency-Key is still running; ask again once it has been answered.",
                headers=((b"retry-after", b"1"),),
                extra={"run_id": self.run_id},
            )
        return Replay(self.run_id, self.status, self.body)


@dataclass(frozen=True, slots=True)
class Taking:
    """A wish to have a key: for a job (`owner` is None) or a sync run, until `now + ttl`.

    Keys that were taken by one of the workers `dead` and not answered are void.
    """

    deployment: str
    key: IdempotencyKey
    run_id: str
    owner: int | None
    now: float
    ttl: float
    dead: Collection[int] = ()

    def obstacle(self, transaction: Transaction) -> HeldKey | None:
        """Return what keeps the key from being taken; None when it is free, or has this run already."""
        held = held_key(transaction, self.deployment, self.key)
        return None if held is None or self._may_take(held) else held

    def take(self, transaction: Transaction) -> HeldKey | None:
        """Take the key; return what stands in the way when another request was faster."""
        values = (
            self.key.fingerprint,
            self.owner,
            self.run_id,
            _ACCEPTED if self.owner is None else None,
            self.now + self.ttl,
        )
        if transaction.change(
            "INSERT INTO idempotency_keys (fingerprint, owner, run_id, status, expires_at, deployment, caller, key)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (deployment, caller, key) DO NOTHING",
            *values,
            *_place(self.deployment, self.key),
        ):
            return None
        held = held_key(transaction, self.deployment, self.key)
        if held is None:  # removed between the two
            return self.take(transaction)
        if not self._may_take(held):
            return held
        if held.run_id != self.run_id:
            transaction.change(
                f"UPDATE idempotency_keys SET body = NULL, {_ASSIGNED} {_WHERE}",  # noqa: S608  # constants
                *values,
                *_place(self.deployment, self.key),
            )
            unkey(transaction, held.run_id)
        return None

    def _may_take(self, held: HeldKey) -> bool:
        return held.run_id == self.run_id or held.free(self.now, self.dead)


def held_key(transaction: Transaction, deployment: str, key: IdempotencyKey) -> HeldKey | None:
    row = transaction.row(
        f"SELECT {_COLUMNS} FROM idempotency_keys {_WHERE}{locking(transaction)}",  # noqa: S608  # constants
        *_place(deployment, key),
    )
    return None if row is None else HeldKey(*row)  # type: ignore[arg-type]  # the columns are the fields


def answer(
    transaction: Transaction, deployment: str, key: IdempotencyKey, run_id: str, *, status: int, body: bytes
) -> None:
    """Keep the answer, unless the key is somebody else's by now."""
    transaction.change(
        f"UPDATE idempotency_keys SET status = ?, body = ? {_WHERE} AND run_id = ? AND status IS NULL",  # noqa: S608  # constants
        status,
        body,
        *_place(deployment, key),
        run_id,
    )


def release(transaction: Transaction, deployment: str, key: IdempotencyKey, run_id: str) -> None:
    transaction.change(
        f"DELETE FROM idempotency_keys {_WHERE} AND run_id = ? AND status IS NULL",  # noqa: S608  # constants
        *_place(deployment, key),
        run_id,
    )


def release_all(transaction: Transaction, deployment: str, owner: int) -> None:
    """Make void what a dead worker has left."""
    transaction.change(
        "DELETE FROM idempotency_keys WHERE deployment = ? AND owner = ? AND status IS NULL", deployment, owner
    )


def unkey(transaction: Transaction, run_id: str) -> None:
    """Let retention have the job that a key stood for."""
    transaction.change("UPDATE jobs SET keyed = 0 WHERE id = ?", run_id)


def _place(deployment: str, key: IdempotencyKey) -> tuple[str, str, str]:
    return deployment, key.caller, key.key
