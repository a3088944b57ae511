"""CORS for configured origins: Starlette's middleware, which is pure ASGI and so stands in front of any framework."""

from starlette.middleware.cors import CORSMiddleware as StarletteCORSMiddleware

from asgipipe.http.types import ASGIApp
from asgipipe.settings import CORSConfig

EXPOSED = ("x-request-id", "location", "retry-after", "idempotent-replayed")


def cors_middleware(app: ASGIApp, config: CORSConfig) -> ASGIApp:
    """Wrap `app` so that the origins of `config` may read its answers, refusals included."""
    return StarletteCORSMiddleware(
        app,
        allow_origins=config.allow_origins,
        allow_methods=config.allow_methods,
        allow_headers=config.allow_headers,
        allow_credentials=config.allow_credentials,
        expose_headers=EXPOSED,
    )
