import asyncio
import json
import logging
from collections.abc import Callable

import pytest

from asgipipe import EndpointSpec, MiddlewareSpec
from asgipipe.errors import BadRequestError, HTTPError
from asgipipe.http.body import ClientDisconnected
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.settings import EndpointMethod
from tests.conftest import lifespan
from tests.http.wire import SECURE_HEADERS, Ask, Reply, ask, ask_one, deployed, http_scope, invoke, reply

INTERNAL = {
    "type": "urn:asgipipe:internal",
    "title": "Internal Server Error",
    "status": 500,
    "detail": "The server failed to answer; its log says why.",
}
INSIDE = "/srv/secret/model.bin"
MAX_LINE = 8 * 1024


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even that")


class Own(BaseException):
    pass


def recursive() -> None:
    recursive()


def recursion() -> RecursionError:
    try:
        recursive()
    except RecursionError as error:
        return error
    raise AssertionError("there is a limit")


MATRIX: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Exception(INSIDE),
    "ValueError": lambda: ValueError(INSIDE),
    "KeyError": lambda: KeyError(INSIDE),
    "OSError": lambda: FileNotFoundError(2, "No such file", INSIDE),
    "ExceptionGroup": lambda: ExceptionGroup(INSIDE, [ValueError(INSIDE), KeyError(INSIDE)]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup(INSIDE, [KeyboardInterrupt(), ValueError(INSIDE)]),
    "RecursionError": recursion,
    "MemoryError": MemoryError,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": TimeoutError,
    "StopAsyncIteration": StopAsyncIteration,
    "BaseException": lambda: Own(INSIDE),
    "no message": Exception,
    "unprintable": Unprintable,
    "a surrogate": lambda: ValueError("\ud800"),
    "20 MB": lambda: ValueError("x" * 20_000_000),
    "lines": lambda: ValueError("x\n" * 1_000_000),
}


def echo(x: int = 1) -> int:
    return x


async def raising(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, error: Callable[[], BaseException]
) -> None:
    if scope["path"] == "/invoke":
        raise error()
    await app(scope, receive, send)


def settings_with(place: str, error: Callable[[], BaseException]) -> dict[str, object]:
    """A deployment in which something at `place` raises for /broken, or for /invoke."""

    async def async_handler() -> None:
        raise error()

    def sync_handler() -> None:
        raise error()

    async def native_handler(scope: Scope, receive: Receive, send: Send) -> None:
        raise error()

    if place == "middleware":
        return {"custom_middlewares": [MiddlewareSpec(middleware=raising, init_kwargs={"error": error})]}
    handlers = {"async endpoint": async_handler, "sync endpoint": sync_handler, "native endpoint": native_handler}
    native = place == "native endpoint"
    spec = EndpointSpec(path="/invoke", method=EndpointMethod.POST, handler=handlers[place], native=native)
    switches = ["HEALTH"] if native else ["ALL"]
    return {"custom_endpoints": [spec], "include_default_endpoints": switches}


