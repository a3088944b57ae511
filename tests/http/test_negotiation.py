import pytest

from asgipipe.http.negotiation import chosen, field, prefers
from tests.http.wire import Ask, http_scope

OFFERS = {"json": ("application/json", "application/*", "*/*"), "stream": ("text/event-stream",)}


@pytest.mark.parametrize(
    ("accept", "offer"),
    [
        ("text/event-stream", "stream"),
        ("Text/Event-Stream; charset=utf-8", "stream"),
        ("text/event-stream, */*", "stream"),
        ("text/event-stream, application/json;q=0.9", "stream"),
        ("text/event-stream;q=0.5, application/json", "json"),
        ("application/json, text/event-stream", "json"),
        ("text/event-stream;q=0", None),
        ("text/event-stream;q=x", None),
        ("*/*", "json"),
        ("text/html", None),
        ("", None),
        (",;,", None),
    ],
)
def test_the_most_wanted_offer(accept: str, offer: str | None) -> None:
    """The highest weight wins, then the more precise name, then the order of the offers."""
    assert chosen(accept, OFFERS) == offer


@pytest.mark.parametrize(
    ("prefer", "honoured"),
    [
        ("respond-async", True),
        ("Respond-Async, wait=10", True),
        ('handling=lenient; note="a, respond-async", respond-async=""', True),
        ('note="respond-async"', False),
        ("respond-asynchronously", False),
        ("", False),
    ],
)
def test_a_preference(prefer: str, honoured: bool) -> None:
    """A preference is found by its name, and never inside quoted text (RFC 7240, section 2)."""
    assert prefers(prefer, "respond-async") is honoured


def test_a_field_in_several_lines() -> None:
    """Lines of one list are one list, whatever the case of their names."""
    asked = Ask(headers=[(b"prefer", b"wait=1"), (b"Prefer", b"respond-async"), (b"accept", b"*/*")])
    assert field(http_scope(asked), b"prefer") == "wait=1, respond-async"
