"""The Starlette app runner."""

from asgipipe.runners.starlette.runner import StarletteAppRunner

__all__ = ["StarletteAppRunner"]
