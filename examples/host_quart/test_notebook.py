"""The notebook: its own pages, and the search both ways."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from quart.typing import TestClientProtocol as Client

from notebook import database
from notebook.app import app, robots
from notebook.search import search

KEY = {"authorization": f"Bearer {robots.auth_keys[0]}"}
ADA = {"name": "Ada", "password": "analytical"}
NOTES = ("Buy tea and milk.", "Call Grace about the compiler.", "Tea with Grace on Friday.")
ASKED = {"parameters": {"query": "grace compiler"}}

Scenario = Callable[[Client], Awaitable[None]]


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_DATABASE", str(tmp_path / "notebook.sqlite3"))


@asynccontextmanager
async def served() -> AsyncIterator[Client]:
    async with app.test_app():
        yield app.test_client()


def told(scenario: Scenario) -> None:
    """Run a scenario with a client of the application, which is started and stopped around it."""

    async def tell() -> None:
        async with served() as client:
            await scenario(client)

    asyncio.run(tell())


async def log_in(client: Client) -> None:
    assert (await client.post("/writers", json=ADA)).status_code == 204
    assert (await client.post("/log-in", json=ADA)).status_code == 204


async def write(client: Client) -> None:
    for text in NOTES:
        assert (await client.post("/notes", data=text)).status_code == 201


def test_writers_share_notes() -> None:
    """The notes are there for every writer, and for nobody who is not logged in."""

    async def scenario(client: Client) -> None:
        await log_in(client)
        await write(client)
        assert await (await client.get("/notes")).get_json() == [*NOTES]
        assert (await app.test_client().get("/notes")).status_code == 401

    told(scenario)


def test_passwords_are_kept_as_hashes() -> None:
    """A wrong password and an unknown name are refused alike, and the file does not hold the password."""

    async def scenario(client: Client) -> None:
        await log_in(client)
        for given in ({**ADA, "password": "wrong"}, {**ADA, "name": "Eve"}):
            assert (await client.post("/log-in", json=given)).status_code == 403
        assert "analytical" not in str(database.query("select * from writers"))

    told(scenario)


def test_the_pipeline_is_a_function() -> None:
    """The search can be called without HTTP, and reads the notebook's own database."""
    database.create()
    for text in NOTES:
        database.query("insert into notes (writer, text) values ('Ada', ?)", text)
    assert search("grace compiler") == [NOTES[1], NOTES[2]]
    assert search("grace compiler", limit=1) == [NOTES[1]]


def test_writers_have_the_search() -> None:
    """The native routes answer who is logged in."""

    async def scenario(client: Client) -> None:
        await log_in(client)
        await write(client)
        answer = await client.post("/search/invoke", json=ASKED)
        assert answer.status_code == 200
        assert (await answer.get_json())["outputs"] == {"notes": [NOTES[1], NOTES[2]]}

    told(scenario)


@pytest.mark.parametrize("path", ["invoke", "info", "health", "docs", "nothing", ""])
def test_the_login_guards_all_of_it(path: str) -> None:
    """Behind the login is everything of the pipeline's; the notebook itself answers who is not logged in."""

    async def scenario(client: Client) -> None:
        answer = await client.get(f"/search/{path}")
        assert (answer.status_code, await answer.get_json()) == (401, {"error": "please log in"})

    told(scenario)


def test_programs_have_the_search_by_key() -> None:
    """The mount answers whoever has its key, and nobody else, writers included."""

    async def scenario(client: Client) -> None:
        await log_in(client)
        await write(client)
        assert (await client.post("/robots/invoke", json=ASKED)).status_code == 401
        answer = await app.test_client().post("/robots/invoke", json=ASKED, headers=KEY)
        assert (await answer.get_json())["outputs"] == {"notes": [NOTES[1], NOTES[2]]}

    told(scenario)


def test_what_is_no_json_is_refused() -> None:
    """The notebook's own error handler answers for the notebook, not for the search."""

    async def scenario(client: Client) -> None:
        wrong = await client.post("/log-in", data="{")
        assert (wrong.status_code, await wrong.get_json()) == (422, {"error": "that is not what is asked for"})
        wrong = await client.post("/robots/invoke", data="{", headers={**KEY, "content-type": "application/json"})
        assert (wrong.status_code, wrong.content_type) == (400, "application/problem+json")

    told(scenario)
