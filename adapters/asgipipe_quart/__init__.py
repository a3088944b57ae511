"""asgipipe on Quart: the app runner, and deployments inside a Quart application."""

from asgipipe_quart.embedding import blueprint, mount
from asgipipe_quart.runner import QuartAppRunner

__all__ = ["QuartAppRunner", "blueprint", "mount"]
