"""Making the deployment that is embedded in a host."""

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.pipeline import SettingsLike
from asgipipe.runners.deployment import Deployment


def embedded(
    target: object, settings: SettingsLike | None = None, *, name: str | None = None, flavor: str
) -> Deployment:
    """Return `target` when it is a Deployment already, else one of it.

    `flavor` is the host's own app runner, so that custom endpoints get the types of the framework around them; settings
    may name another one. Raises DefinitionError for settings or a name beside a Deployment, which has its own.
    """
    if not isinstance(target, Deployment):
        return Deployment(target, settings, name=name, flavor=flavor)
    if settings is not None or name is not None:
        raise DefinitionError(f"the deployment {target.name} has its settings and name already; leave them out here")
    return target
