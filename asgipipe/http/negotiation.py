"""What a client would like to get: the `Accept` header (RFC 9110, section 12.5.1) and `Prefer` (RFC 7240)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from asgipipe.http.types import Scope

Offer = TypeVar("Offer")

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?')
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def chosen(accept: str, offers: Mapping[Offer, Sequence[str]]) -> Offer | None:
    """Return the offer that `accept` wants most; None when it accepts none of them, or says nothing.

    `offers` have the media ranges that let each of them in, the most precise first. The highest weight wins; among
    equals the offer that is named more precisely, so that `text/plain, */*` gives text, and then the first of `offers`.
    """
    weights = _weights(accept)
    best: Offer | None = None
    rank = (0.0, 0)
    for offer, ranges in offers.items():
        for precision, media_range in enumerate(ranges):
            if media_range in weights:  # only the most precise range counts, also when it says q=0
                found = (weights[media_range], -precision)
                if found[0] > 0.0 and (rank[0] == 0.0 or found > rank):
                    best, rank = offer, found
                break
    return best


def prefers(prefer: str, preference: str) -> bool:
    """Tell whether a `Prefer` header names a preference, which has neither a value nor parameters that matter here."""
    return any(name.partition("=")[0].strip() == preference for name, _ in _elements(prefer))


def field(scope: Scope, name: bytes) -> str:
    """Return all values of a header that is a list, as one (RFC 9110, section 5.3)."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name)


def _weights(accept: str) -> dict[str, float]:
    """Return the weight of each media range, the highest where one is repeated; ill-formed ranges are left out."""
    weights: dict[str, float] = {}
    for media_range, parameters in _elements(accept):
        weight = next((value[2:].strip() for value in parameters if value.startswith("q=")), "1")
        if _WEIGHT.fullmatch(weight):
            weights[media_range] = max(float(weight), weights.get(media_range, 0.0))
    return weights


def _elements(value: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the elements of a list and their parameters, in lower case and without quoted text."""
    for element in _QUOTED.sub("", value).lower().split(","):
        first, *parameters = (piece.strip() for piece in element.split(";"))
        yield first, parameters
