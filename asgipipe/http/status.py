"""What GET /status shows: the configuration in force, by an allow-list."""

from asgipipe.service.deployment import DeploymentResponse
from asgipipe.settings import DeploymentSettings

# Everything but the free dictionaries of keyword arguments, which may hold secrets nobody can tell from other values,
# and what differs between servers of the same deployment.
SHOWN = {name for name in DeploymentSettings.model_fields if not name.endswith("_kwargs")}
_SPEC_KWARGS = {"init_kwargs", "extra_kwargs", "extension_kwargs"}


def status_document(settings: DeploymentSettings, deployment: DeploymentResponse) -> dict[str, object]:
    """Return the body of GET /status; secrets are masked, objects appear as their import strings."""
    every_spec = {"__all__": _SPEC_KWARGS}
    shown = settings.model_dump(
        mode="json",
        include=SHOWN,
        exclude={"custom_endpoints": every_spec, "custom_middlewares": every_spec, "app_extensions": every_spec},
    )
    return {"deployment": deployment.model_dump(mode="json"), "settings": shown}
