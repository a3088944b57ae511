"""Triage of a ticket: whom it is for, how much it presses, and what it says in one sentence."""

import re
from typing import Annotated, Literal

from asgipipe import pipeline, step
from desk.database import query

Team = Literal["billing", "technical", "sales", "general"]

WORDS: dict[Team, set[str]] = {
    "billing": {"charged", "invoice", "paid", "payment", "refund"},
    "technical": {"broken", "crash", "crashes", "error", "fails", "login", "password"},
    "sales": {"buy", "discount", "offer", "price", "quote", "upgrade"},
}
PRESSING = {"asap", "cannot", "immediately", "now", "twice", "urgent"}


@step
def classify(text: str) -> Annotated[Team, "team"]:
    words = set(re.findall(r"\w+", text.lower()))
    best = max(WORDS, key=lambda team: len(words & WORDS[team]))
    return best if words & WORDS[best] else "general"


@step
def weigh(text: str) -> Annotated[bool, "urgent"]:
    return bool(PRESSING & set(re.findall(r"\w+", text.lower())))


@step
def summarise(text: str) -> Annotated[str, "summary"]:
    """Return the sentence with the most words that decide something."""
    telling = PRESSING.union(*WORDS.values())
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    return max(sentences, key=lambda sentence: len(telling & set(re.findall(r"\w+", sentence.lower()))))


@pipeline
def triage(ticket: int) -> tuple[Annotated[Team, "team"], Annotated[bool, "urgent"], Annotated[str, "summary"]]:
    """Say whom a ticket is for, how much it presses, and what it is about."""
    for (text,) in query("select text from tickets where id = ?", ticket):
        return classify(text), weigh(text), summarise(text)
    raise LookupError(f"there is no ticket {ticket}")
