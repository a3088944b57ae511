"""What the tables of a store are reached through: operations, each in one transaction, grouped into commits.

An operation is a function of a transaction. It may be called more than once, because a group that failed is repeated
operation by operation, and a commit whose outcome nobody knows is repeated too: so an operation is written such that
what was done already is found done. One that refuses (raises) does so before it has changed anything.

SQL is written once, for both dialects, with `?` for parameters. What both know is enough: `ON CONFLICT`, `RETURNING`,
partial indexes. Numbers, texts and bytes are all there is; JSON is bytes, times are seconds since the epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from typing import ClassVar, Generic, Literal, TypeVar

Value = None | int | float | str | bytes
Row = tuple[Value, ...]

T = TypeVar("T")


class Transaction(ABC):
    """What an operation may do."""

    dialect: ClassVar[Literal["sqlite", "postgresql"]] = "sqlite"
    """For the little that the two do not share: where others write at the same time, rows are locked when read."""

    @abstractmethod
    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        """Return what a query, or a change with RETURNING, gives."""

    @abstractmethod
    def change(self, sql: str, *parameters: Value) -> int:
        """Change rows and return how many."""

    @abstractmethod
    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Do the same change once for each of `rows`."""

    def ask(self, sql: str, *parameters: Value) -> Callable[[], list[Row]]:
        """Send what `rows` takes, and return what waits for its result, so that more can be sent meanwhile."""
        rows = self.rows(sql, *parameters)
        return lambda: rows

    def tell(self, sql: str, *parameters: Value) -> None:
        """Do what `change` does, without waiting for how many rows that are."""
        self.change(sql, *parameters)

    def row(self, sql: str, *parameters: Value) -> Row | None:
        """Return the first row that a query gives."""
        return next(iter(self.rows(sql, *parameters)), None)


Operation = Callable[[Transaction], T]


class Pipelined(Generic[T]):
    """An operation in two parts, so that those of a group need not wait for each other's answers.

    `send` sends its statements (`Transaction.ask`, `tell`), and what it returns is called after those of the others
    were sent. It gives the outcome, and may do more. Either part may refuse.
    """

    __slots__ = ("send",)

    def __init__(self, send: Callable[[Transaction], Callable[[], T]]) -> None:
        self.send = send

    def __call__(self, transaction: Transaction) -> T:
        return self.send(transaction)()


class Database(ABC):
    """One database, opened by one process; its methods may be called on any thread.

    Nothing is opened, and no file is made, before `open`. Everything here is bounded in time: what the database does
    not answer in a few seconds raises UnavailableError, a full disk StorageFullError.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for people: a path, or a URL without its password."""

    @abstractmethod
    def exists(self) -> bool:
        """True when there is something to open; asked often, and answered without waiting."""

    @abstractmethod
    async def open(self) -> None:
        """Make it if need be, and bring its tables up to date.

        Raises UnavailableError when it cannot be reached, and StoreError when it is newer than this asgipipe, on a
        network file system, or no database of ours.
        """

    @abstractmethod
    async def close(self) -> None:
        """Commit what is queued and let go of everything."""

    @abstractmethod
    def enqueue(self, operation: Operation[T], *, urgent: bool = True) -> "Future[T]":
        """Queue an operation; operations are done in the order in which they came here.

        The future has its result once that is durable. One that is not urgent may wait a little for others.
        """

    @abstractmethod
    async def write(self, operation: Operation[T]) -> T:
        """Do an operation and return its result once that is durable."""

    @abstractmethod
    async def read(self, operation: Operation[T]) -> T:
        """Do an operation that changes nothing, beside those that do."""

    # Other processes

    @abstractmethod
    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, in some thread, within 100 ms of every commit of another process; return what ends that.

        It may also be called when nothing has changed.
        """

    @abstractmethod
    async def register(self) -> int:
        """Make this process known as a worker that lives, and return its number: a new one at every call."""

    @abstractmethod
    async def dead(self, workers: Collection[int]) -> set[int]:
        """Return those of `workers` whose process has ended, or has lost the right to go on."""
