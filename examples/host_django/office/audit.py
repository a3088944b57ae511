"""The audit of a claim: what it is for, and what somebody should look at."""

import re
from typing import Annotated, Literal

from asgipipe import pipeline, step
from office.models import Claim

Kind = Literal["meals", "travel", "supplies", "other"]

WORDS: dict[Kind, set[str]] = {
    "meals": {"breakfast", "coffee", "dinner", "lunch", "meal"},
    "travel": {"bus", "flight", "hotel", "taxi", "ticket", "train"},
    "supplies": {"cable", "desk", "keyboard", "monitor", "paper", "pens"},
}
LIMITS: dict[Kind, int] = {"meals": 60_00, "travel": 800_00, "supplies": 250_00, "other": 50_00}  # cents


@step
def classify(text: str) -> Annotated[Kind, "kind"]:
    words = set(re.findall(r"\w+", text.lower()))
    best = max(WORDS, key=lambda kind: len(words & WORDS[kind]))
    return best if words & WORDS[best] else "other"


@step
def question(claim: Claim, kind: Kind) -> Annotated[list[str], "questions"]:
    """Return what somebody should look at; nothing, when the claim can be paid."""
    questions = []
    if claim.cents > LIMITS[kind]:
        questions.append(f"{claim.cents / 100:.2f} is more than {LIMITS[kind] / 100:.2f} for {kind}")
    same = Claim.objects.filter(employee=claim.employee, text__iexact=claim.text, cents=claim.cents)
    if same.exclude(pk=claim.pk).exists():
        questions.append("filed more than once")
    return questions


@pipeline
def audit(claim: int) -> tuple[Annotated[Kind, "kind"], Annotated[list[str], "questions"]]:
    """Look at a claim, by its number, before it is paid."""
    filed = Claim.objects.get(pk=claim)
    kind = classify(filed.text)
    return kind, question(filed, kind)
