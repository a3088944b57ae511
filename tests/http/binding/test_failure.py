import asyncio
import threading
from collections.abc import Callable

import pytest
from starlette.exceptions import HTTPException

from asgipipe.errors import BadRequestError, RunCanceled, StartupError, ValidationError
from asgipipe.http.binding.bound import Bound, Limits
from asgipipe.http.types import Scope
from tests.http.binding.conftest import PATIENCE, Answer, Ask

SECRET = "secret-7f3a"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: list[BaseException] = [
    ValueError(SECRET),
    StopIteration(SECRET),
    StopAsyncIteration(SECRET),
    TimeoutError(SECRET),
    RecursionError(SECRET),
    MemoryError(SECRET),
    OSError(SECRET),
    SystemExit(SECRET),
    KeyboardInterrupt(SECRET),
    GeneratorExit(SECRET),
    asyncio.CancelledError(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    BaseExceptionGroup(SECRET, [SystemExit(SECRET)]),
    RunCanceled(SECRET),
    StartupError(SECRET),
    UnprintableError(),
    ValueError("é" * 1_000_000),
    ValueError("\ud800"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_async", [True, False])
def test_whatever_is_raised_is_a_500_that_says_nothing(
    ask: Ask, caplog: pytest.LogCaptureFixture, error: BaseException, is_async: bool
) -> None:
    """Any exception of a handler becomes a problem without a word of it, and one bounded record with its name."""

    async def waiting() -> None:
        raise error

    def plain() -> None:
        raise error

    handler = waiting if is_async else plain
    answer = ask(handler)
    assert (answer.status, answer.problem["detail"]) == (500, "The server failed to answer; its log says why.")
    (record,) = caplog.records
    message = record.getMessage().encode("utf-8", "backslashreplace")
    assert handler.__name__.encode() in message
    assert len(message) <= 8192
    assert record.exc_info is None


def test_our_refusals_are_problems(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """An HTTPError that a handler raises is the answer, and is not logged."""

    def handler() -> None:
        raise ValidationError("no", errors=[{"loc": ["a"], "msg": "m", "type": "t"}])

    assert ask(handler).places == {("a",)}
    assert not caplog.records


def test_a_refusal_without_json_form(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal into which a handler put something unserialisable is a logged 500."""

    def handler() -> None:
        raise BadRequestError("\ud800", extra={"x": object()})

    assert ask(handler).problem["status"] == 500
    assert "handler" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HTTPException(404), (404, "not-found", "Not Found", "Not Found")),
        (HTTPException(413, "big"), (413, "body-too-large", "Content Too Large", "big")),
        (HTTPException(409, "taken"), (409, "conflict", "Conflict", "taken")),
        (HTTPException(418), (418, "i-m-a-teapot", "I'm a Teapot", "I'm a Teapot")),
        (HTTPException(499, "odd"), (499, "status-499", "Status 499", "odd")),
        (HTTPException(422, {"a": [1]}), (422, "validation", "Unprocessable Content", '{"a":[1]}')),  # type: ignore[arg-type]  # as FastAPI allows
    ],
)
def test_starlettes_refusals_are_problems(ask: Ask, error: HTTPException, expected: tuple[int, str, str, str]) -> None:
    """An HTTPException of Starlette's keeps its status, and becomes a problem with the type of its status."""

    def handler() -> None:
        raise error

    status, kind, title, detail = expected
    answer = ask(handler)
    assert answer.status == status
    assert answer.problem == {"type": f"urn:asgipipe:{kind}", "title": title, "status": status, "detail": detail}


def test_headers_of_a_refusal_are_sent(ask: Ask) -> None:
    """The headers of an HTTPException are sent with it."""

    def handler() -> None:
        raise HTTPException(429, headers={"Retry-After": 7})  # type: ignore[dict-item]  # as users write it

    assert ask(handler).headers[b"retry-after"] == b"7"


@pytest.mark.parametrize(
    "error",
    [
        HTTPException(400, headers={"x": "a\r\nset-cookie: b"}),
        HTTPException(400, headers={"x": "☃"}),
        HTTPException(400, "\ud800"),
        HTTPException(400, object()),  # type: ignore[arg-type]  # what a user may write
        HTTPException(200, "fine"),
        HTTPException(700, "what"),
    ],
)
def test_refusals_that_cannot_be_sent(ask: Ask, caplog: pytest.LogCaptureFixture, error: HTTPException) -> None:
    """An HTTPException that is no refusal, or whose text or headers cannot be sent, is a logged 500."""

    def handler() -> None:
        raise error

    assert ask(handler).problem["status"] == 500
    assert len(caplog.records) == 1


@pytest.mark.parametrize("is_async", [True, False])
def test_the_deadline_is_a_504(ask: Ask, is_async: bool) -> None:
    """A handler past its deadline is answered with 504; the thread of a sync one is not waited for."""

    async def waiting() -> None:
        await asyncio.Event().wait()

    def plain() -> None:
        release.wait(PATIENCE)

    release = threading.Event()
    limits = Limits(max_body_size=10, receive_timeout=PATIENCE, request_timeout=0.01)
    try:
        if is_async:
            answer = ask(waiting, limits=limits)
        else:
            timer = threading.Timer(0.2, release.set)  # asyncio.run waits for its threads at the end
            timer.start()
            answer = ask(plain, limits=limits)
    finally:
        release.set()
    assert answer.problem["type"] == "urn:asgipipe:deadline"
    assert answer.status == 504


def test_a_slow_client_is_a_408(bound: Callable[..., Bound], scope: Callable[..., Scope]) -> None:
    """A body that does not come is a 408, whatever the handler's own deadline."""
    limits = Limits(max_body_size=10, receive_timeout=0.01, request_timeout=None)
    answer = Answer()

    def handler(value: dict[str, int]) -> None: ...

    async def run() -> None:
        async def send(message: dict[str, object]) -> None:
            answer.messages.append(message)

        await bound(handler, limits=limits).app(scope(), asyncio.Queue().get, send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert answer.problem["status"] == 408


def test_a_client_that_left_gets_nothing(bound: Callable[..., Bound], scope: Callable[..., Scope]) -> None:
    """A disconnect while the body is read ends the endpoint without an answer or an error."""

    def handler(value: dict[str, int]) -> None: ...

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise AssertionError("nobody is there")

    asyncio.run(bound(handler).app(scope(), receive, send))


def test_the_servers_cancellation_passes(bound: Callable[..., Bound], scope: Callable[..., Scope]) -> None:
    """Cancelling the request's task cancels the handler and is not turned into an answer."""
    seen = []

    async def handler() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    started = asyncio.Event()

    async def run() -> None:
        async def send(message: object) -> None:
            seen.append("sent")

        task = asyncio.create_task(bound(handler).app(scope(), asyncio.Queue().get, send))
        await asyncio.wait_for(started.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert seen == ["cancelled"]
