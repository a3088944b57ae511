"""Native objects of Quart's: endpoints and middleware."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

pytest.importorskip("quart")

from pydantic import BaseModel
from quart import Blueprint, Quart

from asgipipe import Deployment
from asgipipe.errors import DefinitionError
from asgipipe.http.types import Message
from tests.adapters.quart import samples
from tests.adapters.quart.samples import BEARER, KEY, Tagging, hello, native_blueprint, plain_app
from tests.adapters.quart.sockets import connected
from tests.http.wire import JSON, Ask, Reply, ask_app, deployed


def native(handler: object, path: str = "/n", **more: object) -> dict[str, object]:
    return {"path": path, "handler": handler, "native": True, **more}


def settings(*specs: Mapping[str, object], **more: object) -> dict[str, object]:
    return {"deployment_app_runner_flavor": "quart", "custom_endpoints": list(specs), **more}


def ask(made: Mapping[str, object], *asked: Ask | str) -> list[Reply]:
    return ask_app(deployed(hello, made), *(Ask(path=one) if isinstance(one, str) else one for one in asked))


# Endpoints


@pytest.mark.parametrize(
    ("handler", "path", "answered", "unknown"),
    [
        (samples.told, "/n", ["/n"], ["/n/", "/n/n", "/"]),
        (samples.told, "/n/{name}", [], ["/n"]),
        (samples.Told, "/n", ["/n"], ["/n/", "/n/x"]),
        (native_blueprint(), "/n", ["/n/told"], ["/n", "/told"]),
        (native_blueprint("/in"), "/n", ["/n/in/told"], ["/n/told", "/in/told"]),
        (native_blueprint("/n"), "/n", ["/n/told"], ["/n/n/told"]),
        (native_blueprint(path="/n/told"), "/n", ["/n/told"], ["/n/n/told"]),
        (native_blueprint(), "", ["/told"], []),
        (native_blueprint(), "/", ["/told"], []),
        ("tests.adapters.quart.samples:told", "/n", ["/n"], []),
    ],
)
@pytest.mark.parametrize("root", ["", "/w"])
def test_native_objects_answer_at_or_below_their_path(
    handler: object, path: str, answered: list[str], unknown: list[str], root: str
) -> None:
    """A rule that begins with the endpoint's path stays there, everything else is put below it."""
    made = settings(native(handler, path), root_url_path=root, include_default_endpoints=["API"])
    for one, reply in zip(answered, ask(made, *(root + one for one in answered)), strict=True):
        assert (reply.status, reply.body.decode()) == (200, f"GET {root}{one}")
    assert [each.status for each in ask(made, *(root + one for one in unknown))] == [404] * len(unknown)


@pytest.mark.parametrize("root", ["", "/w"])
def test_an_application_takes_all_that_is_below(root: str) -> None:
    """With every method and any path, its own place in `root_path`, and the values of a template."""
    made = settings(native(plain_app), native(plain_app, "/t/{name}"), root_url_path=root)
    asked = [Ask("PROPFIND", f"{root}/n"), f"{root}/n/", f"{root}/n//x/y", f"{root}/t/a/b", f"{root}/nn", f"{root}/t"]
    replies = ask(made, *asked)
    assert [each.body.decode() for each in replies[:4]] == [
        f"PROPFIND {root}/n below {root}/n",
        f"GET {root}/n/ below {root}/n",
        f"GET {root}/n//x/y below {root}/n",
        f"GET {root}/t/a/b below {root}/t/a",
    ]
    assert [each.status for each in replies[4:]] == [404, 404]


def test_longer_paths_and_rows_come_first() -> None:
    """An application at the root hides neither what is built in nor what lies deeper, whatever the order."""
    specs = [native(plain_app, ""), native(native_blueprint(), "/a/b"), native(plain_app, "/a")]
    for order in (specs, specs[::-1]):
        replies = ask(settings(*order), "/a/b/told", "/a/x", "/z", "/info")
        assert [each.body[:10] for each in replies[:3]] == [b"GET /a/b/t", b"GET /a/x b", b"GET /z bel"]
        assert replies[3].json()["pipeline"]["name"] == "hello"


@pytest.mark.parametrize(
    ("spec", "methods"),
    [
        (native(samples.told), "GET, HEAD"),
        (native(samples.told, method="PUT"), "PUT"),
        (native(samples.told, extra_kwargs={"methods": ["PATCH"]}), "PATCH"),
        (native(samples.Methods), "DELETE, GET, HEAD"),
    ],
)
def test_methods_are_what_was_said(spec: Mapping[str, object], methods: str) -> None:
    """The field, the rule's options or the view says them; by itself a view is one for GET, as in Quart."""
    answered = ask(settings(spec), Ask("POST", "/n"))[0]
    assert (answered.problem["status"], answered.header(b"allow")) == (405, methods.encode())


def test_views_of_one_name_do_not_clash() -> None:
    """Two natives, or a native and a row, may have one name, which Quart alone would refuse."""

    async def health() -> str:
        return "mine"

    replies = ask(settings(native(health, "/a"), native(health, "/b")), "/a", "/b", "/health")
    assert [each.body for each in replies[:2]] == [b"mine", b"mine"]
    assert replies[2].json()["status"] == "healthy"