@pytest.mark.parametrize("place", ["middleware", "async endpoint", "sync endpoint", "native endpoint"])
@pytest.mark.parametrize("kind", MATRIX)
def test_whatever_is_raised_is_a_problem(place: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever user code raises, wherever: a 500 that says nothing of the inside, every header, one bounded log record,
    and the server goes on.
    """
    failed, after = ask(echo, settings_with(place, MATRIX[kind]), invoke(), Ask("GET", "/health"))
    assert failed.problem == INTERNAL
    assert all(len(failed.all(name)) == 1 for name in SECURE_HEADERS)
    assert after.status == 200
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    message = record.getMessage()
    assert len(message.encode()) <= MAX_LINE
    assert record.exc_info is None


def started_then_raising(error: BaseException) -> EndpointSpec:
    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise error

    return EndpointSpec(path="/half", method=EndpointMethod.GET, handler=endpoint, native=True)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), BadRequestError("x")])
def test_an_answer_that_has_begun_stays_unfinished(error: BaseException) -> None:
    """Nothing is appended to half an answer: without its end the client sees that it is not whole."""
    half = ask_one(echo, Ask("GET", "/half"), {"custom_endpoints": [started_then_raising(error)]})
    assert half.status == 200
    assert half.body == b"half"
    assert not half.complete


def raising_refusal(error: HTTPError) -> EndpointSpec:
    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return EndpointSpec(path="/no", method=EndpointMethod.GET, handler=endpoint, native=True)


def test_a_refusal_of_the_users_is_sent_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """An HTTPError is meant for the client, with its headers and further members, and is not logged as a failure."""
    error = BadRequestError("Say please.", headers=[(b"x-hint", b"please")], extra={"hint": ["please"]})
    answer = ask_one(echo, Ask("GET", "/no"), {"custom_endpoints": [raising_refusal(error)]})
    assert answer.problem["detail"] == "Say please."
    assert answer.problem["hint"] == ["please"]
    assert answer.header(b"x-hint") == b"please"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError("\ud800"),
        BadRequestError("x", extra={"x": object()}),
        BadRequestError("x", errors=[{"m": "\udfff"}]),
    ],
)
def test_a_refusal_without_json_form(error: HTTPError, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written as JSON is a failure of the server's."""
    answer = ask_one(echo, Ask("GET", "/no"), {"custom_endpoints": [raising_refusal(error)]})
    assert answer.problem == INTERNAL
    assert [record.levelname for record in caplog.records if record.levelno >= logging.ERROR] == ["ERROR"]


def test_the_log_has_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    """A failure can be found by the id that its client was given."""
    answer = ask_one(
        echo, invoke(None, (b"x-request-id", b"abc-1")), settings_with("middleware", lambda: ValueError("x"))
    )
    assert answer.header(b"x-request-id") == b"abc-1"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "abc-1" in record.getMessage()
    assert record.__dict__["request_id"] == "abc-1"


def send_nothing(settings: dict[str, object], asked: Ask, error: BaseException) -> list[object]:
    """What is sent when `receive` raises."""
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        raise error

    async def send(message: object) -> None:
        sent.append(message)

    async def main() -> None:
        app = deployed(echo, settings)
        async with lifespan(app):
            await app(http_scope(asked), receive, send)

    asyncio.run(main())
    return sent


def test_nobody_is_answered_who_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """A client that disconnects while its body is read gets no answer, and leaves no error in the log."""
    assert send_nothing({}, invoke(b"{}"), ClientDisconnected()) == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_servers_cancellation_passes() -> None:
    """When the server cancels the request's task, the task ends as cancelled, and nothing is answered."""

    async def waiting() -> None:
        entered.set()
        await asyncio.Event().wait()

    async def main() -> list[object]:
        sent: list[object] = []

        async def send(message: object) -> None:
            sent.append(message)

        spec = EndpointSpec(path="/wait", method=EndpointMethod.GET, handler=waiting)
        app = deployed(echo, {"custom_endpoints": [spec]})
        async with lifespan(app):
            task = asyncio.ensure_future(app(http_scope(Ask("GET", "/wait")), asyncio.Queue().get, send))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await reply(app, Ask("GET", "/health"))).status == 200
        return sent

    entered = asyncio.Event()
    assert asyncio.run(main()) == []


# What a pipeline raises


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("kind", MATRIX)
def test_whatever_a_pipeline_raises_is_an_envelope(is_async: bool, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A run that raised anything at all is a 500 envelope with a bounded message, and has a log record of its own."""

    def plain(x: int = 1) -> int:
        error = MATRIX[kind]()
        raise error

    async def coroutine(x: int = 1) -> int:
        error = MATRIX[kind]()
        raise error

    failed, after = ask(coroutine if is_async else plain, {}, invoke(), Ask("GET", "/health"))
    envelope = failed.json()
    assert failed.status == 500
    assert (envelope["success"], envelope["outputs"]) == (False, None)
    assert envelope["metadata"]["parameters_used"] == {"x": 1}
    assert 0 < len(envelope["error"]) < 2100
    assert b"Traceback" not in failed.body
    assert __file__.encode() not in failed.body
    assert after.status == 200
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(record.getMessage().encode()) <= MAX_LINE
    assert record.__dict__["run_id"] == envelope["metadata"]["run_id"]


def test_a_message_is_the_pipelines_own() -> None:
    """The message of the exception is given to the client, unless `error_messages` says otherwise; a lone surrogate in
    it becomes a question mark.
    """

    def failing(text: str = "plain") -> int:
        raise ValueError({"plain": "no such city", "surrogate": "a\ud800b"}[text])

    plain, surrogate = ask(failing, {}, invoke(), invoke({"parameters": {"text": "surrogate"}}))
    assert plain.json()["error"] == "no such city"
    assert surrogate.json()["error"] == "a?b"
    silent: Reply = ask_one(failing, invoke(), {"error_messages": False})
    assert json.loads(silent.body)["error"] == "the pipeline failed"
