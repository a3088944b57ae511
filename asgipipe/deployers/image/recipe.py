"""What an image serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asgipipe.deployers.records import JSONObject, Workload
from asgipipe.errors import DeploymentError
from asgipipe.settings.stores import MEMORY, is_postgresql

STATE = ".asgipipe"
"""The folder below the project that may be written to."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`asgipipe serve TARGET --name NAME`, from a project, with the content of a settings file.

    `target` is as it is found where the project is the working directory, which it is inside. `port` is what is
    listened on there, `ready_path` the whole path of `/ready`. `environment` is what the container will have; nothing
    of it goes into the image.
    """

    target: str
    name: str
    project: Path
    settings: JSONObject
    scheme: str
    port: int
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, workload: Workload) -> "Recipe":
        """Raises DeploymentError for a workload that cannot be put into an image."""
        return cls(
            target=workload.target,
            name=workload.name,
            project=Path(workload.project),
            settings=workload.settings,
            scheme=workload.scheme,
            port=workload.port or DEFAULT_PORT,
            ready_path=workload.ready_path,
            environment=workload.environment,
        )

    def __post_init__(self) -> None:
        if not self.project.is_dir():
            raise DeploymentError(f"the project is not here: there is no folder {self.project}")
        file = self.project / (self.target.rpartition(":")[0] or self.target)
        if not file.resolve().is_relative_to(self.project.resolve()):
            raise DeploymentError(f"{self.target} is not in {self.project}, and only what is there gets into the image")
        store = self.values.get("store_url")
        if isinstance(store, str) and not _can_be_written(store):
            raise DeploymentError(
                f"store_url {store!r} cannot be written in a container, where only {STATE} is kept: "
                f"leave it out, name a file in {STATE}, or use PostgreSQL"
            )

    @property
    def values(self) -> Mapping[str, object]:
        """The settings of the deployment, as far as the file says them."""
        section = self.settings.get("settings")
        values = section.get("deployment") if isinstance(section, Mapping) else None
        return values if isinstance(values, Mapping) else {}

    @property
    def inner_settings(self) -> JSONObject:
        """The settings as they hold inside: every address is listened on, since only what is published gets there."""
        section = self.settings.get("settings")
        address = {"uvicorn_host": "0.0.0.0", "uvicorn_port": self.port}
        others = section if isinstance(section, Mapping) else {}
        return {**self.settings, "settings": {**others, "deployment": {**self.values, **address}}}

    @property
    def secure(self) -> bool:
        """Whether the service answers over TLS."""
        return self.scheme == "https"


DEFAULT_PORT = 8000


def _can_be_written(store: str) -> bool:
    if store == MEMORY or is_postgresql(store):
        return True
    return not Path(store).is_absolute() and Path(store).parts[:1] == (STATE,)