@pytest.mark.parametrize("handler", [object(), int, "tests.adapters.quart.samples:KEY"])
def test_what_is_no_native_object_is_refused(handler: object) -> None:
    """It is told when the application is built."""
    with pytest.raises(DefinitionError, match="neither a blueprint or view of Quart's nor an ASGI application"):
        deployed(hello, settings(native(handler)))


def test_failures_of_an_application_are_problems() -> None:
    """What an application inside Quart raises is a 500 of ours."""
    answered = ask(settings(native(plain_app)), "/n/fails")[0]
    assert answered.problem["status"] == 500


# The key

CLOSED = [samples.told, samples.Told, native_blueprint(path="/n"), plain_app]


@pytest.mark.parametrize("handler", CLOSED)
def test_natives_need_the_key_unless_they_are_open(handler: object) -> None:
    """Any method, and the methods that nobody answers: 401 without it, and only what was declared open is open."""
    for is_open in (False, True):
        made = settings(native(handler, auth_required=not is_open), auth_key=KEY)
        asked = [Ask(method, "/n") for method in ("GET", "HEAD", "PUT", "OPTIONS")]
        keyless = [each.status for each in ask(made, *asked)]
        assert keyless[:2] == [200 if is_open else 401] * 2
        if not is_open:
            assert keyless[2:] == [401, 401]
        assert ask(made, Ask("GET", "/n", (BEARER,)))[0].status == 200


def test_what_an_extension_adds_needs_the_key() -> None:
    """Also at a path that is open for something else."""

    def install(app_runner: Any) -> None:
        app_runner.asgi_app.add_url_rule("/health", "mine", samples.told, methods=["PUT"])
        app_runner.asgi_app.add_url_rule("/n/x", "deep", samples.told)

    made = settings(native(plain_app, auth_required=False), auth_key=KEY, app_extensions=[{"extension": install}])
    assert [each.status for each in ask(made, Ask("PUT", "/health"), "/n/x", "/n/y")] == [401, 401, 200]


# WebSockets


def heard(made: Mapping[str, object], path: str, *headers: tuple[bytes, bytes]) -> list[Message]:
    """Return what is sent until the socket is closed or the application has ended."""

    async def main() -> list[Message]:
        async with connected(deployed(hello, made), path, *headers) as socket:
            sent = [await socket.next()]
            if sent[0]["type"] == "websocket.accept":
                sent.append(await socket.next())
                sent.append(await socket.next())
            return sent

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("handler", "path", "options"),
    [(native_blueprint(), "/n/ws", {}), (samples.echoed, "/n", {"websocket": True, "methods": ["GET"]})],
)
def test_websockets_of_quarts(handler: object, path: str, options: dict[str, object]) -> None:
    """A blueprint's and a view's are served, and need the key unless they are open."""
    for is_open, headers in ((False, ()), (False, (BEARER,)), (True, ())):
        spec = native(handler, auth_required=not is_open, extra_kwargs=options)
        sent = heard(settings(spec, auth_key=KEY), path, *headers)
        if is_open or headers:
            assert sent[1]["text"] == path
            assert (sent[2]["type"], sent[2]["code"]) == ("websocket.close", 1000)
        else:
            assert [each["type"] for each in sent] == ["websocket.close"]


def test_a_websocket_that_fails_is_closed_with_1011() -> None:
    """After it was accepted there is no other way to say so; nothing of the inside is told."""
    spec = native(samples.failing_socket, extra_kwargs={"websocket": True, "methods": ["GET"]})

    async def main() -> Message:
        async with connected(deployed(hello, settings(spec)), "/n") as socket:
            assert (await socket.next())["type"] == "websocket.accept"
            return await socket.next()

    closed = asyncio.run(main())
    assert (closed["type"], closed["code"], closed.get("reason") or "") == ("websocket.close", 1011, "")


def test_an_application_has_the_websocket_itself() -> None:
    """Subprotocol, headers, messages both ways, and the code its client closed it with."""

    async def main() -> None:
        async with connected(deployed(hello, settings(native(plain_app))), "/n/x") as socket:
            accepted = await socket.next()
            assert (accepted["subprotocol"], (b"x-own", b"yes") in accepted["headers"]) == ("chat", True)
            for text in ("one", ""):
                await socket.send(text)
                assert (await socket.next())["text"] == text
            await socket.leave(4001)
            assert (await socket.next())["text"] == "closed with 4001"

    asyncio.run(main())


def test_http_of_a_websocket_is_404() -> None:
    """Whatever the method: Quart's own answer would be a 400 or a 405."""
    replies = ask(settings(native(native_blueprint())), "/n/ws", Ask("POST", "/n/ws"))
    assert [each.problem["status"] for each in replies] == [404, 404]


# Middleware


def layer(middleware: object, order: int, tag: str | None = None, *, inner: bool = False) -> dict[str, object]:
    kwargs = {} if tag is None else {"tag": tag}
    return {"middleware": middleware, "native": not inner, "order": order, "init_kwargs": kwargs}


