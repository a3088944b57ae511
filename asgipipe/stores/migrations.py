"""Bringing the tables of a database up to date."""

from collections.abc import Mapping

from asgipipe.errors import StoreError
from asgipipe.stores.database import Transaction
from asgipipe.stores.schema import STEPS, statements

VERSION = len(STEPS)
"""How many steps this asgipipe knows; a database's version is how many it has."""


def check(version: int, place: str) -> None:
    """Raise StoreError when a database is newer than this asgipipe."""
    if version > VERSION:
        raise StoreError(
            f"the store {place} has version {version}, and this asgipipe knows versions up to {VERSION}: "
            "upgrade asgipipe, or set store_url to another place"
        )


def upgrade(transaction: Transaction, version: int, dialect: Mapping[str, str]) -> None:
    """Do the steps that a database of `version` lacks, in a transaction that keeps others from doing them as well.

    Whoever calls it writes the new version down, in the same transaction.
    """
    for step in STEPS[version:]:
        for statement in statements(step, dialect):
            transaction.change(statement)
