"""Quart, under test."""

from collections.abc import Callable, Mapping

from quart import Blueprint, Quart, Response, request

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.testing import Subject


def host() -> Quart:
    app = Quart("host")

    @app.get("/own")
    async def own() -> str:
        return "of the host"

    @app.get("/failing")
    async def failing() -> str:
        raise LookupError("of the host")

    return app


async def shouting() -> Response:
    body: bytes = await request.get_data()
    return Response(body.upper(), 203, {"x-kind": "native"}, content_type="text/plain; charset=utf-8")


async def native() -> str:
    return "native"


async def extended() -> str:
    return "extended"


class QuartSubject(Subject):
    flavor = "quart"

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe_quart import mount

        app = host()
        for prefix, deployment in deployments.items():
            mount(app, prefix, deployment)
        return app

    def include(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        from asgipipe_quart import blueprint

        app = host()
        for prefix, deployment in deployments.items():
            app.register_blueprint(blueprint(deployment), url_prefix=prefix)
        return app

    def request_handler(self) -> Callable[..., object]:
        return shouting

    def native_endpoint(self, path: str) -> object:
        blueprint = Blueprint(path.strip("/").replace("-", "_"), __name__)
        blueprint.add_url_rule(path, view_func=native)
        return blueprint

    def native_middleware(self) -> object:
        return tagging

    def extend(self, app: object) -> None:
        if not isinstance(app, Quart):
            raise TypeError(f"this is no Quart: {app!r}")
        app.add_url_rule("/extended", view_func=extended)


async def tagging(response: Response) -> Response:
    response.headers.add("x-passed", "native")
    return response
