import pytest

from asgipipe.errors import BadRequestError
from asgipipe.http.modes import Manner, Mode, is_plain, manner_of
from tests.http.wire import Ask, http_scope

ACCEPT = (b"accept", b"text/event-stream")
PREFER = (b"prefer", b"respond-async")


def manner(query: str = "", *headers: tuple[bytes, bytes]) -> Manner:
    return manner_of(http_scope(Ask("POST", f"/invoke?{query}", headers)))


@pytest.mark.parametrize(
    ("query", "headers", "mode", "preferred"),
    [
        ("", [], Mode.SYNC, False),
        ("other=1", [], Mode.SYNC, False),
        ("", [PREFER], Mode.ASYNC, True),
        ("", [ACCEPT], Mode.STREAM, False),
        ("", [PREFER, ACCEPT], Mode.STREAM, False),
        ("mode=async", [ACCEPT], Mode.ASYNC, False),
        ("mode=async", [PREFER], Mode.ASYNC, True),
        ("mode=stream", [PREFER], Mode.STREAM, False),
        ("mode=sync", [PREFER, ACCEPT], Mode.SYNC, False),
        ("", [(b"accept", b"application/json"), PREFER], Mode.ASYNC, True),
    ],
)
def test_what_wins(query: str, headers: list[tuple[bytes, bytes]], mode: Mode, preferred: bool) -> None:
    """`mode` wins over `Accept`, and that over `Prefer`, which is honoured where the run is a job."""
    found = manner(query, *headers)
    assert (found.mode, found.preferred) == (mode, preferred)


@pytest.mark.parametrize("query", ["mode=", "mode=later", "mode=SYNC", "mode=async&mode=async"])
def test_a_bad_mode(query: str) -> None:
    """Nothing but the three modes, and one of them only."""
    with pytest.raises(BadRequestError, match="mode"):
        manner(query)


def test_what_a_job_can_be_given() -> None:
    """Priority, delay and attempts are those of the query, and those of jobs only."""
    query = "priority=-100&delay=1.5&max_attempts=1000"
    assert manner(f"mode=async&{query}") == Manner(Mode.ASYNC, priority=-100, delay=1.5, max_attempts=1000)
    assert manner(f"mode=stream&{query}") == Manner(Mode.STREAM)


@pytest.mark.parametrize("query", ["priority=101", "delay=-1", "max_attempts=0", "max_attempts=1001", "delay=x"])
@pytest.mark.parametrize("mode", Mode)
def test_what_a_job_cannot_be_given(query: str, mode: Mode) -> None:
    """A bad value is refused whether or not it would matter."""
    with pytest.raises(BadRequestError, match=query.partition("=")[0]):
        manner(f"mode={mode}&{query}")


@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        (Ask("POST", "/invoke"), True),
        (Ask("POST", "/invoke", [(b"accept", b"*/*")]), True),
        (Ask("POST", "/invoke", [(b"accept", b"application/json")]), True),
        (Ask("POST", "/invoke", [ACCEPT]), False),
        (Ask("POST", "/invoke", [PREFER]), False),
        (Ask("POST", "/invoke?mode=sync"), False),
    ],
)
def test_what_need_not_be_parsed(asked: Ask, plain: bool) -> None:
    """What usual clients send is known for a plain request at a glance; anything else is looked at."""
    scope = http_scope(asked)
    assert is_plain(scope, dict(scope["headers"])) is plain
