"""A table of things that have a name."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from asgipipe.deployers.records import DeployerRecord, DeploymentRecord, Snapshot
from asgipipe.deployers.registry.names import unknown
from asgipipe.deployers.registry.rows import Record, columns_of, record_of, values_of
from asgipipe.jobs.rows import locking
from asgipipe.stores.database import Transaction, Value


class Named(Record, Protocol):
    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Named)

_CANDIDATES = 1000
"""How many names a wrong one is compared with: the newest."""


class Table(Generic[R]):
    """`name` is that of the table, `noun` what one of its things is called, `keys` the columns it is found by."""

    def __init__(self, name: str, kind: type[R], noun: str, keys: Sequence[str] = ("name", "id")) -> None:
        self.name = name
        self.noun = noun
        self._kind = kind
        self._keys = keys
        self._select = f"SELECT {columns_of(kind)} FROM {name}"  # noqa: S608  # constants, here and below

    def find(self, transaction: Transaction, key: str, *, lock: bool = False) -> R | None:
        """Return what has the name or id `key`; with `lock` nobody else changes it until the transaction ends."""
        for column in self._keys:
            found = self.where(transaction, f"{column} = ?{locking(transaction) if lock else ''}", key)
            if found:
                return found[0]
        return None

    def get(self, transaction: Transaction, key: str, *, lock: bool = False) -> R:
        """Do what `find` does. Raises DeploymentError when there is nothing."""
        found = self.find(transaction, key, lock=lock)
        if found is None:
            raise unknown(self.noun, key, self.names(transaction))
        return found

    def where(self, transaction: Transaction, condition: str, *values: Value) -> list[R]:
        """Return the rows for which a condition holds; what comes after WHERE may end with an order and a limit."""
        return [record_of(self._kind, row) for row in transaction.rows(f"{self._select} WHERE {condition}", *values)]

    def insert(self, transaction: Transaction, record: R) -> bool:
        """Return False when its name or its id is taken."""
        values = values_of(record)
        marks = ", ".join("?" * len(values))
        columns = columns_of(self._kind)
        sql = f"INSERT INTO {self.name} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        return transaction.change(sql, *values) == 1

    def update(self, transaction: Transaction, record: R, names: Sequence[str]) -> None:
        """Write the columns `names` of the row that has the record's name."""
        assignments = ", ".join(f"{name} = ?" for name in names)
        sql = f"UPDATE {self.name} SET {assignments} WHERE name = ?"  # noqa: S608
        transaction.change(sql, *values_of(record, names), record.name)

    def delete(self, transaction: Transaction, name: str) -> None:
        transaction.change(f"DELETE FROM {self.name} WHERE name = ?", name)  # noqa: S608

    def names(self, transaction: Transaction) -> list[str]:
        sql = f"SELECT name FROM {self.name} ORDER BY created_at DESC LIMIT ?"  # noqa: S608
        return [str(name) for (name,) in transaction.rows(sql, _CANDIDATES)]


SNAPSHOTS = Table("snapshots", Snapshot, "snapshot")
DEPLOYERS = Table("deployers", DeployerRecord, "deployer", keys=("name",))
DEPLOYMENTS = Table("deployments", DeploymentRecord, "deployment")
