"""A pipeline with parameters of many types, and handlers that read what the framework takes apart.

The environment variable FLAVOR names the app runner.
"""

import os
from datetime import datetime
from enum import Enum

from pydantic import BaseModel

from asgipipe import pipeline
from tests.reliability.served.guarded import natives

FLAVOR = os.environ.get("FLAVOR", "starlette")
READING = natives(FLAVOR).READING


class Choice(Enum):
    A = "a"
    B = "b"


class Nested(BaseModel):
    items: list[float] = []
    more: "Nested | None" = None


def plain(nested: Nested, name: str, choice: Choice = Choice.A, count: int = 1) -> Nested:
    return nested


@pipeline(
    settings={
        "deployment_app_runner_flavor": FLAVOR,
        "custom_endpoints": [
            *({"path": f"/reading/{number}", "handler": handler} for number, handler in enumerate(READING)),
            {"path": "/plain/{name}", "handler": plain},
        ],
    }
)
def typed(
    count: int = 1,
    when: datetime | None = None,
    choice: Choice = Choice.A,
    nested: Nested | None = None,
    anything: dict[str, object] | None = None,
) -> dict[str, object]:
    return {"count": count, "when": when, "choice": choice, "nested": nested, "anything": anything}
