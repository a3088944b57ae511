"""Adapters as they are written at first, each with one fault; the suite has to find every one of them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from types import MappingProxyType
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount

from asgipipe import Deployment, EndpointSpec, MiddlewareSpec
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.runners.starlette import StarletteAppRunner
from asgipipe.testing import Form
from asgipipe.testing.reference import ROUTES, StarletteSubject

# Faults of a host: an ASGI application around a deployment


def around(change: Callable[[ASGIApp, Scope, Receive, Send], object]) -> Callable[[ASGIApp], ASGIApp]:
    """Return what puts a fault around the HTTP requests of an application."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await change(app, scope, receive, send)  # type: ignore[misc]
            else:
                await app(scope, receive, send)

        return wrapped

    return wrap


def on_start(send: Send, change: Callable[[Message], None]) -> Send:
    async def changed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message["headers"])}
            change(message)
        await send(message)

    return changed


@around
async def drops_headers(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    def drop(message: Message) -> None:
        if message["status"] >= 400:
            message["headers"] = [pair for pair in message["headers"] if pair[0] != b"x-frame-options"]

    await app(scope, receive, on_start(send, drop))


@around
async def repeats_headers(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, on_start(send, lambda message: message["headers"].append((b"Server", b"naive"))))


@around
async def makes_its_own_request_ids(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    headers = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
    await app({**scope, "headers": headers}, receive, send)


@around
async def redirects_slashes(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/") and scope["path"] != f"{scope['root_path']}/":
        await RedirectResponse(scope["path"].rstrip("/"))(scope, receive, send)
    else:
        await app(scope, receive, send)


@around
async def loses_the_root_path(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"].removeprefix(scope["root_path"])
    await app({**scope, "path": path, "root_path": ""}, receive, send)


@around
async def decodes_paths_twice(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app({**scope, "path": unquote(scope["path"])}, receive, send)


@around
async def merges_slashes(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app({**scope, "path": scope["path"].replace("//", "/")}, receive, send)


@around
async def takes_small_bodies_only(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    if len(body) > 2_621_440:
        await PlainTextResponse("too large", 413)(scope, receive, send)
    else:
        await app(scope, replayed(body), send)


@around
async def reads_json_itself(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    with suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body)).encode()  # which takes UTF-16, and NaN
    headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    await app({**scope, "headers": headers}, replayed(body), send)


def replayed(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError("never set")

    return receive


@around
async def answers_get_only(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "HEAD":
        await PlainTextResponse("Method Not Allowed", 405)(scope, receive, send)
    else:
        await app(scope, receive, send)


@around
async def collects_streams(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    kept: list[Message] = []

    async def keep(message: Message) -> None:
        kept.append(message)
        await asyncio.sleep(0)

    await app(scope, receive, keep)
    for message in kept:
        await send(message)


@around
async def completes_streams(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    more = True

    async def watch(message: Message) -> None:
        nonlocal more
        more = message.get("more_body", message["type"] == "http.response.start")
        await send(message)

    await app(scope, receive, watch)
    if more:
        await send({"type": "http.response.body", "body": b""})


@around
async def never_hears_of_a_disconnect(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def deaf() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            await asyncio.Event().wait()
        return message

    await app(scope, deaf, send)


@around
async def runs_in_a_context_of_its_own(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def run() -> None:
        await app(scope, receive, send)

    await asyncio.create_task(run(), context=Context())


@around
async def tells_everything(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    failed = False

    def see(message: Message) -> None:
        nonlocal failed
        failed = message["status"] == 500

    async def explain(message: Message) -> None:
        if message["type"] == "http.response.body" and failed:
            message = {**message, "body": b'{"detail": "LookupError: an internal matter"}'}
        await send(message)

    await app(scope, receive, on_start(explain, see))


def knows_no_websockets(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await app(scope, receive, send)

    return wrapped


class NaiveHost(StarletteSubject):
    """Mounts as Starlette's users do, with a fault around what is mounted."""

    def __init__(self, fault: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> None:
        self._fault = fault

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            for deployment in deployments.values():
                await deployment.start()
            yield
            for deployment in deployments.values():
                await deployment.stop()

        mounts = [Mount(prefix, self._fault(each.asgi_app)) for prefix, each in deployments.items()]
        return Starlette(routes=[*ROUTES, *mounts], lifespan=lifespan)


class PlainMount(StarletteSubject):
    """Starlette runs no lifespan of what it mounts."""

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        return Starlette(routes=[*ROUTES, *(Mount(prefix, each.asgi_app) for prefix, each in deployments.items())])


class ManyStarts(StarletteSubject):
    """Builds a deployment anew for each place that it is put in."""

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        copies = {
            prefix: Deployment(each.pipeline, each.settings, name=each.name, layers=())
            for prefix, each in deployments.items()
        }
        return super().mount(copies)


class ChangesTheProcess(StarletteSubject):
    """Sets up logging for everybody as soon as there is a deployment."""

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        async def loud(scope: Scope, receive: Receive, send: Send) -> None:
            root = logging.getLogger()
            level = root.level
            root.setLevel(level + 1)
            try:
                await app(scope, receive, send)
            finally:
                root.setLevel(level)

        app = super().mount(deployments)
        return loud


class TakesTheHostOver(StarletteSubject):
    """Puts its own 404 in the place of the host's."""

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        app = super().mount(deployments)
        if isinstance(app, Starlette) and deployments:
            app.router.default = next(iter(deployments.values())).asgi_app
        return app


# Faults of an app runner


class OpenNatives(StarletteAppRunner):
    """Takes every route of the framework's for one that was declared open."""

    def key_needed(self, scope: Scope) -> bool | None:
        return False if super().key_needed(scope) else None


class OwnNotFound(StarletteAppRunner):
    """Leaves unknown paths to the framework's own 404."""

    def create_app(self, fallback: ASGIApp) -> Starlette:
        return super().create_app(PlainTextResponse("Not Found", 404))


class Redirects(StarletteAppRunner):
    """Leaves slashes to the framework."""

    def create_app(self, fallback: ASGIApp) -> Starlette:
        app = super().create_app(fallback)
        app.router.redirect_slashes = True
        return app


class TwiceThrough(StarletteAppRunner):
    """Adds native middleware at two places."""

    def add_native_middleware(self, spec: MiddlewareSpec, middleware: object) -> None:
        super().add_native_middleware(spec, middleware)
        super().add_native_middleware(spec, middleware)


class NoOrder(StarletteAppRunner):
    """Never reads `order`: middleware of the framework's comes first."""

    def _add_middleware(self) -> list[MiddlewareSpec]:
        super()._add_middleware()
        return [spec for spec in self.settings.custom_middlewares if not spec.native]


class NoNatives(StarletteAppRunner):
    """Accepts native endpoints, and forgets them."""

    def add_native_endpoint(self, spec: EndpointSpec, native: object) -> None:
        self._forgotten = native


class LimitOfItsOwn(StarletteAppRunner):
    """Answers what it does not like as it is used to: with the exception's text."""

    def entry_point(self) -> ASGIApp:
        framework = super().entry_point()

        async def entered(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].endswith("/fails"):
                await PlainTextResponse("LookupError: an internal matter", 500)(scope, receive, send)
            else:
                await framework(scope, receive, send)

        return entered


class NaiveRunner(StarletteSubject):
    def __init__(self, runner: type[StarletteAppRunner]) -> None:
        self.runner = runner  # type: ignore[misc]  # one for each fault


Faulty = tuple[StarletteSubject, Form, str]

FAULTS: Mapping[str, Faulty] = MappingProxyType(
    {
        "drops headers": (NaiveHost(drops_headers), Form.MOUNT, "every_answer_has_every_header_once"),
        "repeats headers": (NaiveHost(repeats_headers), Form.MOUNT, "every_answer_has_every_header_once"),
        "own request ids": (NaiveHost(makes_its_own_request_ids), Form.MOUNT, "a_sane_request_id_is_kept"),
        "redirects": (NaiveHost(redirects_slashes), Form.MOUNT, "nothing_redirects_between_a_path_and_its_slash"),
        "no root path": (NaiveHost(loses_the_root_path), Form.NESTED, "there_is_one_openapi_document"),
        "decodes twice": (NaiveHost(decodes_paths_twice), Form.MOUNT, "path_values_are_decoded_once"),
        "merges slashes": (NaiveHost(merges_slashes), Form.MOUNT, "doubled_slashes_are_part_of_the_path"),
        "merges slashes, open": (NaiveHost(merges_slashes), Form.MOUNT, "nothing_is_open_but_the_open_list"),
        "small bodies": (NaiveHost(takes_small_bodies_only), Form.MOUNT, "a_large_body_is_taken"),
        "own JSON": (NaiveHost(reads_json_itself), Form.MOUNT, "a_body_that_is_not_json_is_400"),
        "own JSON, custom": (NaiveHost(reads_json_itself), Form.MOUNT, "typed_handlers_are_validated_alike"),
        "GET only": (NaiveHost(answers_get_only), Form.MOUNT, "head_answers_wherever_get_does"),
        "collects streams": (NaiveHost(collects_streams), Form.MOUNT, "a_stream_arrives_while_it_is_produced"),
        "completes streams": (NaiveHost(completes_streams), Form.MOUNT, "a_stream_that_raises_does_not_look_complete"),
        "deaf": (NaiveHost(never_hears_of_a_disconnect), Form.MOUNT, "a_stream_arrives_while_it_is_produced"),
        "own context": (
            NaiveHost(runs_in_a_context_of_its_own),
            Form.MOUNT,
            "what_the_host_knows_of_a_request_is_visible_in_runs",
        ),
        "tells everything": (NaiveHost(tells_everything), Form.MOUNT, "errors_say_nothing_internal"),
        "no WebSockets": (NaiveHost(knows_no_websockets), Form.MOUNT, "a_websocket_echoes"),
        "redirects its prefix": (NaiveHost(), Form.MOUNT, "the_prefix_itself_is_not_redirected"),
        "never started": (PlainMount(), Form.MOUNT, "it_starts_and_stops_with_the_host"),
        "started though it fails": (PlainMount(), Form.MOUNT, "a_failing_start_keeps_the_server_from_serving"),
        "started twice": (ManyStarts(), Form.MOUNT, "one_deployment_at_two_prefixes_starts_once"),
        "stopped never": (PlainMount(), Form.MOUNT, "one_deployment_at_two_prefixes_stops_once"),
        "loud": (ChangesTheProcess(), Form.MOUNT, "the_process_stays_as_it_was"),
        "takes over": (TakesTheHostOver(), Form.MOUNT, "the_hosts_own_answers_are_untouched"),
        "open natives": (NaiveRunner(OpenNatives), Form.STANDALONE, "nothing_is_open_but_the_open_list"),
        "own 404": (NaiveRunner(OwnNotFound), Form.STANDALONE, "errors_are_those_of_the_reference"),
        "own redirects": (NaiveRunner(Redirects), Form.STANDALONE, "nothing_redirects_between_a_path_and_its_slash"),
        "twice through": (NaiveRunner(TwiceThrough), Form.STANDALONE, "middleware_runs_in_its_order"),
        "no order": (NaiveRunner(NoOrder), Form.STANDALONE, "middleware_may_stand_inside_of_native_middleware"),
        "no natives": (NaiveRunner(NoNatives), Form.STANDALONE, "a_native_object_is_served"),
        "own 500": (NaiveRunner(LimitOfItsOwn), Form.STANDALONE, "errors_are_those_of_the_reference"),
    }
)
"""Each fault, the form it shows in, and the scenario that is there for it."""
