"""Deployments at prefixes of any ASGI application."""

import asyncio
from collections.abc import Callable

import pytest

from asgipipe import Deployment, pipeline
from asgipipe.errors import DefinitionError
from asgipipe.http.mounting import Mounts, checked_prefix, child_scope
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from tests.conftest import PATIENCE, lifespan
from tests.http.wire import Ask, Reply, ask_app, handshake, reply, websocket_scope


class Host:
    """Answers its path; notes what happens to it. `starts` and `stops` are what its lifespan raises, or reports."""

    def __init__(self, seen: list[str] | None = None, *, fails: str = "", raises: str = "") -> None:
        self.seen = [] if seen is None else seen
        self._fails = fails
        self._raises = raises

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept", "subprotocol": "host"})
        else:
            body = f"{scope['path']} below {scope.get('root_path', '')}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{phase}"
            self.seen.append(f"host {phase}")
            if self._raises == phase:
                raise OSError("no host")
            outcome = "failed" if self._fails == phase else "complete"
            await send({"type": f"lifespan.{phase}.{outcome}", "message": "no host"})
            if outcome == "failed":
                return


async def ignorant(scope: Scope, receive: Receive, send: Send) -> None:
    """Know nothing of lifespan events, as Django does not."""
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan")
    await Host()(scope, receive, send)


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Return from them at once, which says nothing either way."""
    if scope["type"] != "lifespan":
        await Host()(scope, receive, send)


def deployment(name: str = "one", seen: list[str] | None = None, error: BaseException | None = None) -> Deployment:
    noted = [] if seen is None else seen

    def start() -> None:
        noted.append(f"{name} starts")
        if error is not None:
            raise error

    hooks = {"on_init": start, "on_cleanup": lambda: noted.append(f"{name} stops")}
    return Deployment(pipeline(**hooks)(lambda: name), {}, name=name, layers=())


def mounted(host: ASGIApp, *prefixes: str) -> Mounts:
    return Mounts(host, {prefix: deployment(prefix.strip("/").replace("/", "-")).asgi_app for prefix in prefixes})


# Where requests go


def test_the_longest_prefix_answers() -> None:
    """A deployment may be below another one's prefix; what only begins with a prefix is the host's."""
    asked = ("/a/info", "/a/b/info", "/a/b/c", "/ab/info", "/", "/b/info")
    replies = ask_app(mounted(Host(), "/a", "/a/b"), *(Ask(path=path) for path in asked))
    assert [each.json()["deployment"]["name"] for each in replies[:2]] == ["a", "a-b"]
    assert replies[2].problem["status"] == 404
    assert [each.body.decode() for each in replies[3:]] == ["/ab/info below ", "/ below ", "/b/info below "]


def test_the_order_of_mounts_is_of_no_matter() -> None:
    """One may be mounted at a longer prefix before or after the other, also below what the host itself includes."""
    app = mounted(Host(), "/a/b")
    app.mount("/a", deployment("a").asgi_app)
    included = deployment("c")
    app.include("/a/c", included.lifecycle)
    replies = ask_app(app, *(Ask(path=path) for path in ("/a/b/info", "/a/info", "/a/c/d")))
    assert [each.json()["deployment"]["name"] for each in replies[:2]] == ["a-b", "a"]
    assert replies[2].body == b"/a/c/d below "


def test_a_taken_prefix_is_refused() -> None:
    """By a mount at that of another, or of what the host includes, and the other way round."""
    app = mounted(Host(), "/a")
    app.include("/b", deployment().lifecycle)
    with pytest.raises(DefinitionError, match="two deployments at one prefix: /b"):
        app.mount("/b", deployment().asgi_app)
    with pytest.raises(DefinitionError, match="two deployments at one prefix: /a/"):
        app.include("/a/", deployment().lifecycle)


@pytest.mark.parametrize(
    ("root_path", "path"), [("", "/a/openapi.json"), ("/p", "/p/a/openapi.json"), ("/p", "/a/openapi.json")]
)
def test_a_proxys_path_is_in_front(root_path: str, path: str) -> None:
    """Whether the server has it at the front of the path or leaves it out, the deployment is found and knows it."""
    answered = ask_app(mounted(Host(), "/a"), Ask(path=path, scope={"root_path": root_path}))[0]
    assert answered.json()["servers"] == [{"url": f"{root_path}/a"}]


def test_websockets_go_the_same_way() -> None:
    """Those below a prefix are the deployment's, others the host's."""
    app = mounted(Host(), "/a")
    mine = asyncio.run(handshake(app, websocket_scope(Ask(path="/a/none"))))
    hosts = asyncio.run(handshake(app, websocket_scope(Ask(path="/none"))))
    assert [each.messages[0]["type"] for each in (mine, hosts)] == ["websocket.close", "websocket.accept"]


def test_the_hosts_scope_stays_as_it_was() -> None:
    """What is mounted gets a scope of its own."""
    scope: Scope = {"root_path": "/p/", "path": "/p/a/x", "state": {}}
    child = child_scope(scope, "/a", "/x")
    assert (child["root_path"], child["path"]) == ("/p/a", "/p/a/x")
    assert scope == {"root_path": "/p/", "path": "/p/a/x", "state": {}}
    assert child["state"] is scope["state"]


@pytest.mark.parametrize("prefix", ["", "/", "weather", "//", "/a//b", "/{name}", "/<name>", "/a?b", "/a#b"])
def test_a_prefix_is_a_path(prefix: str) -> None:
    """Anything else is told when it is mounted."""
    with pytest.raises(DefinitionError, match="give a path such as '/weather'"):
        checked_prefix(prefix)


def test_a_slash_at_the_end_is_left_out() -> None:
    """`/weather/` is the same place as `/weather`, so both in one host are refused."""
    assert checked_prefix("/weather/") == "/weather"
    with pytest.raises(DefinitionError, match="two deployments at one prefix"):
        mounted(Host(), "/weather", "/weather/")


# Start and stop


def test_deployments_start_after_the_host_and_stop_before_it() -> None:
    """They may use what it opens, in the order they were given, and in reverse."""
    seen: list[str] = []
    host = Host(seen)
    apps = {f"/{name}": deployment(name, seen).asgi_app for name in ("one", "two")}
    ask_app(Mounts(host, apps), Ask(path="/one/ready"))
    assert seen == ["host startup", "one starts", "two starts", "two stops", "one stops", "host shutdown"]


@pytest.mark.parametrize("host", [ignorant, silent])
def test_a_host_without_lifespan_keeps_nothing_from_starting(host: ASGIApp) -> None:
    """Deployments start and stop with the server all the same, and the host serves."""
    seen: list[str] = []
    app = Mounts(host, {"/one": deployment("one", seen).asgi_app})

    async def main() -> None:
        async with lifespan(app):
            assert seen == ["one starts"]
            for _ in range(10):
                await asyncio.sleep(0)
            ready, own = [await reply(app, Ask(path=path)) for path in ("/one/ready", "/own")]
            assert (ready.status, own.body) == (200, b"/own below ")
            assert seen == ["one starts"]

    asyncio.run(main())
    assert seen == ["one starts", "one stops"]


def test_longer_prefixes_do_not_start_sooner() -> None:
    """The order of starts is that in which they were given."""
    seen: list[str] = []
    apps = {f"/{name}": deployment(name.replace("/", "-"), seen).asgi_app for name in ("a", "a/b")}
    ask_app(Mounts(Host(), apps), Ask(path="/a/ready"))
    assert seen == ["a starts", "a-b starts", "a-b stops", "a stops"]


def test_mounts_may_be_nested() -> None:
    """Each of them passes the events on, so everything starts once."""
    seen: list[str] = []
    inner = Mounts(Host(seen), {"/one": deployment("one", seen).asgi_app})
    outer = Mounts(inner, {"/two": deployment("two", seen).asgi_app})
    replies = ask_app(outer, *(Ask(path=path) for path in ("/one/ready", "/two/ready", "/own")))
    assert [each.status for each in replies] == [200] * 3
    assert seen == ["host startup", "one starts", "two starts", "two stops", "one stops", "host shutdown"]


def test_one_deployment_at_two_prefixes_starts_once() -> None:
    """Starts are counted."""
    seen: list[str] = []
    app = deployment("one", seen).asgi_app
    replies = ask_app(Mounts(Host(), {"/a": app, "/b": app}), Ask(path="/a/ready"), Ask(path="/b/ready"))
    assert [each.status for each in replies] == [200, 200]
    assert seen == ["one starts", "one stops"]


def events(app: ASGIApp, *, until: str = "shutdown") -> list[Message]:
    """Send the lifespan's events, each after the answer to the one before, and return the answers."""

    async def main() -> list[Message]:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)
            if message["type"] == "lifespan.startup.complete":
                inbox.put_nowait({"type": "lifespan.shutdown"})

        inbox.put_nowait({"type": "lifespan.startup"})
        await asyncio.wait_for(app({"type": "lifespan", "state": {}}, inbox.get, send), PATIENCE)
        return sent

    return asyncio.run(main())


