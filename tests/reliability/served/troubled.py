"""A deployment whose store has trouble with its disk when it is told to."""

import sqlite3
from collections.abc import Mapping

from asgipipe import pipeline
from asgipipe.stores.sqlite.database import SQLiteDatabase
from tests.stores.sqlite.faults import Disk

disk = Disk()
defaults = SQLiteDatabase.__init__.__kwdefaults__
assert defaults is not None
assert defaults["factory"] is None
defaults["factory"] = disk.factory()

TROUBLES: Mapping[str, tuple[int | None, Mapping[str, int]]] = {
    "none": (None, {}),
    "full": (1, {}),
    "failing": (None, {"COMMIT": sqlite3.SQLITE_IOERR_FSYNC}),
}


def trouble(kind: str) -> None:
    disk.pages, disk.faults = TROUBLES[kind]


@pipeline(settings={"custom_endpoints": [{"path": "/trouble", "method": "GET", "handler": trouble}]})
async def troubled(text: str = "") -> int:
    return len(text)
