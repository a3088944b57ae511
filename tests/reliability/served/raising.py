"""Everything that can be raised, from everywhere that user code runs."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from asgipipe import pipeline, step
from asgipipe.http.types import ASGIApp, Receive, Scope, Send

INTERNAL = "internal-7f3a"
"""Stands in every message, which is for the log, and in the case of a pipeline for its own envelope, alone."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError(INTERNAL)


class Unprintable(BaseException):
    def __repr__(self) -> str:
        raise SystemExit(INTERNAL)

    __str__ = __repr__


def recurse() -> BaseException:
    return recurse()


KINDS: Mapping[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError(INTERNAL),
    "KeyError": lambda: KeyError(INTERNAL),
    "BaseException": lambda: BaseException(INTERNAL),
    "SystemExit": lambda: SystemExit(INTERNAL),
    "SystemExit 0": lambda: SystemExit(0),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(INTERNAL),
    "GeneratorExit": lambda: GeneratorExit(INTERNAL),
    "StopIteration": lambda: StopIteration(INTERNAL),
    "StopAsyncIteration": lambda: StopAsyncIteration(INTERNAL),
    "CancelledError": lambda: asyncio.CancelledError(INTERNAL),
    "ExceptionGroup": lambda: ExceptionGroup(INTERNAL, [ValueError(INTERNAL)]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup(INTERNAL, [SystemExit(1), KeyboardInterrupt()]),
    "MemoryError": lambda: MemoryError(INTERNAL),
    "RecursionError": recurse,
    "OSError": lambda: OSError(2, INTERNAL, "/etc/internal-7f3a"),
    "TimeoutError": lambda: TimeoutError(INTERNAL),
    "Mute": Mute,
    "Unprintable": Unprintable,
    "surrogate": lambda: ValueError("\ud800" + INTERNAL),
    "long": lambda: ValueError(INTERNAL + "x" * 20_000_000),
}


def throw(kind: str) -> None:
    error = KINDS[kind]()
    raise error


# Pipelines


@pipeline
def sync(kind: str) -> int:
    throw(kind)
    return 1


@pipeline(blocking=False)
def in_place(kind: str) -> int:
    throw(kind)
    return 1


@pipeline
async def asynchronous(kind: str) -> int:
    throw(kind)
    return 1


@pipeline
def generator(kind: str) -> Iterator[str]:
    yield "a"
    throw(kind)


@pipeline
async def async_generator(kind: str) -> AsyncIterator[str]:
    yield "a"
    throw(kind)


@step
async def raising_step(kind: str) -> None:
    await asyncio.sleep(0)
    throw(kind)


@pipeline
async def gathered(kind: str) -> int:
    await asyncio.gather(raising_step(kind), asyncio.sleep(0))
    return 1


@step
def raising_in_thread(kind: str) -> None:
    throw(kind)


@pipeline
async def submitted(kind: str) -> int:
    await raising_in_thread.submit(kind)
    return 1


# Endpoints and middleware


def sync_endpoint(kind: str) -> int:
    throw(kind)
    return 1


async def async_endpoint(kind: str) -> int:
    throw(kind)
    return 1


def first_then_raise(kind: str) -> Iterator[str]:
    throw(kind)
    yield "a"


async def first_then_raise_async(kind: str) -> AsyncIterator[str]:
    throw(kind)
    yield "a"


def in_the_middle(kind: str) -> Iterator[str]:
    yield "a"
    throw(kind)


async def in_the_middle_async(kind: str) -> AsyncIterator[str]:
    yield "a"
    throw(kind)


async def native(request: Request) -> Response:
    throw(request.query_params["kind"])
    return Response()


async def in_the_background(request: Request) -> Response:
    return PlainTextResponse("ok", background=BackgroundTask(throw, request.query_params["kind"]))


async def own_task(kind: str) -> str:
    """Raise in a task that nobody waits for."""

    async def doomed() -> None:
        throw(kind)

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    tasks.append(asyncio.create_task(doomed()))
    return "ok"


async def in_a_callback(kind: str) -> str:
    """Raise in a callback of the event loop."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    asyncio.get_running_loop().call_soon(throw, kind)
    return "ok"


def process() -> int:
    return os.getpid()


tasks: list[asyncio.Task[None]] = []


async def raising_middleware(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    headers = dict(scope["headers"]) if scope["type"] == "http" else {}
    if b"x-before" in headers:
        throw(headers[b"x-before"].decode())
    await app(scope, receive, send)
    if b"x-after" in headers:
        throw(headers[b"x-after"].decode())


ENDPOINTS = {
    "/sync": sync_endpoint,
    "/async": async_endpoint,
    "/generator": first_then_raise,
    "/async-generator": first_then_raise_async,
    "/middle": in_the_middle,
    "/middle-async": in_the_middle_async,
    "/native": native,
    "/background": in_the_background,
    "/task": own_task,
    "/callback": in_a_callback,
    "/process": process,
}


@pipeline(
    settings={
        "custom_endpoints": [
            {"path": path, "method": "GET", "handler": handler} for path, handler in ENDPOINTS.items()
        ],
        "custom_middlewares": [{"middleware": raising_middleware}],
    }
)
def custom() -> int:
    return 1