@pytest.mark.parametrize("error", [OSError("no model"), SystemExit("no model")])
def test_a_failed_start_is_the_hosts(error: BaseException) -> None:
    """The server is told why, once; what has started stops again, the host as well."""
    seen: list[str] = []
    apps = {"/one": deployment("one", seen).asgi_app, "/two": deployment("two", seen, error).asgi_app}
    (failed,) = events(Mounts(Host(seen), apps))
    assert failed["type"] == "lifespan.startup.failed"
    assert "no model" in failed["message"]
    assert seen == ["host startup", "one starts", "two starts", "one stops", "host shutdown"]


def test_a_failed_start_under_a_host_without_lifespan() -> None:
    """The server is told as well, and nothing waits for a shutdown that will not come."""
    seen: list[str] = []
    (failed,) = events(Mounts(ignorant, {"/one": deployment("one", seen, OSError("no model")).asgi_app}))
    assert (failed["type"], "no model" in failed["message"]) == ("lifespan.startup.failed", True)


@pytest.mark.parametrize("how", [{"fails": "startup"}])
def test_nothing_starts_where_the_host_does_not(how: dict[str, str]) -> None:
    """Its own report of the failure reaches the server."""
    seen: list[str] = []
    sent = events(Mounts(Host(seen, **how), {"/one": deployment("one", seen).asgi_app}))
    assert [each["type"] for each in sent] == ["lifespan.startup.failed"]
    assert seen == ["host startup"]


