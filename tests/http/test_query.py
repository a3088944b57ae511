from collections.abc import Callable
from enum import StrEnum
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.errors import BadRequestError
from asgipipe.http.query import Query
from tests.http.wire import Ask, http_scope


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def query(text: str) -> Query:
    return Query(http_scope(Ask(path=f"/?{text}")))


def test_what_is_missing() -> None:
    """A parameter that is not there is None, whatever it would be."""
    empty = query("other=1")
    assert (empty.choice("c", Colour), empty.integer("n", 0, 9), empty.seconds("s", 9), empty.text("t", 9)) == (
        None,
        None,
        None,
        None,
    )


def test_what_is_right() -> None:
    """Each parameter is read as what it is."""
    given_query = query("c=blue&n=-7&s=1.5e1&t=a%20b")
    assert given_query.choice("c", Colour) is Colour.BLUE
    assert given_query.integer("n", -9, 9) == -7
    assert given_query.seconds("s", 100) == 15.0
    assert given_query.text("t", 3) == "a b"


@pytest.mark.parametrize(
    ("text", "read", "detail"),
    [
        ("c=green", lambda q: q.choice("c", Colour), "The query parameter c can be 'red' or 'blue'."),
        ("c=", lambda q: q.choice("c", Colour), "The query parameter c can be 'red' or 'blue'."),
        ("c=red&c=red", lambda q: q.choice("c", Colour), "The query parameter c can be given once."),
        *(
            (f"n={value}", lambda q: q.integer("n", 1, 9), "The query parameter n can be a whole number from 1 to 9.")
            for value in ("0", "10", "", "1.0", "%2B5", "1_0", "%D9%A1", "9" * 99, "x")
        ),
        *(
            (f"s={value}", lambda q: q.seconds("s", 9), "The query parameter s can be a number of seconds from 0 to 9.")
            for value in ("-1", "9.1", "", ".", "1.2.3", "nan", "inf", "1e999", "%D9%A1", "1_0")
        ),
        ("t=abcd", lambda q: q.text("t", 3), "The query parameter t can have 3 characters at most."),
    ],
)
def test_what_is_wrong(text: str, read: Callable[[Query], object], detail: str) -> None:
    """A refusal names the parameter and says what it can be."""
    with pytest.raises(BadRequestError) as refused:
        read(query(text))
    assert refused.value.detail == detail


@given(st.binary(max_size=40))
def test_any_bytes(raw: bytes) -> None:
    """Whatever a query holds, it is read or refused."""
    scope = {**http_scope(Ask()), "query_string": b"n=" + raw + b"&t=" + quote(raw).encode()}
    for read in (lambda q: q.integer("n", 0, 9), lambda q: q.seconds("n", 9), lambda q: q.text("t", 20)):
        try:
            read(Query(scope))
        except BadRequestError:
            continue
