import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from asgipipe import Deployment, EndpointSpec, MiddlewareSpec
from asgipipe.errors import BodyTooLargeError, RequestTimeoutError
from asgipipe.http.dispatch import LimitedBody
from asgipipe.http.responses import without_body
from asgipipe.http.routes import Templates
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.settings import EndpointMethod
from tests.http.wire import Ask, ask, ask_app, ask_one, invoke


def echo(x: int = 1) -> int:
    return x


class Counting:
    """A native middleware: as soon as there is one, every request goes through the framework."""

    seen: list[str]

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            type(self).seen.append(scope["path"])
        await self.app(scope, receive, send)


THROUGH = {"custom_middlewares": [MiddlewareSpec(middleware=Counting, native=True)]}

NO_JOB = "00000000-0000-7000-8000-000000000000"
SAME: list[Ask] = [
    invoke(),
    invoke({"parameters": {"x": 5}}),
    invoke(b"{"),
    invoke({"parameters": {"y": 1}}),
    Ask("POST", "/invoke", body=b"{}"),
    invoke(path="/invoke?mode=x"),
    *(
        Ask(method, path)
        for path in (
            *("/health", "/info", "/invoke", "/nothing", "/", "/health/", "//health"),
            *("/jobs", "/jobs/x", f"/jobs/{NO_JOB}", f"/jobs/{NO_JOB}/cancel", f"/jobs/{NO_JOB}/other", "/jobs/"),
            *(f"/stream/{NO_JOB}", "/stream", "/stream/", f"/runs/{NO_JOB}"),
        )
        for method in ("GET", "HEAD", "POST", "OPTIONS", "BREW")
    ),
]


@pytest.mark.parametrize("key", [None, "k"])
def test_the_short_way_changes_nothing(key: str | None) -> None:
    """Through the framework and without it, every request gets the same status, headers and body."""
    Counting.seen = []
    headers = [] if key is None else [(b"authorization", b"Bearer k")]
    asked = [Ask(each.method, each.path, [*each.headers, *headers], each.body) for each in SAME] + SAME
    short = ask(echo, {"auth_key": key}, *asked)
    long = ask(echo, {"auth_key": key, **THROUGH}, *asked)
    assert Counting.seen
    changing = (b"x-request-id", b"content-length", b"last-modified", b"etag")
    for each, one, other in zip(asked, short, long, strict=True):
        headers_of = [sorted(pair for pair in reply.headers if pair[0] not in changing) for reply in (one, other)]
        assert (each, one.status, headers_of[0]) == (each, other.status, headers_of[1])
        if one.status >= 400:
            assert one.body == other.body


def reading(read: Callable[[Request], object]) -> dict[str, object]:
    """A deployment with a framework endpoint that reads its body itself."""

    async def endpoint(request: Request) -> Response:
        await read(request)  # type: ignore[misc]  # any of the request's readers
        return PlainTextResponse("read")

    spec = EndpointSpec(path="/read", method=EndpointMethod.POST, handler=endpoint)
    return {"max_request_body_size": 10, "receive_timeout": 0.02, "custom_endpoints": [spec]}


def test_the_framework_is_not_asked_about_jobs() -> None:
    """A path with parameters of ours is answered on the short way, unless a custom endpoint fits it better."""

    def own(job_id: str) -> str:
        return f"own {job_id}"

    def latest() -> str:
        return "latest"

    async def framework(request: Request) -> Response:
        return PlainTextResponse("framework")

    custom = [
        EndpointSpec(path="/jobs/latest", method=EndpointMethod.GET, handler=latest),
        EndpointSpec(path="/jobs/raw", method=EndpointMethod.GET, handler=framework),
        EndpointSpec(path="/stream/{job_id}", method=EndpointMethod.GET, handler=own),
    ]
    deployment = Deployment(echo, {"custom_endpoints": custom}, layers=())
    asked = (f"/jobs/{NO_JOB}", "/jobs/latest", "/jobs/raw", "/stream/7")
    answers = ask_app(deployment.asgi_app, *(Ask(path=path) for path in asked))
    assert [answer.status for answer in answers] == [404, 200, 200, 200]
    assert [answer.body for answer in answers[1:]] == [b'"latest"', b"framework", b'"own 7"']
    routes = deployment.app_runner.routes
    rows = {("GET", "/jobs/{job_id}"): deployment.asgi_app}
    short = Templates(routes, rows)
    assert short.find("GET", "/jobs/1") == (deployment.asgi_app, {"job_id": "1"})
    assert short.find("HEAD", "/jobs/1") == short.find("GET", "/jobs/1")
    for method, path in (
        *(("GET", "/jobs/latest"), ("GET", "/jobs/raw"), ("POST", "/jobs/1"), ("POST", "/jobs/1/cancel")),
        *(("GET", "/jobs/"), ("GET", "/jobs"), ("GET", "/other/1"), ("GET", "/")),
    ):
        assert short.find(method, path) is None


