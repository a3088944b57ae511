"""The bookshop: its own pages, and the digest both ways."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from bookshop import database
from bookshop.app import app, partners
from bookshop.digest import digest

KEY = {"authorization": f"Bearer {partners.auth_keys[0]}"}
EMMA = {"parameters": {"book": "Emma"}}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("BOOKSHOP_DATABASE", str(tmp_path / "bookshop.sqlite3"))
    with TestClient(app) as client:
        yield client


@pytest.fixture
def member(client: TestClient) -> TestClient:
    ada = {"name": "Ada", "password": "analytical"}
    assert client.post("/sign-up", json=ada).status_code == 204
    assert client.post("/log-in", json=ada).status_code == 204
    return client


def review(member: TestClient, *texts: str) -> None:
    for text in texts:
        assert member.post("/members/reviews/Emma", content=text).status_code == 201


def test_members_write_and_everybody_reads(member: TestClient) -> None:
    """A review that a member wrote is on the public page, for who is not logged in too."""
    review(member, "Funny, and never dull.")
    member.cookies.clear()
    assert member.get("/reviews/Emma").json() == ["Funny, and never dull."]
    assert member.post("/members/reviews/Emma", content="Again.").status_code == 401


def test_passwords_are_kept_as_hashes(member: TestClient) -> None:
    """A wrong password and an unknown name are refused alike, and the file holds neither password nor token."""
    for given in ({"name": "Ada", "password": "wrong"}, {"name": "Eve", "password": "analytical"}):
        assert member.post("/log-in", json=given).status_code == 403
    kept = str([*database.query("select * from members"), *database.query("select * from sessions")])
    assert "analytical" not in kept
    assert member.cookies["session"] not in kept


def test_a_name_is_taken_once(member: TestClient) -> None:
    """Nobody signs up with the name of another member."""
    assert member.post("/sign-up", json={"name": "Ada", "password": "other"}).status_code == 409


def test_the_pipeline_is_a_function(member: TestClient) -> None:
    """The digest can be called without HTTP, and reads the bookshop's own database."""
    review(member, "Good.", "Dull and far too long.", "A book.")
    assert digest("Emma") == {"reviews": 3, "favourable": 1, "warmest": "Good."}
    assert digest("Persuasion") == {"reviews": 0, "favourable": 0, "warmest": ""}


def test_members_have_the_digest(member: TestClient) -> None:
    """The native routes answer who is logged in."""
    review(member, "Wonderful!")
    answer = member.post("/members/digest/invoke", json=EMMA)
    assert answer.status_code == 200
    assert answer.json()["outputs"]["digest"]["favourable"] == 1


@pytest.mark.parametrize("path", ["invoke", "info", "health", "docs", "nothing", ""])
def test_the_login_guards_all_of_it(client: TestClient, path: str) -> None:
    """Behind the login is everything of the pipeline's; the bookshop itself answers who is not logged in."""
    answer = client.get(f"/members/digest/{path}")
    assert (answer.status_code, answer.json()) == (401, {"error": "please log in"})


def test_partners_have_the_digest_by_key(member: TestClient) -> None:
    """The mount answers whoever has its key, and nobody else, members included."""
    review(member, "Good.")
    assert member.post("/partners/invoke", json=EMMA).status_code == 401
    member.cookies.clear()
    assert member.post("/partners/invoke", json=EMMA, headers=KEY).json()["outputs"]["digest"]["reviews"] == 1


def test_what_is_no_json_is_refused(client: TestClient) -> None:
    """The bookshop's own exception handler answers for the bookshop, not for the digest."""
    assert client.post("/log-in", content="{").json() == {"error": "that is not what is asked for"}
    wrong = client.post("/partners/invoke", content="{", headers={**KEY, "content-type": "application/json"})
    assert wrong.json()["type"] == "urn:asgipipe:bad-request"
