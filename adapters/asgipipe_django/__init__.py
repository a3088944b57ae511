"""Deployments with Django: the app runner, and embedding in a Django project."""

from asgipipe_django.embedding import mount, urls
from asgipipe_django.runner import DjangoAppRunner

__all__ = ["DjangoAppRunner", "mount", "urls"]
