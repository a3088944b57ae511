"""FastAPI, under test."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.testing import Subject

CallNext = Callable[[Request], Awaitable[Response]]


def host() -> FastAPI:
    app = FastAPI()

    @app.get("/own")
    async def own() -> str:
        return "of the host"

    @app.get("/failing")
    async def failing() -> str:
        raise LookupError("of the host")

    return app


async def shouting(request: Request) -> Response:
    return PlainTextResponse((await request.body()).upper(), 203, {"x-kind": "native"})


async def tagging(request: Request, call_next: CallNext) -> Response:
    response = await call_next(request)
    response.headers.append("x-passed", "native")
    return response


async def native() -> Response:
    return PlainTextResponse("native")


async def extended() -> Response:
    return PlainTextResponse("extended")


class FastAPISubject(Subject):
    flavor = "fastapi"

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe_fastapi import mount

        app = host()
        for prefix, deployment in deployments.items():
            mount(app, prefix, deployment)
        return app

    def include(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe_fastapi import router

        app = host()
        for prefix, deployment in deployments.items():
            app.include_router(router(deployment), prefix=prefix)
        return app

    def request_handler(self) -> Callable[..., object]:
        return shouting

    def native_endpoint(self, path: str) -> object:
        router = APIRouter()
        router.add_api_route("", native)  # the endpoint's path is the prefix of a router
        return router

    def native_middleware(self) -> object:
        return tagging

    def extend(self, app: object) -> None:
        if not isinstance(app, FastAPI):
            raise TypeError(f"this is no FastAPI: {app!r}")
        app.get("/extended")(extended)
