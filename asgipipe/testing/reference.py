"""Starlette, the framework of the reference runner: what every other one is compared with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.testing.subject import Subject

CallNext = Callable[[Request], Awaitable[Response]]


async def own(request: Request) -> Response:
    return PlainTextResponse("of the host")


async def failing(request: Request) -> Response:
    raise LookupError("of the host")


async def shouting(request: Request) -> Response:
    return PlainTextResponse((await request.body()).upper(), 203, {"x-kind": "native"})


async def native(request: Request) -> Response:
    return PlainTextResponse("native")


async def extended(request: Request) -> Response:
    return PlainTextResponse("extended")


async def tagging(request: Request, call_next: CallNext) -> Response:
    response = await call_next(request)
    response.headers.append("x-passed", "native")
    return response


ROUTES = [Route("/own", own), Route("/failing", failing)]


class StarletteSubject(Subject):
    flavor = "starlette"

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe.runners.starlette import mount

        app = Starlette(routes=ROUTES)
        for prefix, deployment in deployments.items():
            mount(app, prefix, deployment)
        return app

    def include(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe.runners.starlette import router

        routers = {prefix: router(deployment) for prefix, deployment in deployments.items()}

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with AsyncExitStack() as stack:
                for each in routers.values():
                    await stack.enter_async_context(each.lifespan_context(app))
                yield

        mounts = [Mount(prefix, routes=each.routes) for prefix, each in routers.items()]
        return Starlette(routes=[*ROUTES, *mounts], lifespan=lifespan)

    def request_handler(self) -> Callable[..., object]:
        return shouting

    def native_endpoint(self, path: str) -> object:
        return Route(path, native)

    def native_middleware(self) -> object:
        return tagging

    def extend(self, app: object) -> None:
        if not isinstance(app, Starlette):
            raise TypeError(f"this is no Starlette: {app!r}")
        app.add_route("/extended", extended)
