"""Database connections that runs open: in threads of ours, and in the one that asgiref gives asynchronous queries."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")

PROGRAM = """
import asyncio
import sys

from django.conf import settings

settings.configure(
    DATABASES={{"default": {{
        "ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1], "CONN_MAX_AGE": {age},
    }}}},
    LOGGING_CONFIG=None,
)

import django

django.setup()

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.signals import connection_created

from asgipipe import Deployment, step
from tests.conftest import lifespan
from tests.http.wire import invoke, reply

opened = []
connection_created.connect(lambda connection, **_: opened.append(connection), weak=False)


def query():
    with connection.cursor() as cursor:
        return cursor.execute("select 41 + 1").fetchone()[0]


@step(timeout=20)
def aside():
    return query()


def in_thread():
    return query()


def with_deadline():
    return aside()


async def asynchronous():
    return await sync_to_async(query)()


async def run(deployment, times=8):
    answers = await asyncio.gather(*(reply(deployment.asgi_app, invoke({{}})) for _ in range(times)))
    assert [answer.json()["outputs"] for answer in answers] == [{{"output": 42}}] * times, answers[0].body


def left_open():
    return [one for one in {{id(one): one for one in opened}}.values() if one.connection is not None]


async def main():
    deployment = Deployment({pipeline}, {{"deployment_app_runner_flavor": "django"}}, layers=())
    async with lifespan(deployment.asgi_app):
        await run(deployment)
        assert opened
{checks}
    assert left_open() == [], "after the stop"


asyncio.run(main())
"""

CLOSED = """
        assert left_open() == [], "after the runs"
"""
KEPT = """
        count = len(left_open())
        assert 1 <= count <= deployment.executor.size
        for one in left_open():  # as if the database had been silent for longer than it may be
            one.close_at = 0.0
        before = len(opened)
        await run(deployment)
        assert len(opened) > before, "a connection that is too old was used again"
        for one in left_open():  # as if the database had been restarted
            one.errors_occurred = True
            one.is_usable = lambda: False
        before = len(opened)
        await run(deployment)
        assert len(opened) > before, "a connection that is broken was used again"
        assert len(left_open()) <= deployment.executor.size
"""


@pytest.mark.parametrize(
    ("pipeline", "age", "checks"),
    [
        ("in_thread", 0, CLOSED),
        ("in_thread", 600, KEPT),
        ("in_thread", None, ""),
        ("with_deadline", 0, CLOSED),
        ("with_deadline", 600, CLOSED),
        ("asynchronous", 0, CLOSED),
        ("asynchronous", 600, CLOSED),
    ],
    ids=lambda value: "" if isinstance(value, str) and "\n" in value else None,
)
def test_connections_neither_leak_nor_go_stale(pipeline: str, age: int | None, checks: str, tmp_path: Path) -> None:
    """They are closed and renewed around every run, as around a request of Django's, and all closed at the end."""
    program = PROGRAM.format(pipeline=pipeline, age=age, checks=checks)
    command = (sys.executable, "-W", "error", "-c", program, str(tmp_path / "db.sqlite3"))
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (ran.returncode, ran.stderr) == (0, "")
