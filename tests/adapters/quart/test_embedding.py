"""A deployment inside a Quart application of the user's: mounted, and as a blueprint."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

pytest.importorskip("quart")

from quart import Blueprint, Quart, Response, g, request, session, url_for

from asgipipe import Deployment, pipeline
from asgipipe.errors import DefinitionError
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe_quart import blueprint, mount
from tests.adapters.quart import samples
from tests.adapters.quart.samples import BEARER, KEY, hello, host, plain_app
from tests.adapters.quart.sockets import connected
from tests.conftest import PATIENCE, lifespan
from tests.http.wire import SECURE_HEADERS, Ask, Reply, ask_app, http_scope, invoke, reply, until

Include = Callable[[Quart, str, object], object]


def included(app: Quart, prefix: str, target: object) -> object:
    app.register_blueprint(blueprint(target), url_prefix=prefix)
    return app


FORMS = pytest.mark.parametrize("embed", [mount, included])


def made(target: object = hello, *specs: object, **settings: object) -> Deployment:
    flavor = {"deployment_app_runner_flavor": "quart", "custom_endpoints": list(specs)}
    return Deployment(target, {**flavor, **settings}, layers=())


def ask(app: Quart, *asked: Ask | str) -> list[Reply]:
    return ask_app(served(as_asgi(app)), *(Ask(path=one) if isinstance(one, str) else one for one in asked))


def as_asgi(app: Quart) -> ASGIApp:
    called: Any = app  # Quart's types are those of hypercorn
    return called  # type: ignore[no-any-return]


def served(app: ASGIApp) -> ASGIApp:
    """Tell `app` of the end of its answer, as servers do: from Quart 0.23 on the host's own requests wait for it."""

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        over = asyncio.Event()

        async def told() -> Message:
            message, end = asyncio.ensure_future(receive()), asyncio.ensure_future(over.wait())
            try:
                await asyncio.wait([message, end], return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                end.cancel()

        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                over.set()

        await app(scope, told, watched)

    return server


class Counted:
    """A pipeline whose starts and stops are counted."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def deployment(self, name: str = "counted") -> Deployment:
        hooks = {"on_init": lambda: self.seen.append("start"), "on_cleanup": lambda: self.seen.append("stop")}
        return Deployment(pipeline(**hooks)(lambda: 1), {}, name=name, layers=())


# Both forms


@FORMS
def test_it_serves_below_its_prefix(embed: Include) -> None:
    """The deployment has everything there, refusals and headers too; the host has the rest."""
    app = host()
    embed(app, "/weather", made(auth_key=KEY))
    asked = [invoke({}, BEARER, path="/weather/invoke"), "/weather/health", "/weather/none", Ask("PUT", "/weather")]
    run, health, unlisted, bare = ask(app, *asked)
    assert run.json()["outputs"] == {"output": "Hello, World!"}
    assert health.status == 200
    assert [each.problem["status"] for each in (unlisted, bare)] == [401, 401]
    assert all(len(each.all(name)) == 1 for each in (run, health, unlisted) for name in SECURE_HEADERS)
    own, failing, beside = ask(app, "/own", "/failing", "/weatherx/health")
    assert (own.body, own.all(b"x-request-id")) == (b"of the host", [])
    assert (failing.status, failing.header(b"content-type")) == (500, b"text/html; charset=utf-8")
    assert (beside.status, beside.all(b"x-request-id")) == (404, [])


@FORMS
def test_an_answer_ends_although_its_client_stays(embed: Include) -> None:
    """Some servers say nothing after an answer; Quart before 0.23 needs no word, and we none with any version."""
    app = host()
    embed(app, "/weather", made())
    known, unknown = ask_app(as_asgi(app), Ask(path="/weather/health"), Ask(path="/weather/none"))
    assert (known.status, unknown.status) == (200, 404)


@FORMS
def test_it_starts_and_stops_with_the_host(embed: Include) -> None:
    """Once, after what the host opens before serving and before what it closes after it, twice in a row."""
    counted, app = Counted(), host()
    app.before_serving(lambda: counted.seen.append("host opens"))
    embed(app, "/weather", counted.deployment())
    for _ in range(2):
        assert ask(app, "/weather/ready")[0].status == 200
    assert counted.seen == ["host opens", "start", "stop"] * 2


@FORMS
def test_one_deployment_at_two_prefixes_starts_once(embed: Include) -> None:
    """Starts are counted, and both places answer."""
    counted, app = Counted(), host()
    deployment = counted.deployment()
    embed(app, "/one", deployment)
    embed(app, "/one/two", deployment)
    assert [each.status for each in ask(app, "/one/ready", "/one/two/ready")] == [200, 200]
    assert counted.seen == ["start", "stop"]


@FORMS
def test_what_the_host_opens_is_open_as_long_as_it_runs(embed: Include) -> None:
    """Whatever the host declares after the embedding, it starts first and stops last."""
    counted, app = Counted(), host()
    embed(app, "/weather", counted.deployment())
    app.before_serving(lambda: counted.seen.append("host opens"))
    app.after_serving(lambda: counted.seen.append("host closes"))
    ask(app, "/weather/ready")
    assert counted.seen == ["host opens", "start", "stop", "host closes"]


@FORMS
def test_nothing_starts_where_the_host_does_not(embed: Include) -> None:
    """Its own failure is told to the server."""
    counted, app = Counted(), host()

    @app.before_serving
    async def no_database() -> None:
        raise OSError("no database")

    embed(app, "/weather", counted.deployment())

    async def main() -> None:
        async with lifespan(as_asgi(app)):
            """Not reached."""

    with pytest.raises(AssertionError, match="no database"):
        asyncio.run(main())
    assert counted.seen == []


@pytest.mark.parametrize("prefixes", [("/w/partners", "/w"), ("/w", "/w/partners")])
@pytest.mark.parametrize("forms", [(mount, mount), (mount, included), (included, mount), (included, included)])
def test_the_longest_prefix_answers(forms: tuple[Include, Include], prefixes: tuple[str, str]) -> None:
    """In either order, whatever the forms; what only begins alike is the other's."""
    app, counted = host(), Counted()
    for embed, prefix in zip(forms, prefixes, strict=True):
        embed(app, prefix, counted.deployment(prefix[1:].replace("/", "_")))
    replies = ask(app, "/w/info", "/w/partners/info", "/w/partnersx", "/own")
    assert [each.json()["deployment"]["name"] for each in replies[:2]] == ["w", "w_partners"]
    assert [each.status for each in replies[2:]] == [404, 200]
    assert counted.seen == ["start", "start", "stop", "stop"]


@pytest.mark.parametrize("forms", [(mount, mount), (mount, included), (included, mount)])
def test_two_at_one_prefix_are_refused(forms: tuple[Include, Include]) -> None:
    """One of them could never answer."""
    app = host()
    forms[0](app, "/w", made())
    with pytest.raises(DefinitionError, match="two deployments at one prefix: /w"):
        forms[1](app, "/w", made())


@FORMS
def test_a_host_in_a_deployment_of_ours_starts_what_is_in_it(embed: Include) -> None:
    """A whole application of Quart's may be a native endpoint, with a deployment embedded in it."""
    counted, app = Counted(), host()
    embed(app, "/inner", counted.deployment())
    outer = made(hello, {"path": "/outer", "handler": app, "native": True}).asgi_app
    assert ask_app(outer, Ask(path="/outer/inner/ready"))[0].status == 200
    assert counted.seen == ["start", "stop"]


@FORMS
def test_tests_without_a_lifespan_start_it(embed: Include) -> None:
    """`app.test_client()` alone sends no lifespan events: the first request does it."""
    app = host()
    embed(app, "/weather", made())

    async def main() -> tuple[int, object]:
        answered = await app.test_client().post("/weather/invoke", json={"parameters": {"name": "you"}})
        return answered.status_code, (await answered.get_json())["outputs"]

    assert asyncio.run(main()) == (200, {"output": "Hello, you!"})


@FORMS
def test_the_test_app_of_quarts_starts_it(embed: Include) -> None:
    """`app.test_app()` sends them."""
    counted, app = Counted(), host()
    embed(app, "/weather", counted.deployment())

    async def main() -> None:
        async with app.test_app():
            assert counted.seen == ["start"]

    asyncio.run(main())
    assert counted.seen == ["start", "stop"]


@FORMS
def test_the_hosts_limits_are_not_ours(embed: Include) -> None:
    """Neither its greatest body nor its time for an answer holds for the deployment, and both still do for itself."""
    app = host()
    app.config["MAX_CONTENT_LENGTH"], app.config["RESPONSE_TIMEOUT"] = 10, 0.05

    async def slowly() -> AsyncIterator[str]:
        yield "begun, "
        await asyncio.sleep(0.2)  # longer than the host allows
        yield "ended"

    @app.post("/size")
    async def size() -> str:
        return str(len(await request.get_data()))

    embed(app, "/w", made(hello, {"path": "/slowly", "method": "GET", "handler": slowly}, max_request_body_size=300))
    name = "x" * 100
    for body in ({}, {"chunks": [b'{"parameters":{"name":"', name.encode(), b'"}}']}):
        asked = invoke({"parameters": {"name": name}}, path="/w/invoke")
        run = ask(app, Ask("POST", "/w/invoke", asked.headers, asked.body, **body))[0]
        assert run.json()["outputs"] == {"output": f"Hello, {name}!"}
    large, slow, own = ask(
        app,
        Ask("POST", "/w/invoke", asked.headers, chunks=[b"x" * 200] * 3),
        "/w/slowly",
        Ask("POST", "/size", (), b"x" * 11),
    )
    assert large.problem["detail"] == "The body may have 300 bytes at most."
    assert (slow.body, slow.complete) == (b"begun, ended", True)
    assert own.status == 413


@FORMS
def test_a_proxys_path_is_in_front(embed: Include) -> None:
    """Behind a `root_path` the deployment is at its prefix, and its links begin with both."""
    app = host()
    embed(app, "/weather", made())
    scope = {"root_path": "/proxy", "path": "/proxy/weather/openapi.json"}
    answered = ask(app, Ask(path="/proxy/weather/openapi.json", scope=scope))[0]
    assert answered.json()["servers"] == [{"url": "/proxy/weather"}]


@FORMS
def test_websockets_are_whole(embed: Include) -> None:
    """Key, subprotocol, headers, empty messages and the client's close code, through the host and our own runner."""
    app = host()
    embed(app, "/w", made(hello, {"path": "/chat", "handler": plain_app, "native": True}, auth_key=KEY))

    async def main() -> None:
        async with connected(as_asgi(app), "/w/chat") as socket:
            assert (await socket.next())["type"] == "websocket.close"
        async with connected(as_asgi(app), "/w/chat", extensions=["websocket.http.response"]) as socket:
            assert (await socket.next())["status"] == 401
        async with connected(as_asgi(app), "/w/none", BEARER, extensions=["websocket.http.response"]) as socket:
            assert (await socket.next())["status"] == 404
        async with connected(as_asgi(app), "/w/chat", BEARER) as socket:
            accepted = await socket.next()
            assert (accepted["subprotocol"], (b"x-own", b"yes") in accepted["headers"]) == ("chat", True)
            for text in ("one", "", "two"):
                await socket.send(text)
                assert (await socket.next())["text"] == text
            await socket.leave(4002)
            assert (await socket.next())["text"] == "closed with 4002"

    asyncio.run(main())


@FORMS
def test_a_run_goes_on_when_its_client_leaves(embed: Include) -> None:
    """Quart cancels the views of its own; a run ends, and is counted until it has."""
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go_on.wait()
        ended.set()
        return "done"

    async def main() -> None:
        app, deployment = host(), made(slow)
        embed(app, "/w", deployment)
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        asked = invoke({}, path="/w/invoke")
        inbox.put_nowait({"type": "http.request", "body": asked.body, "more_body": False})

        async def send(message: Message) -> None:
            """Nobody is there."""

        async with lifespan(as_asgi(app)):
            task = asyncio.ensure_future(as_asgi(app)(http_scope(asked), inbox.get, send))
            await asyncio.wait_for(begun.wait(), PATIENCE)
            inbox.put_nowait({"type": "http.disconnect"})
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.wait_for(ended.wait(), PATIENCE)
            await asyncio.wait_for(task, PATIENCE)
            await until(lambda: deployment.lifecycle.active == 0)

    asyncio.run(main())


@pytest.mark.parametrize("prefix", ["", "/", "weather", "/<city>/weather", "//w"])
@FORMS
def test_a_prefix_is_a_path(embed: Include, prefix: str) -> None:
    """Anything else is told when it is embedded."""
    with pytest.raises(DefinitionError, match="no place to mount a deployment at"):
        embed(host(), prefix, made())


# The blueprint


def test_rows_are_rules_of_the_host() -> None:
    """`url_for` knows them below every prefix, and a second blueprint of the same name gets a number."""
    app, deployment = host(), made(hello, {"path": "/items/{name}", "method": "GET", "handler": lambda name: name})
    assert isinstance(blueprint(deployment), Blueprint)
    included(app, "/one", deployment)
    included(app, "/two", deployment)

    async def urls() -> list[str]:
        async with app.test_request_context("/"):
            return [url_for("hello.health"), url_for("hello_2.health"), url_for("hello.invoke")]

    assert asyncio.run(urls()) == ["/one/health", "/two/health", "/one/invoke"]


def test_what_is_around_the_hosts_requests_is_around_ours() -> None:
    """Functions before and after requests, of the application and of the blueprint, and sessions."""
    app, made_of = host(), blueprint(made())

    @app.before_request
    async def before() -> None:
        g.user = "ada"
        session["seen"] = True

    @app.after_request
    async def after(response: Response) -> Response:
        response.headers["x-user"] = f"{g.user} {len(await request.get_data())}"
        return response

    @made_of.before_request
    async def only_below() -> Response | None:
        return Response("not today", 403) if "stop" in request.args else None

    app.register_blueprint(made_of, url_prefix="/w")
    run, refused, stopped, own = ask(
        app, invoke({}, path="/w/invoke"), Ask("PUT", "/w/health"), "/w/health?stop", "/own"
    )
    assert (run.header(b"x-user"), refused.header(b"x-user")) == (b"ada 2", b"ada 0")
    assert run.header(b"set-cookie") is not None
    assert refused.problem["status"] == 405
    assert (stopped.status, stopped.body, own.status) == (403, b"not today", 200)


def test_a_run_sees_the_hosts_request() -> None:
    """A pipeline that is included runs in the context of the request that it is run for."""

    async def asks() -> str:
        return request.path

    app = host()
    included(app, "/w", made(asks))
    assert ask(app, invoke({}, path="/w/invoke"))[0].json()["outputs"] == {"output": "/w/invoke"}


def test_blueprints_may_be_nested() -> None:
    """Below the prefix of another one, under its name."""
    app, outer = host(), Blueprint("outer", __name__)
    outer.register_blueprint(blueprint(made()), url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    health, unlisted = ask(app, "/outer/inner/health", "/outer/inner/none")
    assert (health.status, unlisted.problem["status"]) == (200, 404)
    assert "outer.hello.health" in app.view_functions


@pytest.mark.parametrize("path", ["/w//health", "/w/health/", "/w//", "/w/%2fhealth", "/w/a//b/"])
def test_odd_paths_are_the_deployments(path: str) -> None:
    """Neither redirects nor answers of the host's below the prefix, with or without slashes too many."""
    app = host()
    included(app, "/w", made(auth_key=KEY))
    assert [each.problem["status"] for each in ask(app, path, Ask("PROPFIND", path, (BEARER,)))] == [401, 404]


@pytest.mark.parametrize("path", ["//w/health", "/proxyw/health"])
def test_paths_that_quart_takes_for_others(path: str) -> None:
    """It drops slashes in front, and finds a proxy's path in what only begins like it: answered, or 404, never 500."""
    app = host()
    included(app, "/w", made())
    scope = {"root_path": "/proxy"} if "proxy" in path else {}
    assert ask(app, Ask(path=path, scope=scope))[0].status == (404 if scope else 200)


def test_mount_returns_the_deployment() -> None:
    """Its key, its service and its lifecycle are at hand; settings and a name are taken as elsewhere."""
    app = host()
    deployment = mount(app, "/w", hello, {"auth_key": KEY}, name="weather")
    assert (deployment.name, deployment.auth_keys, deployment.app_runner.flavor) == ("weather", (KEY,), "quart")
    with pytest.raises(DefinitionError, match="leave them out"):
        mount(app, "/x", deployment, name="other")


def test_nothing_of_the_host_sees_a_mount() -> None:
    """Functions around its requests are for its own."""
    app = host()
    app.before_request(samples.stopping)
    mount(app, "/w", made())
    assert [each.status for each in ask(app, "/w/health?stop=1", "/own?stop=1")] == [200, 409]


def test_an_answer_that_breaks_off_does_not_look_complete() -> None:
    """A stream that raises has no end, through the host too."""

    async def breaks_off() -> AsyncIterator[str]:
        yield "begun"
        raise LookupError("an internal matter")

    app = host()
    included(app, "/w", made(hello, {"path": "/breaks", "method": "GET", "handler": breaks_off}))

    async def main() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        inbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request"})
        with pytest.raises(ConnectionAbortedError):
            await as_asgi(app)(http_scope(Ask(path="/w/breaks")), inbox.get, send)
        return sent

    sent = asyncio.run(main())
    assert [each.get("body") for each in sent[1:]] == [b"begun"]
    assert sent[-1]["more_body"] is True


def test_quarts_application_starts_by_its_first_request() -> None:
    """Also under a server that sends no lifespan events, many first requests start it once."""
    counted, app = Counted(), host()
    included(app, "/w", counted.deployment())

    async def main() -> list[int]:
        asked = (reply(as_asgi(app), invoke({}, path="/w/invoke")) for _ in range(20))
        statuses = [each.status for each in await asyncio.gather(*asked)]
        assert counted.seen == ["start"]
        return statuses

    assert asyncio.run(main()) == [200] * 20
