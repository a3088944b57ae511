"""What is known of snapshots, deployers and deployments: rows in the store, beside jobs and runs."""

from asgipipe.deployers.registry.pages import Page
from asgipipe.deployers.registry.registry import Registry

__all__ = ["Page", "Registry"]
