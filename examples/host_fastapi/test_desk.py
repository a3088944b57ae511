"""The desk: its own pages, and the triage both ways."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from desk import database
from desk.app import app, robots
from desk.triage import triage

KEY = {"authorization": f"Bearer {robots.auth_keys[0]}"}
TICKET = {"text": "Hello! I was charged twice, please refund me. Thank you."}
REFUND = {"team": "billing", "urgent": True, "summary": "I was charged twice, please refund me."}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("DESK_DATABASE", str(tmp_path / "desk.sqlite3"))
    with TestClient(app) as client:
        yield client


@pytest.fixture
def agent(client: TestClient) -> TestClient:
    database.add_agent("Ada", "analytical")
    assert client.post("/log-in", json={"name": "Ada", "password": "analytical"}).status_code == 204
    return client


def test_customers_write_and_agents_read(client: TestClient, agent: TestClient) -> None:
    """Anybody may write a ticket; an agent reads it."""
    number = client.post("/tickets", json=TICKET).json()
    assert agent.get(f"/tickets/{number}").json() == TICKET["text"]
    assert agent.get(f"/tickets/{number + 1}").status_code == 404
    agent.cookies.clear()
    assert client.get(f"/tickets/{number}").status_code == 401


def test_passwords_are_kept_as_hashes(agent: TestClient) -> None:
    """A wrong password and an unknown name are refused alike, and the file holds neither password nor token."""
    for given in ({"name": "Ada", "password": "wrong"}, {"name": "Eve", "password": "analytical"}):
        assert agent.post("/log-in", json=given).status_code == 403
    kept = str([*database.query("select * from agents"), *database.query("select * from sessions")])
    assert "analytical" not in kept
    assert agent.cookies["session"] not in kept


def test_the_pipeline_is_a_function(client: TestClient) -> None:
    """The triage can be called without HTTP, and reads the desk's own database."""
    database.query("insert into tickets values (7, 'What is the price?')")
    assert triage(7) == ("sales", False, "What is the price?")
    with pytest.raises(LookupError, match="no ticket 8"):
        triage(8)


def test_agents_have_the_triage(agent: TestClient) -> None:
    """The native routes answer who is logged in."""
    number = agent.post("/tickets", json=TICKET).json()
    answer = agent.post("/triage/invoke", json={"parameters": {"ticket": number}})
    assert answer.status_code == 200
    assert answer.json()["outputs"] == REFUND


def test_a_ticket_that_is_not_there_is_a_failed_run(agent: TestClient) -> None:
    """What the pipeline raises is the error of the run, not one of the desk's."""
    answer = agent.post("/triage/invoke", json={"parameters": {"ticket": 7}})
    assert answer.status_code == 500
    assert answer.json()["error"].endswith("there is no ticket 7")


@pytest.mark.parametrize("path", ["invoke", "info", "health", "docs", "nothing", ""])
def test_the_login_guards_all_of_it(client: TestClient, path: str) -> None:
    """Behind the login is everything of the pipeline's; the desk itself answers who is not logged in."""
    answer = client.get(f"/triage/{path}")
    assert (answer.status_code, answer.json()) == (401, {"detail": "please log in"})


def test_programs_have_the_triage_by_key(agent: TestClient) -> None:
    """The mount answers whoever has its key, and nobody else, agents included."""
    number = agent.post("/tickets", json=TICKET).json()
    asked = {"parameters": {"ticket": number}}
    assert agent.post("/robots/invoke", json=asked).status_code == 401
    agent.cookies.clear()
    assert agent.post("/robots/invoke", json=asked, headers=KEY).json()["outputs"] == REFUND


def test_the_desk_documents_the_triage(client: TestClient) -> None:
    """The desk's own OpenAPI document shows the native routes, guarded by the session like its own."""
    paths = client.get("/openapi.json").json()["paths"]
    assert paths["/triage/invoke"]["post"]["security"] == paths["/tickets/{number}"]["get"]["security"]
    assert not any(path.startswith("/robots") for path in paths)
