"""The registry: what others call."""

import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from asgipipe.deployers.records import Claim, DeployerRecord, DeploymentRecord, HistoryEntry, Snapshot
from asgipipe.deployers.registry import deployers, deployments, history, snapshots
from asgipipe.deployers.registry.absent import NothingThere
from asgipipe.deployers.registry.loop import LoopThread
from asgipipe.deployers.registry.pages import Page
from asgipipe.deployers.registry.table import DEPLOYMENTS, SNAPSHOTS
from asgipipe.errors import HTTPError, StoreError
from asgipipe.settings.stores import MEMORY
from asgipipe.stores.database import Database, Operation
from asgipipe.stores.lazy import LazyDatabase

T = TypeVar("T")

MOST = 1000
"""Things that one call lists at most."""


class Registry:
    """Snapshots, deployers and deployments in a database; use it as a context manager, on any thread.

    The database is opened by the first call that needs it, and made by the first that writes. Every method may raise
    StoreError when it cannot be used; DeploymentError says what else is wrong. Things are found by name or by id.
    """

    def __init__(self, database: Database) -> None:
        if database.place == MEMORY:
            raise StoreError(
                "deployments outlive the command that makes them, and a store in memory does not: set store_url to a "
                "file, or to postgresql://..."
            )
        self._lazy = LazyDatabase(lambda: database)
        self._loop = LoopThread("asgipipe-registry")

    @property
    def place(self) -> str:
        """Where the registry is, for people."""
        return self._lazy.database.place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._lazy.opened:
            self._loop.run(self._lazy.close())
        self._loop.close()

    # Snapshots

    def add_snapshot(self, snapshot: Snapshot, *, numbered: bool = False) -> Snapshot:
        """Keep a snapshot and return it as it is kept; its name must be free.

        With `numbered` it is called `<name>-<n>`, `n` being the number after the last that was given.
        """
        return self._write(partial(snapshots.add, snapshot=snapshot, numbered=numbered))

    def snapshot(self, key: str) -> Snapshot:
        return self._read(lambda transaction: SNAPSHOTS.get(transaction, key))

    def snapshots(
        self, *, tag: str | None = None, pipeline: str | None = None, limit: int = MOST, cursor: str | None = None
    ) -> Page[Snapshot]:
        """Return the newest first."""
        return self._read(partial(snapshots.page, tag=tag, pipeline=pipeline, limit=_bounded(limit), cursor=cursor))

    def delete_snapshot(self, key: str) -> None:
        """Forget a snapshot; refused while a deployment, provisioned or not, is made from it."""
        self._write(partial(snapshots.delete, key=key))

    # Deployers

    def add_deployer(self, deployer: DeployerRecord) -> None:
        self._write(partial(deployers.add, deployer=deployer))

    def deployer(self, name: str) -> DeployerRecord:
        """Return a deployer; `local` is always there."""
        return self._read(partial(deployers.find, name=name))

    def deployers(self) -> list[DeployerRecord]:
        return self._read(deployers.every)

    def update_deployer(self, deployer: DeployerRecord) -> None:
        """Change the settings of a deployer; its flavor stays."""
        self._write(partial(deployers.update, deployer=deployer))

    def delete_deployer(self, name: str, *, force: bool = False) -> None:
        """Forget a deployer; without `force` it is refused while one of its deployments is there, or should be."""
        self._write(partial(deployers.delete, name=name, force=force))

    # Deployments

    def add_deployment(self, record: DeploymentRecord) -> DeploymentRecord:
        """Make a deployment known; its name must be free."""
        return self._write(partial(deployments.add, record=record))

    def deployment(self, key: str) -> DeploymentRecord:
        return self._read(lambda transaction: DEPLOYMENTS.get(transaction, key))

    def find_deployment(self, key: str) -> DeploymentRecord | None:
        return self._read(lambda transaction: DEPLOYMENTS.find(transaction, key))

    def deployments(
        self,
        *,
        deployer: str | None = None,
        snapshot_id: str | None = None,
        owner: str | None = None,
        limit: int = MOST,
        cursor: str | None = None,
    ) -> Page[DeploymentRecord]:
        """Return them by name."""
        return self._read(
            partial(
                deployments.page,
                deployer=deployer,
                snapshot_id=snapshot_id,
                owner=owner,
                limit=_bounded(limit),
                cursor=cursor,
            )
        )

    def claim(self, deployment_id: str, claim: Claim, is_dead: Callable[[Claim], bool]) -> DeploymentRecord:
        """Take the right to change a deployment and return how it is; `is_dead` says whether a holder has ended.

        Raises DeploymentError, with who works on it since when, while somebody does.
        """
        return self._write(partial(deployments.claim, deployment_id=deployment_id, claim=claim, is_dead=is_dead))

    def release(self, deployment_id: str, claim: Claim) -> None:
        """Give back the right to change a deployment; nothing happens when it was taken over, or is gone."""
        self._write(partial(deployments.release, deployment_id=deployment_id, claim=claim))

    def save(self, record: DeploymentRecord, claim: Claim) -> DeploymentRecord:
        """Write all of a deployment but its claim, name and creation, and return it as it is then.

        Raises DeploymentError when `claim` is not held any more, and when it is to run and its snapshot runs already.
        """
        return self._write(partial(deployments.save, record=record, claim=claim, now=time.time()))

    def delete_deployment(self, deployment_id: str, claim: Claim) -> None:
        """Forget a deployment and its history. Raises DeploymentError when `claim` is not held any more."""
        self._write(partial(deployments.delete, deployment_id=deployment_id, claim=claim))

    # History

    def append(self, deployment_id: str, action: str, detail: Mapping[str, object], actor: str) -> HistoryEntry:
        """Note what was done to a deployment; the newest 1000 entries are kept."""
        entry = HistoryEntry(0, time.time(), actor, action, detail)
        return self._write(partial(history.append, deployment_id=deployment_id, entry=entry))

    def history(self, deployment_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[HistoryEntry]:
        """Return the newest first."""
        return self._read(partial(history.page, deployment_id=deployment_id, limit=_bounded(limit), cursor=cursor))

    def _read(self, operation: Operation[T]) -> T:
        return self._run(self._reading(operation))

    def _write(self, operation: Operation[T]) -> T:
        return self._run(self._writing(operation))

    def _run(self, work: Coroutine[object, object, T]) -> T:
        try:
            return self._loop.run(work)
        except HTTPError as error:  # what callers over HTTP are told: that the store is busy, full or away
            raise StoreError(f"the store {self.place} cannot be used: {error.detail}") from error

    async def _reading(self, operation: Operation[T]) -> T:
        database = await self._lazy.open_existing()
        return operation(NothingThere()) if database is None else await database.read(operation)

    async def _writing(self, operation: Operation[T]) -> T:
        database = await self._lazy.open()
        return await database.write(operation)


def _bounded(limit: int) -> int:
    return max(1, min(limit, MOST))