@pytest.mark.parametrize(
    "layers",
    [
        [layer(Tagging, 1, "1"), layer(samples.tagging, 2, "2"), layer(samples.tagging, 3, "3")],
        [layer(samples.tagging, 1, "1"), layer(Tagging, 2, "2"), layer(Tagging, 3, "3", inner=True)],
        [layer(Tagging, 1, "1", inner=True), layer(samples.tagging, 2, "2"), layer(Tagging, 3, "3", inner=True)],
        [layer(Tagging, 1, "1"), layer(Tagging, 2, "2", inner=True), layer(samples.tagging, 3, "3")],
    ],
)
def test_there_is_one_order(layers: list[dict[str, object]]) -> None:
    """Classes around the application, functions around requests and our own, in any mixture, on any endpoint."""
    specs = [native(samples.told), {"path": "/row/{name}", "method": "GET", "handler": lambda name: name}]
    made = settings(*specs, custom_middlewares=layers)
    for each in ask(made, "/n", "/row/x", "/health", "/none"):
        assert each.all(b"x-passed") == [b"3", b"2", b"1"]


@pytest.mark.parametrize("inner", [False, True])
def test_nothing_stands_between_functions(inner: bool) -> None:
    """Quart calls them in a row, so an order that it could not keep is refused."""
    between = layer(Tagging, 2, "2", inner=inner)
    made = settings(custom_middlewares=[layer(samples.tagging, 1), between, layer(samples.tagging, 3)])
    with pytest.raises(DefinitionError, match="in a row"):
        deployed(hello, made)


def test_functions_share_quarts_context() -> None:
    """What one puts into `g` before a request, another finds there after it; the first that answers ends it."""
    layers = [layer(samples.stopping, 1), layer(samples.greeted_first, 2), layer(samples.tagging, 3, "after")]
    passed, stopped = ask(settings(native(samples.told), custom_middlewares=layers), "/n", "/n?stop=1")
    assert (passed.body, passed.header(b"x-greeting")) == (b"GET /n", b"hello")
    assert (stopped.status, stopped.body, stopped.header(b"x-greeting")) == (409, b"stopped", None)


def test_inner_middleware_is_around_websockets_too() -> None:
    """It is made once, and sees handshakes although functions around requests do not."""
    Tagging.made = 0
    layers = [layer(samples.tagging, 1), layer(Tagging, 2, "inner", inner=True)]
    made = settings(native(native_blueprint()), custom_middlewares=layers)
    assert (b"x-passed", b"inner") in heard(made, "/n/ws")[0]["headers"]
    assert Tagging.made == 1


class Said(BaseModel):
    text: str


def spoken(said: Said) -> str:
    return said.text


def test_inner_middleware_sees_the_body() -> None:
    """What it makes of the messages reaches the rows inside of it."""

    async def lowered(app: Any, scope: Any, receive: Any, send: Any) -> None:
        async def received() -> Message:
            message: Message = await receive()
            return {**message, "body": message.get("body", b"").lower()}

        await app(scope, received, send)

    layers = [layer(samples.tagging, 1), {"middleware": lowered, "order": 2}]
    made = settings({"path": "/echo", "handler": spoken}, custom_middlewares=layers)
    answered = ask(made, Ask("POST", "/echo", (JSON,), b'{"TEXT":"ABC"}'))[0]
    assert (answered.status, answered.json()) == (200, "abc")


def two_arguments(one: object, two: object) -> None:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("middleware", "kwargs", "reason"),
    [
        (two_arguments, {}, "is called as"),
        (samples.tagging, {"tga": "x"}, "is called as"),
        (Tagging, {"tga": "x"}, "is called as"),
        (object(), {}, "neither a class nor a function"),
    ],
)
def test_middleware_that_cannot_be_called_is_refused(middleware: object, kwargs: object, reason: str) -> None:
    """It is told when the application is built."""
    spec = {"middleware": middleware, "native": True, "init_kwargs": kwargs}
    with pytest.raises(DefinitionError, match=reason):
        deployed(hello, settings(custom_middlewares=[spec]))


def test_a_partial_is_a_function() -> None:
    """Its own arguments are bound already."""
    spec = {"middleware": partial(samples.tagging, tag="bound"), "native": True}
    assert ask(settings(custom_middlewares=[spec]), "/health")[0].all(b"x-passed") == [b"bound"]


def test_blueprints_are_registered_with_their_options() -> None:
    """`extra_kwargs` go to `register_blueprint`; two of one name need different ones there, as in Quart."""
    one, two = native_blueprint(), native_blueprint()
    with pytest.raises(DefinitionError, match="already registered"):
        deployed(hello, settings(native(one, "/a"), native(two, "/b")))
    made = settings(native(one, "/a"), native(two, "/b", extra_kwargs={"name": "other"}))
    app: Any = Deployment(hello, made, layers=()).app_runner.asgi_app
    assert isinstance(app, Quart)
    assert {"native", "other"} <= app.blueprints.keys()
    assert isinstance(app.blueprints["other"], Blueprint)