def test_a_failed_stop_of_the_hosts_is_told() -> None:
    """Deployments have stopped by then."""
    seen: list[str] = []
    sent = events(Mounts(Host(seen, fails="shutdown"), {"/one": deployment("one", seen).asgi_app}))
    assert [each["type"] for each in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert seen == ["host startup", "one starts", "one stops", "host shutdown"]


def test_a_host_that_raises_when_it_stops_is_heard() -> None:
    """After a start it is no host without lifespan; its error is the server's."""
    with pytest.raises(OSError, match="no host"):
        events(Mounts(Host(raises="shutdown"), {"/one": deployment().asgi_app}))


def test_one_that_does_not_stop_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is in the log; the others and the host stop."""
    seen: list[str] = []

    def stop() -> None:
        raise OSError("still busy")

    bad = Deployment(pipeline(on_cleanup=stop)(lambda: 1), {}, name="bad", layers=())
    app = Mounts(Host(seen), {"/one": deployment("one", seen).asgi_app, "/bad": bad.asgi_app})
    assert [each["type"] for each in events(app)] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert seen == ["host startup", "one starts", "one stops", "host shutdown"]
    assert "still busy" in caplog.text


@pytest.mark.parametrize("make", [Host, lambda: ignorant])
def test_without_lifespan_events_the_first_request_starts_it(make: Callable[[], ASGIApp]) -> None:
    """As under a server that sends none, or in a test that does not."""
    seen: list[str] = []
    app = Mounts(make(), {"/one": deployment("one", seen).asgi_app})

    async def main() -> Reply:
        answered = await reply(app, Ask("POST", "/one/invoke"))
        assert seen == ["one starts"]
        return answered

    assert asyncio.run(main()).status == 200


def test_it_may_be_started_again() -> None:
    """A second lifespan, such as that of the next test, starts and stops everything anew."""
    seen: list[str] = []
    app = Mounts(Host(seen), {"/one": deployment("one", seen).asgi_app})

    async def main() -> None:
        for _ in range(2):
            async with lifespan(app):
                assert (await reply(app, Ask(path="/one/ready"))).status == 200

    asyncio.run(main())
    assert seen == ["host startup", "one starts", "one stops", "host shutdown"] * 2
