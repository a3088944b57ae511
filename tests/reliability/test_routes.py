"""What answers without the key, and with it: every route of every app runner in every form, in process."""

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

import pytest

from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.testing.subject import Form
from tests.conftest import needs_docs
from tests.http.wire import JSON, SECURE_HEADERS, Reply
from tests.reliability.served.guarded import KEY
from tests.reliability.served.texts import CLOSED
from tests.reliability.sites import FLAVORS, FORMS, RIGHT, Site, forms, site

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")
READING = ("GET", "HEAD", "get")  # which some frameworks take for GET
WRONG = (
    b"Bearer canary-012345678",
    f"Bearer {KEY}0".encode(),
    b"Bearer \xfc\xff",
    b"Bearer ",
    f"Basic {KEY}".encode(),
    KEY.encode(),
    b"",
)
LISTED = {"/health", "/ready", "/docs", "/redoc", "/openapi.json", "/"}
DECLARED = {"/open", "/opened/x", "/native-open", "/mount-open/inside", "/typed-open", "/socket-open"}
APPLICATIONS = ("/mount-open/", "/socket-open/")
NOTHING = {307, 404, 405, 426}
"""How applications of others say that nothing is there."""
CONTESTED = "/taken"
"""An open endpoint that an extension puts a closed route before: either it answers, or the key is needed."""
ABSENT = {
    "/missing",
    "/static/x",
    "/admin/",
    "/favicon.ico",
    "/docs/oauth2-redirect",
    "/open/x",
    "/openx",
    "/health.txt",
}
CLOSED_ROUTES = {
    "/closed",
    "/closed/x",
    "/closed/x/tail",
    "/opened/closed",
    "/rest/x",
    "/native-closed",
    "/mount-closed/inside",
    "/typed-closed/x",
}
MISLEADING = (
    (b"x-original-url", b"/health"),
    (b"x-rewrite-url", b"/health"),
    (b"x-http-method-override", b"GET"),
    (b"x-forwarded-prefix", b"/health"),
    (b"x-script-name", b"/health"),
    (b"x-forwarded-host", b"health"),
    (b"host", b"a b/c?d#e"),
    (b"host", b"\xff\xfe"),
    (b"upgrade", b"websocket"),
    (b"upgrade", b"h2c"),
    (b"x-api-key", KEY.encode()),
    (b"cookie", f"key={KEY}; token={KEY}".encode()),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Django and Quart log each refusal, which takes longer than the refusal."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


each_runner = pytest.mark.parametrize("flavor", FLAVORS)
each_form = pytest.mark.parametrize("form", FORMS, ids=str)
each_way = pytest.mark.parametrize(
    ("form", "through"),
    [
        pytest.param(Form.STANDALONE, False, id="standalone"),
        pytest.param(Form.STANDALONE, True, id="standalone-through"),
        pytest.param(Form.MOUNT, False, id="mount"),
        pytest.param(Form.INCLUDE, True, id="include-through"),
    ],
)
"""Through: with an extension and native middleware, so that the framework sees every request."""


def is_open(target: str, answer: Reply) -> bool:
    """Whether `target` is on the open list, or below a path of it where the framework itself says that nothing is."""
    path = unquote(target.partition("?")[0])
    if path in LISTED | DECLARED or re.fullmatch("/(docs|redoc)/assets/[a-z.-]+|/opened/[^/]+", path):
        return True
    if path == CONTESTED:
        return answer.header(b"content-type") == b"application/json"  # of ours, not of the extension's
    # A route of Starlette's may end before a line break; what is below a mount or an application is answered there.
    return path.rstrip("\n") in DECLARED or (path.startswith(APPLICATIONS) and answer.status in NOTHING)


def written(path: str, flavor: str, form: Form) -> list[str]:
    """Return other ways to write a path; a host's mount of Starlette's leaves paths with line breaks to the host."""
    breaks = (flavor, form) != ("starlette", Form.INCLUDE)
    step = 3 if (flavor, form) == ("django", Form.INCLUDE) else 1  # where each takes milliseconds
    return [target for target in sorted(forms(path)) if breaks or "%0A" not in target][::step]


def assert_secured(answer: Reply, asked: object) -> None:
    names = [name.lower() for name, _ in answer.headers]
    assert len(names) == len(set(names)), (asked, names)
    assert set(SECURE_HEADERS) <= set(names), (asked, answer)


async def assert_guarded(there: Site, method: str, target: str, *headers: tuple[bytes, bytes], **scope: object) -> None:
    answer = await there.ask(method, target, *headers, **scope)
    asked = (method, target, headers, scope)
    assert_secured(answer, asked)
    assert CLOSED.encode() not in answer.body, asked
    if answer.status == 401:
        assert answer.header(b"www-authenticate") == b"Bearer", asked
        assert method == "HEAD" or answer.problem["type"] == "urn:asgipipe:unauthorized", asked
        return
    assert is_open(target, answer), (asked, answer)
    assert method in READING or answer.status in NOTHING, (asked, answer)


@needs_docs
@each_way
@each_runner
def test_only_the_open_list_answers_without_the_key(flavor: str, form: Form, through: bool) -> None:
    """Rows 36 and 37: every route there is, with every method and in every way to write it, is a 401 or listed open."""

    async def main() -> None:
        async with site(flavor, form, through=through) as there:
            assert there.paths >= CLOSED_ROUTES | DECLARED - {"/socket-open"}
            for path in sorted(there.paths | LISTED | DECLARED | ABSENT):
                for method in METHODS:
                    await assert_guarded(there, method, path)
                for number, target in enumerate(written(path, flavor, form)):
                    await assert_guarded(there, "POST" if number % 3 == 0 else "GET", target)
            for path in LISTED | DECLARED - {"/socket-open"}:
                assert (await there.ask("GET", path)).status == 200, path

    asyncio.run(main())


@each_way
@each_runner
def test_nothing_else_stands_for_the_key(flavor: str, form: Form, through: bool) -> None:
    """Rows 36 and 37: no wrong key, no header that proxies and frameworks act on, and no scheme opens a route."""

    async def main() -> None:
        async with site(flavor, form, through=through) as there:
            for path in sorted(there.paths | ABSENT):
                for value in WRONG:
                    await assert_guarded(there, "GET", path, (b"authorization", value))
                for header in MISLEADING:
                    # A project's own middleware refuses a broken Host before any route is asked.
                    if (flavor, form, header[0]) != ("django", Form.INCLUDE, b"host"):
                        await assert_guarded(there, "GET", path, header)
                await assert_guarded(there, "POST", path, (b"x-http-method-override", b"GET"))
                for scheme in ("ws", "wss", "https"):
                    await assert_guarded(there, "GET", path, scheme=scheme)

    asyncio.run(main())


@needs_docs
@each_way
@each_runner
def test_the_key_opens_what_is_there(flavor: str, form: Form, through: bool) -> None:
    """Rows 36 and 37: with the key every route answers, in whatever way it is written there is no 5xx, and other
    methods are a 405 with Allow.
    """
    extended = {"/extended", "/extended/x"} if through else set[str]()

    async def main() -> None:
        async with site(flavor, form, through=through) as there:
            assert extended <= there.paths
            assert (await there.ask("GET", "/ready", scheme="ws")).status == 200
            for path in sorted(CLOSED_ROUTES | extended):
                answer = await there.ask("GET", path, RIGHT)
                assert answer.status == 200, (path, answer)
                assert CLOSED.encode() in answer.body, path
                head = await there.ask("HEAD", path, RIGHT)
                assert head.status == 200, (path, head)
                assert head.body == b""
                refused = await there.ask("DELETE", path, RIGHT)
                if path != "/extended/x":  # it is in an application of its own
                    assert refused.status == 405, (path, refused)
                    assert b"GET" in (refused.header(b"allow") or b""), path
                for each in (answer, head, refused):
                    assert_secured(each, path)
            for path in sorted(
                {"/", "/health", "/closed/x", "/native-closed", "/mount-closed/inside", "/typed-closed/x"}
            ):
                for target in written(path, flavor, form):
                    answer = await there.ask("GET", target, RIGHT)
                    assert answer.status < 500, (target, answer)
                    assert_secured(answer, target)

    asyncio.run(main())


@each_way
@each_runner
def test_websockets_need_the_key(flavor: str, form: Form, through: bool) -> None:
    """Row 36: a handshake without the key is refused at every path, also at one that is open to HTTP."""
    if (flavor, form) == ("django", Form.INCLUDE):
        pytest.skip("Django's ASGI application knows no WebSocket")

    async def main() -> None:
        async with site(flavor, form, through=through) as there:
            for path in sorted(there.paths | LISTED | ABSENT):
                for target in (path, f"{path}/", f"/{path}", f"{path}.", f"/socket-open/..{path}"):
                    for headers in ([], [(b"authorization", b"Bearer \xfc\xff")]):
                        refused = await there.handshake(target, *headers)
                        opened = target.rstrip("/") == "/socket-open" or target.startswith("/socket-open/")
                        assert opened or refused.messages[0].get("status", 403) in {401, 403}, (target, refused)
                        assert opened or refused.messages[0]["type"] != "websocket.accept", target
            for path, headers in (("/socket-open", []), ("/socket-closed", [RIGHT])):
                accepted = await there.handshake(path, *headers)
                assert accepted.messages[0]["type"] == "websocket.accept", path

    asyncio.run(main())


def statuses(there: Site) -> Iterable[tuple[int, tuple[str, str, bytes]]]:
    yield 200, ("POST", "/invoke", b"{}")
    yield 400, ("POST", "/invoke", b"{")
    yield 404, ("GET", "/missing", b"")
    yield 405, ("PUT", "/invoke", b"{}")
    yield 405, ("DELETE", "/native-closed", b"")
    yield 413, ("POST", "/invoke", b" " * 1001)
    yield 422, ("POST", "/invoke", b'{"parameters": {"number": "x"}}')
    yield 500, ("POST", "/invoke", b'{"parameters": {"number": -1}}')
    yield 500, ("GET", "/fails", b"")
    yield 500, ("GET", "/typed-fails", b"")
    yield 500, ("GET", "/native-fails", b"")
    yield 504, ("POST", "/invoke", b'{"parameters": {"number": 0}, "timeout": 0.01}')


@each_form
@each_runner
@pytest.mark.parametrize("through", [False, True], ids=["direct", "through"])
def test_headers_on_every_status(flavor: str, form: Form, through: bool) -> None:
    """Row 37: 200, 400, 404, 405, 413, 415, 422, 429, 431, 500, 503 and 504 carry every header once."""

    async def main() -> None:
        async with site(flavor, form, through=through, max_concurrency=1, max_queue=0) as there:
            for status, (method, target, body) in statuses(there):
                answer = await there.ask(method, target, RIGHT, JSON, body=body)
                assert answer.status == status, (target, answer)
                assert_secured(answer, target)
            plain = await there.ask("POST", "/invoke", RIGHT, body=b"{}")
            many = await there.ask("GET", "/info", RIGHT, *((b"x-%d" % number, b"") for number in range(101)))
            assert (plain.status, many.status) == (415, 431)
            running = asyncio.create_task(
                there.ask("POST", "/invoke", RIGHT, JSON, body=b'{"parameters": {"number": 0}, "timeout": 0.2}')
            )
            while not (await there.ask("GET", "/metrics", RIGHT)).json()["in_flight"]:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
            busy = await there.ask("POST", "/invoke", RIGHT, JSON, body=b"{}")
            assert (await running).status == 504
            there.deployment.lifecycle.begin_drain()
            late = await there.ask("POST", "/invoke", RIGHT, JSON, body=b"{}")
            not_ready = await there.ask("GET", "/ready")
            assert (busy.status, late.status, not_ready.status) == (429, 503, 503)
            for answer in (plain, many, busy, late, not_ready):
                assert_secured(answer, answer.status)

    asyncio.run(main())


class Rewriting:
    """Makes another request of one: `x-rewrite` says which method and path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wish = dict(scope["headers"]).get(b"x-rewrite", b"").decode()
        if wish:
            method, path = wish.split()
            scope = {**scope, "method": method, "path": scope["root_path"] + path}
        await self._app(scope, receive, send)


@each_form
@pytest.mark.parametrize("flavor", ["starlette", "fastapi", "quart"])
@pytest.mark.parametrize("native", [False, True], ids=["wrapped", "native"])
def test_what_was_let_in_stays_what_it_is(flavor: str, form: Form, native: bool) -> None:
    """Row 36: middleware that makes a closed request of an open one does not open it; with the key it may do so."""
    middleware = [{"middleware": Rewriting, "native": native}]

    async def main() -> None:
        async with site(flavor, form, custom_middlewares=middleware) as there:
            for target in ("/open", "/native-open", "/typed-open", "/mount-open/inside", "/opened/x"):
                for wish in (
                    b"POST /open",
                    b"GET /native-closed",
                    b"GET /mount-closed/inside",
                    b"GET /closed/x",
                    b"POST /invoke",
                ):
                    await assert_guarded(there, "GET", target, (b"x-rewrite", wish))
            if flavor != "quart":  # which finds its routes by the path that the request came with
                answer = await there.ask("GET", "/missing", RIGHT, (b"x-rewrite", b"GET /native-closed"))
                assert "/native-closed" in answer.body.decode()

    asyncio.run(main())


@each_form
def test_django_urls_of_a_middleware_are_not_open(form: Form) -> None:
    """Row 36: where middleware chooses other URLs for a request, nothing of them answers at a path that is open."""
    pytest.importorskip("django")
    from tests.reliability.served.natives.django import Elsewhere

    async def main() -> None:
        async with site("django", form, custom_middlewares=[{"middleware": Elsewhere, "native": True}]) as there:
            for target in ("/native-open", "/typed-open", "/health"):
                answer = await there.ask("GET", target)
                assert answer.status == 401, answer
                assert CLOSED in (await there.ask("GET", target, RIGHT)).body.decode()

    asyncio.run(main())
