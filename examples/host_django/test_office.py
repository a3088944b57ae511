"""The office: its own pages, and the audit both ways."""

import asyncio
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from office.asgi import application, robots
from office.audit import audit
from office.models import Claim

KEY = {"authorization": f"Bearer {robots.auth_keys[0]}"}


@pytest.fixture
def ada() -> User:
    return User.objects.create(username="Ada")


@pytest.fixture
def employee(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def invoke(client: Client, claim: int) -> Any:
    return client.post("/audit/invoke", {"parameters": {"claim": claim}}, content_type="application/json")


def test_employees_file_claims(employee: Client) -> None:
    """A claim that an employee filed is on the employee's page; somebody else sees the login."""
    assert employee.post("/claims/", {"text": "Train to Leeds", "cents": 4100}).status_code == 302
    assert "Train to Leeds: 4100 cents" in employee.get("/claims/").content.decode()
    assert Client().get("/claims/").headers["location"] == "/login/?next=/claims/"


def test_who_logs_in_comes_to_the_claims() -> None:
    """The login page takes name and password, and leads to the claims."""
    User.objects.create_user("Ada", password="analytical")
    answer = Client().post("/login/", {"username": "Ada", "password": "analytical"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/claims/")


def test_the_pipeline_is_a_function(ada: User) -> None:
    """The audit can be called without HTTP, and reads the office's own database."""
    lunch = Claim.objects.create(employee=ada, text="Lunch", cents=9900)
    assert audit(lunch.pk) == ("meals", ["99.00 is more than 60.00 for meals"])
    again = Claim.objects.create(employee=ada, text="lunch", cents=9900)
    assert audit(again.pk)[1][1:] == ["filed more than once"]


def test_employees_have_the_audit(ada: User, employee: Client) -> None:
    """The native routes answer who is logged in."""
    claim = Claim.objects.create(employee=ada, text="Taxi", cents=2500)
    answer = invoke(employee, claim.pk)
    assert answer.status_code == 200
    assert answer.json()["outputs"] == {"kind": "travel", "questions": []}


def test_a_claim_that_is_not_there_is_a_failed_run(employee: Client) -> None:
    """What the pipeline raises is the error of the run, not a page of Django's."""
    answer = invoke(employee, 7)
    assert answer.status_code == 500
    assert "does not exist" in answer.json()["error"]


@pytest.mark.parametrize("path", ["invoke", "info", "health", "docs", "nothing", ""])
def test_the_login_guards_all_of_it(path: str) -> None:
    """Behind the login is everything of the pipeline's; the office itself answers who is not logged in."""
    answer = Client().get(f"/audit/{path}")
    assert (answer.status_code, answer.headers["location"]) == (302, f"/login/?next=/audit/{path}")


def test_routes_have_names() -> None:
    """Templates and views of the office find the native routes by name."""
    assert reverse("audit:invoke") == "/audit/invoke"


def test_programs_have_the_audit_by_key(ada: User) -> None:
    """The mount, which only the ASGI application has, answers whoever has its key, and nobody else."""
    claim = Claim.objects.create(employee=ada, text="Pens", cents=999)
    asked = {"parameters": {"claim": claim.pk}}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            answers = [await client.post("/robots/invoke", json=asked, headers=headers) for headers in ({}, KEY)]
            await robots.stop()
            return answers

    refused, answered = asyncio.run(ask())
    assert refused.status_code == 401
    assert answered.json()["outputs"] == {"kind": "supplies", "questions": []}
