import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgipipe import Deployment, EndpointSpec, pipeline
from asgipipe.http.types import Message, Scope
from asgipipe.pipelines.context import get_step_context
from asgipipe.settings import EndpointMethod
from tests.conftest import PATIENCE, lifespan
from tests.http.wire import SECURE_HEADERS, Ask, Reply, ask, ask_one, deployed, http_scope, invoke, reply, until
from tests.running import started


def echo(x: int = 1) -> int:
    return x


# Request ids


@pytest.mark.parametrize("sent", [b"a", b"A-b_c.9", b"x" * 128])
def test_a_sane_request_id_is_kept(sent: bytes) -> None:
    """The client's own id comes back."""
    assert ask_one(echo, invoke(None, (b"x-request-id", sent))).all(b"x-request-id") == [sent]


@pytest.mark.parametrize(
    "sent", [b"", b"x" * 129, b"a b", b"a\nb", b"a/b", b"\xff", b"a;b", b"<a>", "ä".encode(), b"a\n"]
)
def test_any_other_request_id_is_replaced(sent: bytes) -> None:
    """What could forge a log line, or is of any length, is not taken over."""
    (answered,) = ask_one(echo, invoke(None, (b"x-request-id", sent))).all(b"x-request-id")
    assert re.fullmatch(rb"[0-9a-f]{32}", answered)


def test_request_ids_are_unique() -> None:
    """Every request without one gets one of its own."""
    ids = {answer.header(b"x-request-id") for answer in ask(echo, {}, *[invoke()] * 50)}
    assert len(ids) == 50


# The same headers on every answer


def broken() -> None:
    raise ValueError("inside")


EVERYWHERE: dict[str, tuple[Ask, int]] = {
    "invoke": (invoke(), 200),
    "health": (Ask("GET", "/health"), 200),
    "docs": (Ask("GET", "/docs"), 200),
    "redoc": (Ask("GET", "/redoc"), 200),
    "openapi": (Ask("GET", "/openapi.json"), 200),
    "dashboard": (Ask("GET", "/"), 200),
    "HEAD": (Ask("HEAD", "/info"), 200),
    "metrics": (Ask("GET", "/metrics", [(b"accept", b"text/plain")]), 200),
    "400": (invoke(b"{"), 400),
    "404": (Ask("GET", "/nothing"), 404),
    "405": (Ask("DELETE", "/health"), 405),
    "413": (Ask("POST", "/invoke", [(b"content-length", b"99999999999")]), 413),
    "415": (Ask("POST", "/invoke", body=b"{}"), 415),
    "422": (invoke({"parameters": {"y": 1}}), 422),
    "431": (Ask("GET", "/health", [(b"x", b"a" * 40_000)]), 431),
    "500": (Ask("GET", "/broken"), 500),
    "500 envelope": (invoke({"parameters": {"x": 13}}), 500),
    "504 envelope": (invoke({"parameters": {"x": 14}, "timeout": 0.01}), 504),
}


async def numbered(x: int = 1) -> int:
    if x == 13:
        raise ValueError("unlucky")
    if x == 14:
        await asyncio.Event().wait()
    return x


@pytest.fixture(scope="module")
def everywhere() -> dict[str, Reply]:
    spec = EndpointSpec(path="/broken", method=EndpointMethod.GET, handler=broken)
    replies = ask(numbered, {"custom_endpoints": [spec]}, *(asked for asked, _ in EVERYWHERE.values()))
    return dict(zip(EVERYWHERE, replies, strict=True))


@pytest.mark.parametrize("case", EVERYWHERE)
def test_every_answer_carries_every_header_once(everywhere: dict[str, Reply], case: str) -> None:
    """Answers, refusals, documents and failures alike."""
    answer = everywhere[case]
    assert answer.status == EVERYWHERE[case][1]
    assert {name: len(answer.all(name)) for name in SECURE_HEADERS} == dict.fromkeys(SECURE_HEADERS, 1)
    assert all(name == name.lower() for name, _ in answer.headers)