READERS: list[Callable[[Request], object]] = [
    lambda request: request.body(),
    lambda request: request.json(),
]


@pytest.mark.parametrize("read", READERS)
def test_the_framework_cannot_read_more_than_the_limit(read: Callable[[Request], object]) -> None:
    """A body in chunks is counted while somebody else's code reads it."""
    reply = ask_one(echo, Ask("POST", "/read", chunks=[b"[1,2,3,4,", b"5,6,7,8,9]"]), reading(read))
    assert reply.problem["type"] == "urn:asgipipe:body-too-large"
    assert reply.status == 413


def test_a_slow_body_is_a_408_there_too() -> None:
    """A sender that stops in the middle is given up."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    spec = EndpointSpec(path="/read", method=EndpointMethod.POST, handler=endpoint, native=True)
    settings = {"receive_timeout": 0.02, "custom_endpoints": [spec]}
    reply = ask_one(echo, Ask("POST", "/read", chunks=[b"a", b"b"], unfinished=True), settings)
    assert reply.problem["type"] == "urn:asgipipe:request-timeout"
    assert reply.header(b"connection") == b"close"


def test_a_slow_invoke_is_a_408() -> None:
    """So is one of our own."""
    asked = Ask("POST", "/invoke", chunks=[b"{", b'"parameters"'], unfinished=True)
    reply = ask_one(echo, asked, {"receive_timeout": 0.02})
    assert reply.problem == {
        "type": "urn:asgipipe:request-timeout",
        "title": "Request Timeout",
        "status": 408,
        "detail": "The request did not arrive in time.",
    }


# The parts


def test_limited_body_counts() -> None:
    """The limit is on the sum; after the last byte the wait for the disconnect has no limit."""

    async def main() -> None:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        body = LimitedBody(inbox.get, _ignore, 3, 0.02)
        inbox.put_nowait({"type": "http.request", "body": b"ab", "more_body": True})
        inbox.put_nowait({"type": "http.request", "body": b"c"})
        assert [(await body())["body"] for _ in range(2)] == [b"ab", b"c"]
        waiting = asyncio.create_task(body())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        inbox.put_nowait({"type": "http.disconnect"})
        assert (await waiting)["type"] == "http.disconnect"

    asyncio.run(main())


def test_limited_body_refuses() -> None:
    """One byte too many, or one second too late."""

    async def main() -> None:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": b"abcd"})
        with pytest.raises(BodyTooLargeError):
            await LimitedBody(inbox.get, _ignore, 3, 1)()
        with pytest.raises(RequestTimeoutError):
            await LimitedBody(inbox.get, _ignore, 3, 0.01)()

    asyncio.run(main())


async def _ignore(message: Message) -> None: ...


def test_without_body() -> None:
    """Of an answer to HEAD only the body is dropped, in every piece; the application's own message is left alone."""
    sent: list[Message] = []

    async def main() -> None:
        async def send(message: Message) -> None:
            sent.append(message)

        head = without_body(send)
        await head({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        piece: Message = {"type": "http.response.body", "body": b"a", "more_body": True}
        await head(piece)
        await head({"type": "http.response.body", "body": b"b"})
        assert piece["body"] == b"a"

    asyncio.run(main())
    assert sent[0]["headers"] == [(b"content-length", b"2")]
    assert [message["body"] for message in sent[1:]] == [b"", b""]
    assert sent[1]["more_body"] is True
