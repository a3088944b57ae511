"""asgipipe with FastAPI: the app runner, and deployments inside FastAPI applications."""

from asgipipe_fastapi.embedding import mount, router
from asgipipe_fastapi.runner import FastAPIAppRunner

__all__ = ["FastAPIAppRunner", "mount", "router"]
