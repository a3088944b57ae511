"""The Starlette app runner, and deployments inside Starlette applications."""

from asgipipe.runners.starlette.embedding import mount, router
from asgipipe.runners.starlette.runner import StarletteAppRunner

__all__ = ["StarletteAppRunner", "mount", "router"]
