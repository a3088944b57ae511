"""The same pipelines below two mount points of another application."""

from starlette.applications import Starlette
from starlette.routing import Mount

from asgipipe.runners.starlette import mount
from tests.dashboard.served.shop import order

inner = Starlette()
mount(inner, "/wines", order, {"api_url_path": "/api/v1"})
app = Starlette(routes=[Mount("/shop", inner)], lifespan=inner.router.lifespan_context)