@pytest.mark.parametrize("case", EVERYWHERE)
def test_every_answer_says_how_long_it_is(everywhere: dict[str, Reply], case: str) -> None:
    """Content-length is what follows, and one value; HEAD has the length of GET's body without the body."""
    answer = everywhere[case]
    length = int(answer.header(b"content-length") or -1)
    assert length == len(answer.body) or (case == "HEAD" and length > 0 and answer.body == b"")
    assert answer.complete


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/info", "/metrics", "/status", "/openapi.json", "/docs", "/redoc", "/"]
)
def test_head_is_get_without_the_body(path: str) -> None:
    """The headers are the same, but for what is different at every request."""

    def lasting(answer: Reply) -> dict[bytes, bytes]:
        changing = (b"x-request-id", b"content-length", b"etag", b"last-modified")
        return {name: value for name, value in answer.headers if name not in changing}

    get, head = ask(echo, {}, Ask("GET", path), Ask("HEAD", path))
    assert (get.status, head.status) == (200, 200)
    assert (bool(get.body), head.body) == (True, b"")
    assert lasting(head) == lasting(get)
    assert head.header(b"content-length") is not None


@pytest.mark.parametrize(
    "path", ["/health/", "/invoke/", "/docs/", "/openapi.json/", "//invoke", "/./health", "/docs/../health"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_redirects(method: str, path: str) -> None:
    """A path that is not exactly one of ours is not found; there is no Location made from the Host header."""
    answer = ask_one(echo, Ask(method, path, [(b"host", b"evil.example")]))
    assert answer.status == 404
    assert answer.header(b"location") is None
    assert b"evil.example" not in answer.body


# Mounts and root paths


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("/api", "/api/health"),  # uvicorn, and the ASGI specification
        ("/api", "/health"),  # gunicorn's ASGI worker and hypercorn
        ("/api/v1", "/api/v1/health"),
        ("/api/v1", "/health"),
        ("", "/health"),
        ("/api/", "/api/health"),
        ("/health", "/health/health"),
    ],
)
def test_the_root_path(root_path: str, path: str) -> None:
    """A deployment finds its endpoints wherever a server says it is mounted, in either form."""
    answer = ask_one(echo, Ask("GET", path, scope={"root_path": root_path}))
    assert (answer.status, answer.json()["status"]) == (200, "healthy")


@pytest.mark.parametrize(("root_path", "path"), [("/api", "/apihealth"), ("/api", "/api"), ("/api", "/api/api/health")])
def test_what_only_looks_like_the_root_path(root_path: str, path: str) -> None:
    """A prefix ends at a slash."""
    assert ask_one(echo, Ask("GET", path, scope={"root_path": root_path}), {"auth_key": "k"}).status == 401


@pytest.mark.parametrize("nested", [False, True])
def test_mounted_in_a_host(nested: bool) -> None:
    """Below a mount everything answers, open paths alone are open, and the first request starts the deployment."""
    inner = deployed(echo, {"auth_key": "k"})
    host = Starlette(routes=[Mount("/a", routes=[Mount("/b", inner)]) if nested else Mount("/a", inner)])
    prefix = "/a/b" if nested else "/a"
    right = (b"authorization", b"Bearer k")

    async def main() -> list[int]:
        asked = [
            Ask("GET", f"{prefix}/health"),
            invoke(path=f"{prefix}/invoke"),
            invoke(None, right, path=f"{prefix}/invoke"),
            Ask("GET", f"{prefix}/health/"),
            Ask("GET", f"{prefix}/"),
            Ask("GET", f"{prefix}/nothing"),
            Ask("GET", f"{prefix}/nothing", [right]),
            Ask("GET", "/health"),
        ]
        statuses = [(await reply(host, each)).status for each in asked]
        await inner.lifecycle.stop()  # type: ignore[attr-defined]  # an ASGIApp that is an Application
        return statuses

    assert asyncio.run(main()) == [200, 401, 200, 401, 200, 401, 404, 404]


def test_the_host_keeps_its_own_root() -> None:
    """What the host serves beside the mount is the host's."""
    host = Starlette(routes=[Route("/x", lambda _: PlainTextResponse("host")), Mount("/a", deployed(echo))])
    assert asyncio.run(reply(host, Ask("GET", "/x"))).body == b"host"


# Starting, draining, failing


