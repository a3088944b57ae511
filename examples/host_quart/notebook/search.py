"""Searching the notes: those that hold the rarest of the words come first."""

import math
import re
from collections import Counter
from typing import Annotated

from pydantic import Field

from asgipipe import pipeline, step
from notebook import database

Query = Annotated[str, Field(min_length=1, max_length=200)]


@step
def weigh(notes: list[str]) -> Annotated[dict[str, float], "weights"]:
    """Return for every word how much it tells: the rarer the more."""
    found = Counter(word for note in notes for word in set(words(note)))
    return {word: math.log(1 + len(notes) / count) for word, count in found.items()}


@step
def rank(query: str, notes: list[str], weights: dict[str, float], limit: int) -> Annotated[list[str], "notes"]:
    asked = set(words(query)) & weights.keys()
    scored = [(sum(weights[word] for word in asked & set(words(note))), note) for note in notes]
    hits = sorted((hit for hit in scored if hit[0]), key=lambda hit: -hit[0])
    return [note for _, note in hits[:limit]]


@pipeline
def search(query: Query, limit: Annotated[int, Field(ge=1, le=50)] = 10) -> list[str]:
    """Return the notes that fit a query best."""
    notes = [text for (text,) in database.query("select text from notes")]
    return rank(query, notes, weigh(notes), limit)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
