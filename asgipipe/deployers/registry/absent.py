"""What is read where there is no database: nothing, and none is made for it."""

from collections.abc import Iterable, Sequence

from asgipipe.stores.database import Row, Transaction, Value


class NothingThere(Transaction):
    """For operations that change nothing."""

    def rows(self, sql: str, *parameters: Value) -> list[Row]:
        return []

    def change(self, sql: str, *parameters: Value) -> int:
        return 0

    def change_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """There are none to change."""
