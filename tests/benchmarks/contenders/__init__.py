"""The applications that are measured.

Each module holds `app`, an ASGI application that answers `POST /invoke`. Nothing is imported here, so that a server
process pays for its own contender only.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.benchmarks.asgi import ASGIApp

REFERENCE: Final = "reference"

_PIPELINES: Final = "tests.benchmarks.pipelines:"
# What `asgipipe serve` chooses too.
_UVICORN: Final = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")


@dataclass(frozen=True, slots=True)
class Contender:
    """`name` is also the name of its module; `requires` the package without which it is skipped.

    `target` is what `asgipipe serve` is given; without one, uvicorn serves the application.
    """

    name: str
    description: str
    requires: str = "pydantic"
    target: str | None = None
    computes: bool = True

    def command(self, port: int) -> list[str]:
        """Return the arguments for Python that serve it on `port`: one process, uvloop, httptools, no access log."""
        own = ["-m", "asgipipe", "serve", self.target] if self.target else ["-m", "uvicorn", *_UVICORN, self._source]
        return [*own, "--port", str(port), "--log-level", "warning"]

    @property
    def _source(self) -> str:
        return f"{__name__}.{self.name}:app"

    @property
    def available(self) -> bool:
        return importlib.util.find_spec(self.requires) is not None

    def load(self) -> "ASGIApp":
        """Import the application."""
        app: ASGIApp = importlib.import_module(f"{__name__}.{self.name}").app
        return app


CONTENDERS: Final = {
    contender.name: contender
    for contender in (
        Contender("constant", "answers a constant: the floor of HTTP", computes=False),
        Contender(REFERENCE, "bare ASGI function, pydantic models, by hand"),
        Contender("asgipipe_async", "async pipeline, everything on", "asgipipe", _PIPELINES + "weather_async"),
        Contender(
            "asgipipe_nonblocking",
            "sync pipeline, `blocking=False`, everything on",
            "asgipipe",
            _PIPELINES + "weather_nonblocking",
        ),
        Contender("asgipipe_sync", "sync pipeline in threads, everything on", "asgipipe", _PIPELINES + "weather_sync"),
        Contender("starlette_hand", "Starlette route, the same models, by hand", "starlette"),
        Contender("fastapi_async", "FastAPI, `async def`, the same models", "fastapi"),
        Contender("fastapi_sync", "FastAPI, `def`, the same models", "fastapi"),
    )
}