def test_the_first_request_starts_what_nobody_started() -> None:
    """Under a host without lifespan events, concurrent first requests start the deployment once."""
    starts: list[int] = []

    def on_init() -> None:
        starts.append(1)

    async def main() -> list[Reply]:
        deployment = Deployment(pipeline(on_init=on_init)(echo), layers=())
        replies = await asyncio.gather(*(reply(deployment.asgi_app, invoke()) for _ in range(20)))
        await deployment.stop()
        return replies

    assert {answer.status for answer in asyncio.run(main())} == {200}
    assert len(starts) == 1


def unavailable(answer: Reply) -> tuple[int, str, str]:
    assert int(answer.header(b"retry-after") or 0) >= 1
    return answer.status, answer.problem["type"], answer.problem["detail"]


def test_ready_before_anything_was_started() -> None:
    """A probe that comes first is told that the deployment starts, and starts it."""

    async def main() -> list[Reply]:
        deployment = Deployment(echo, layers=())
        first = await reply(deployment.asgi_app, Ask("GET", "/ready"))
        await until(lambda: deployment.lifecycle.ready)
        second = await reply(deployment.asgi_app, Ask("GET", "/ready"))
        await deployment.stop()
        return [first, second]

    first, second = asyncio.run(main())
    assert unavailable(first) == (503, "urn:asgipipe:unavailable", "The deployment is starting.")
    assert (second.status, second.body) == (200, b'{"status":"ready"}')


def test_a_deployment_that_fails_to_start(caplog: pytest.LogCaptureFixture) -> None:
    """Requests are told so without a word of the reason, the log says why, and a later request tries again."""
    reasons = ["the model is at /srv/model.bin", "still"]

    def on_init() -> None:
        if reasons:
            raise ValueError(reasons.pop(0))

    async def main() -> list[Reply]:
        deployment = Deployment(pipeline(on_init=on_init)(echo), layers=())
        replies = [await reply(deployment.asgi_app, invoke()) for _ in range(3)]
        await deployment.stop()
        return replies

    first, second, third = asyncio.run(main())
    expected = (503, "urn:asgipipe:unavailable", "The deployment failed to start; its log says why.")
    assert (unavailable(first), unavailable(second), third.status) == (expected, expected, 200)
    assert b"/srv" not in first.body
    assert "/srv/model.bin" in caplog.text


def test_draining() -> None:
    """While the server drains, requests in progress finish; new ones, and /ready, are 503; /health is still healthy."""
    gate = asyncio.Event()

    async def gated(x: int = 1) -> int:
        entered.set()
        await gate.wait()
        return x

    entered = asyncio.Event()

    async def main() -> None:
        async with started(gated) as deployment:
            app = deployment.asgi_app
            working = asyncio.create_task(reply(app, invoke()))
            await entered.wait()
            deployment.lifecycle.begin_drain()
            for asked in (invoke(), Ask("GET", "/ready"), Ask("POST", "/nothing")):
                assert unavailable(await reply(app, asked))[2] == "The server is stopping."
            assert (await reply(app, Ask("GET", "/health"))).status == 200
            assert (await reply(app, Ask("GET", "/info"))).json()["status"] == "draining"
            drained = asyncio.create_task(deployment.lifecycle.drained())
            await asyncio.sleep(0)
            assert not drained.done()
            gate.set()
            assert (await working).status == 200
            await asyncio.wait_for(drained, PATIENCE)

    asyncio.run(main())


def test_a_run_that_the_stop_cancels() -> None:
    """It is a 503 that names the run: it did not fail, and may be sent again."""

    async def waiting(x: int = 1) -> int:
        ids.append(get_step_context().run_id)
        await asyncio.Event().wait()
        return x

    ids: list[str] = []

    async def main() -> Reply:
        async with started(waiting) as deployment:
            working = asyncio.create_task(reply(deployment.asgi_app, invoke()))
            await until(lambda: ids)
            await deployment.lifecycle.abandon()
            return await working

    answer = asyncio.run(main())
    assert unavailable(answer)[0] == 503
    assert answer.problem["run_id"] == ids[0]


