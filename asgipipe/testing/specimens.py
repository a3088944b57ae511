"""The deployments that scenarios ask, by name: a server process builds them anew from these names."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from asgipipe import BaseDeploymentAppRunner, Deployment, get_step_context, pipeline, step
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.settings.stores import MEMORY
from asgipipe.testing.subject import Subject

KEY = "canary-0123456789"
BEARER = {"authorization": f"Bearer {KEY}"}
OTHER_KEY = "linnet-0123456789"
OTHER_BEARER = {"authorization": f"Bearer {OTHER_KEY}"}
ORIGIN = "https://app.example"
LIMIT = 1000
"""Bytes that a body of the specimen `limited` may have."""
LIFETIME = 0.1
"""Seconds for which it knows an Idempotency-Key."""
KEPT_EVENTS = 100
"""Events that the specimen `telling` keeps of a job."""

MIB = 1024 * 1024

logger = logging.getLogger("conformance")

# The pipelines


@step
def repeat(name: str, times: int) -> str:
    return name * times


@pipeline
async def conform(name: str, times: int = 1, ratio: float | None = None, pause: float = 0.0, fail: bool = False) -> str:
    """Repeat a name.

    After a pause in seconds, and only unless it is told to fail.
    """
    if fail:
        raise ValueError("told to fail")
    await asyncio.sleep(pause)
    return repeat(name, times)


@step
def spell(name: str) -> Iterator[str]:
    """Yield the letters one by one."""
    get_step_context().progress(0.5, "half of it")
    logger.warning("spelling %s", name)
    yield from name


@step
def stumble() -> None:
    raise ValueError("told to fail")


@pipeline
async def tell(name: str, pause: float = 0.0, fail: bool = False, deltas: int = 0) -> str:
    """Spell a name, and let everything be known that can be known of a run."""
    context = get_step_context()
    context.add_metadata({"letters": len(name)})
    spelt = "".join(spell(name))  # which is text by then, whatever a type checker takes it for
    await asyncio.sleep(pause)
    for number in range(deltas):
        context.emit(number)
    if fail:
        stumble()
    return spelt


# Endpoints


class City(BaseModel):
    name: str
    population: int


class Length(BaseModel):
    length: int


def named(name: str, times: int = 1) -> str:
    """Take a value from the path and one from the query, in a thread."""
    return name * times


async def grown(city: City, factor: int = 2) -> City:
    """Take a model from the body, on the event loop."""
    return City(name=city.name, population=city.population * factor)


async def measured(text: str = "", texts: list[str] | None = None) -> Length:
    return Length(length=len(text) + sum(map(len, texts or ())))


def below(rest: str) -> str:
    return rest


class Greeter:
    """A builder class; what it makes is called for every request."""

    def __init__(self, app_runner: BaseDeploymentAppRunner, greeting: str = "Hi") -> None:
        self._greeting = f"{greeting} from {app_runner.deployment.name}"

    async def __call__(self, name: str) -> str:
        return f"{self._greeting}, {name}"


def build_greeter(app_runner: BaseDeploymentAppRunner, greeting: str = "Hi") -> Callable[[str], str]:
    """Build a handler from a function."""

    def greet(name: str) -> str:
        return f"{greeting} from {app_runner.deployment.name}, {name}"

    return greet


def fails() -> str:
    raise LookupError("an internal matter")


# Streams

PIECE = "x" * 1024


class Open:
    """Counts the streams that are open, so that a scenario can see them end."""

    streams = 0


async def ticks() -> AsyncIterator[str]:
    """Yield for ever."""
    Open.streams += 1
    try:
        while True:
            yield PIECE
            await asyncio.sleep(0.001)
    finally:
        Open.streams -= 1


def ticks_in_thread() -> Iterator[str]:
    Open.streams += 1
    try:
        while True:
            yield PIECE
    finally:
        Open.streams -= 1


async def breaks_off() -> AsyncIterator[str]:
    yield PIECE
    raise LookupError("an internal matter")


def open_streams() -> int:
    return Open.streams


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo what a WebSocket sends; `close 4001` closes it with that code."""
    if scope["type"] != "websocket":
        await send({"type": "http.response.start", "status": 426, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"a WebSocket"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None and text.startswith("close "):
            await send({"type": "websocket.close", "code": int(text.removeprefix("close "))})
            return
        kept = {"text": text} if text is not None else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **kept})


# Middleware


class Tagging:
    """Appends a header to each answer that passes."""

    def __init__(self, app: ASGIApp, tag: str) -> None:
        self._app = app
        self._tag = tag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await tagging(self._app, scope, receive, send, tag=self._tag)


