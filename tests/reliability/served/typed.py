"""A pipeline with parameters of many types."""

from datetime import datetime
from enum import Enum

from pydantic import BaseModel


class Choice(Enum):
    A = "a"
    B = "b"


class Nested(BaseModel):
    items: list[float] = []
    more: "Nested | None" = None


def typed(
    count: int = 1,
    when: datetime | None = None,
    choice: Choice = Choice.A,
    nested: Nested | None = None,
    anything: dict[str, object] | None = None,
) -> dict[str, object]:
    return {"count": count, "when": when, "choice": choice, "nested": nested, "anything": anything}