def lifespan_messages(app: Callable[..., object], *received: str) -> list[Message]:
    """What an application sends when it receives these lifespan events; it has to end by itself."""
    sent: list[Message] = []

    async def main() -> None:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        for name in received:
            inbox.put_nowait({"type": f"lifespan.{name}"})

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        await asyncio.wait_for(app(scope, inbox.get, send), PATIENCE)  # type: ignore[arg-type]  # an ASGIApp

    asyncio.run(main())
    return sent


def test_the_lifespan_protocol() -> None:
    """A start and a stop that went well are told so."""
    sent = lifespan_messages(deployed(echo), "startup", "shutdown")
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def failing_hook() -> None:
    raise ValueError("no licence")


def test_a_failing_start_is_told_to_the_server() -> None:
    """The message is for the log of whoever started the server: it names the hook and what it raised."""
    (message,) = lifespan_messages(deployed(echo, {"startup_hook": failing_hook}), "startup")
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"].startswith("startup_hook (failing_hook) raised ValueError: no licence")


@pytest.mark.parametrize("error", [ValueError("no pool"), SystemExit("no pool"), KeyboardInterrupt("no pool")])
@pytest.mark.parametrize("phase", ["startup", "shutdown"])
def test_a_failing_lifespan_of_the_frameworks(
    phase: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the user's own lifespan raises ends in a message to the server; a failed stop is in the log too."""

    @asynccontextmanager
    async def framework_lifespan(app: object) -> AsyncIterator[None]:
        if phase == "startup":
            raise error
        yield
        raise error

    app = deployed(echo, {"app_kwargs": {"lifespan": framework_lifespan}})
    sent = lifespan_messages(app, "startup", "shutdown")
    assert sent[-1]["type"] == f"lifespan.{phase}.failed"
    assert "no pool" in sent[-1]["message"]
    assert ("the application's stop failed" in caplog.text) == (phase == "shutdown")


def test_the_state_of_the_frameworks_lifespan_reaches_requests() -> None:
    """What the framework's lifespan yields is in the scope's state, as servers promise."""

    @asynccontextmanager
    async def framework_lifespan(app: object) -> AsyncIterator[Mapping[str, object]]:
        yield {"pool": "open"}

    state: dict[str, object] = {}
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    inbox.put_nowait({"type": "lifespan.startup"})
    inbox.put_nowait({"type": "lifespan.shutdown"})

    async def send(message: Message) -> None: ...

    app = deployed(echo, {"app_kwargs": {"lifespan": framework_lifespan}})
    asyncio.run(app({"type": "lifespan", "state": state}, inbox.get, send))  # type: ignore[arg-type]  # a coroutine
    assert state == {"pool": "open"}


# Counting


def test_requests_are_counted_by_method_and_status() -> None:
    """Every answer is one request in the metrics, refusals included; methods that nobody knows are counted together."""
    asked = [invoke(), invoke(b"{"), Ask("GET", "/nothing"), Ask("BREW", "/health"), Ask("TEABAG", "/health")]
    *_, text = ask(echo, {}, *asked, Ask("GET", "/metrics", [(b"accept", b"text/plain")]))
    counted = [line for line in text.body.decode().splitlines() if line.startswith("asgipipe_http_requests_total{")]
    labels = {re.sub(r'deployment="echo",|pipeline="echo",', "", line.partition("{")[2]) for line in counted}
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == len(asked)
    assert not any("BREW" in label or "TEABAG" in label for label in labels)


def test_no_request_stays_active() -> None:
    """Whatever becomes of a request, it is not in progress afterwards."""

    async def main() -> None:
        async with started(numbered) as deployment:
            for asked, _ in EVERYWHERE.values():
                await reply(deployment.asgi_app, asked)
            assert deployment.lifecycle.active == 0
            assert deployment.metrics.snapshot().in_flight == 0

    asyncio.run(main())


def test_the_scope_is_left_as_it_was() -> None:
    """A host finds nothing of ours in its scope afterwards."""

    async def main() -> None:
        app = deployed(echo)
        async with lifespan(app):
            scope = http_scope(Ask("GET", "/health"))
            before = dict(scope)

            async def send(message: Message) -> None: ...

            await app(scope, asyncio.Queue().get, send)
            assert scope == before

    asyncio.run(main())
