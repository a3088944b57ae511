"""Images of containers: what goes into one that serves a target, and the Dockerfile that makes it.

Nothing here needs an engine. An image is made of a context, a set of files that are the same bytes whenever they are
made of the same things, so that the layers that have not changed are taken from the engine's cache.
"""

from asgipipe.deployers.image.context import Context, image_context
from asgipipe.deployers.image.recipe import Recipe
from asgipipe.deployers.image.settings import ImageSettings

__all__ = ["Context", "ImageSettings", "Recipe", "image_context"]