async def tagging(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, tag: str) -> None:
    async def tagged(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-passed", tag.encode())]
        await send(message)

    await app(scope, receive, tagged)


# Settings

Settings = Mapping[str, object]


def endpoints(subject: Subject) -> list[dict[str, object]]:
    """Return one endpoint of every kind."""
    get: dict[str, Any] = {"method": "GET"}
    return [
        {"path": "/named/{name}", "handler": named, **get},
        {"path": "/below/{rest:path}", "handler": below, **get},
        {"path": "/grown", "handler": grown},
        {"path": "/measured", "handler": measured},
        {"path": "/class", "handler": Greeter, "init_kwargs": {"greeting": "Ave"}, **get},
        {"path": "/function", "handler": build_greeter, "init_kwargs": {"greeting": "Salve"}, **get},
        {"path": "/fails", "handler": fails, **get},
        {"path": "/open", "handler": open_streams, "auth_required": False, **get},
        {"path": "/ticks", "handler": ticks, **get},
        {"path": "/ticks-in-thread", "handler": ticks_in_thread, **get},
        {"path": "/breaks-off", "handler": breaks_off, **get},
        {"path": "/request", "handler": subject.request_handler()},
        {"path": "/native", "handler": subject.native_endpoint("/native"), "native": True},
        {
            "path": "/native-open",
            "handler": subject.native_endpoint("/native-open"),
            "native": True,
            "auth_required": False,
        },
        {"path": "/echo", "handler": echo, "native": True},
        {"path": "/echo-open", "handler": echo, "native": True, "auth_required": False},
    ]


def plain(subject: Subject) -> Settings:
    """Nothing but what is built in."""
    return {}


def full(subject: Subject) -> Settings:
    """Custom endpoints, no key."""
    return {"custom_endpoints": endpoints(subject), "app_title": "Conformance"}


def keyed(subject: Subject) -> Settings:
    """Custom endpoints, a key and CORS."""
    return {**full(subject), "auth_key": KEY, "cors": {"allow_origins": [ORIGIN]}}


def through(subject: Subject) -> Settings:
    """As `keyed`, with middleware and an extension: every request passes through the framework."""
    return {
        **keyed(subject),
        "custom_middlewares": [
            {"middleware": subject.native_middleware(), "native": True, "order": 30},
            {"middleware": tagging, "order": 20, "init_kwargs": {"tag": "function"}},
            {"middleware": Tagging, "order": 10, "init_kwargs": {"tag": "class"}},
        ],
        "app_extensions": [{"extension": lambda app_runner: subject.extend(app_runner.asgi_app)}],
    }


def sandwich(subject: Subject) -> Settings:
    """ASGI middleware inside of native middleware."""
    return {
        "custom_middlewares": [
            {"middleware": Tagging, "order": 30, "init_kwargs": {"tag": "class"}},
            {"middleware": subject.native_middleware(), "native": True, "order": 20},
            {"middleware": tagging, "order": 10, "init_kwargs": {"tag": "function"}},
        ],
    }


def limited(subject: Subject) -> Settings:
    """Limits that are reached quickly."""
    return {
        "max_request_body_size": LIMIT,
        "max_concurrency": 1,
        "max_queue": 0,
        "request_timeout": 0.2,
        "max_pending_jobs": 1,
        "job_concurrency": 1,
        "idempotency_ttl": LIFETIME,
        "on_disconnect": "continue",
        "allow_capture_override": False,
        "custom_endpoints": [
            {"path": "/ticks", "method": "GET", "handler": ticks},
            {"path": "/request", "handler": subject.request_handler()},
            {"path": "/grown", "handler": grown},
        ],
    }


def moved(subject: Subject) -> Settings:
    """Paths elsewhere, and an endpoint of the user's in the place of a built-in one."""
    return {
        "root_url_path": "/root",
        "api_url_path": "/api/v1",
        "docs_url_path": "/manual",
        "invoke_url_path": "/run",
        "jobs_url_path": "/tasks",
        "stream_url_path": "/events",
        "runs_url_path": "/history",
        "custom_endpoints": [
            {"path": "/api/v1/info", "method": "GET", "handler": lambda: "mine"},
            {"path": "/named/{name}", "method": "GET", "handler": named},
            {"path": "/native", "handler": subject.native_endpoint("/native"), "native": True},
        ],
    }


def telling(subject: Subject) -> Settings:
    """Jobs that are retried, events that are soon forgotten, runs that are recorded, and two keys."""
    return {
        "auth_key": [KEY, OTHER_KEY],
        "on_disconnect": "cancel",
        "stream_heartbeat": 0.05,
        "job_retries": 1,
        "job_retry_delay": 0.01,
        "max_job_events": KEPT_EVENTS,
        "capture": "full",
    }


READY = {"moved": "/root/api/v1/ready"}
"""Where a specimen's readiness probe is, when it is not at /ready."""

SPECIMENS: dict[str, Callable[[Subject], Settings]] = {
    make.__name__: make for make in (plain, full, keyed, through, sandwich, limited, moved, telling)
}


def specimen(name: str, subject: Subject, store_url: str = MEMORY) -> Deployment:
    target = tell if name == telling.__name__ else conform
    # Jobs that a failed scenario has left behind do not hold up the end.
    always = {"store_url": store_url, "drain_timeout": 1.0}
    return deployed(subject, target, {**SPECIMENS[name](subject), **always}, name=name)


def deployed(subject: Subject, target: object, settings: Settings | None = None, *, name: str) -> Deployment:
    """Return a new deployment, run by the subject's app runner; it reads no environment."""
    flavor = {"deployment_app_runner_flavor": subject.runner or subject.flavor}
    return Deployment(target, {**flavor, **(settings or {})}, name=name, layers=())


class Counted:
    """A pipeline whose starts and stops are counted; the first `failing` of the starts fail."""

    def __init__(self, failing: int = 0) -> None:
        self.starts = 0
        self.stops = 0
        self._failing = failing

    def deployment(self, subject: Subject, name: str = "counted", **settings: object) -> Deployment:
        made = pipeline(on_init=self._start, on_cleanup=self._stop)(self.run)
        return deployed(subject, made, settings, name=name)

    async def run(self, number: int = 1) -> int:
        return number

    async def _start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0)
        if self.starts <= self._failing:
            raise OSError("no model")

    def _stop(self) -> None:
        self.stops += 1
