"""What the manifests of one revision are made from."""

import math
from dataclasses import dataclass
from pathlib import PurePath

from asgipipe.deployers.image.recipe import DEFAULT_PORT
from asgipipe.deployers.records import Workload
from asgipipe.errors import DeploymentError
from asgipipe.settings.stores import is_postgresql
from asgipipe_kubernetes.names import REVISION, object_name, own_labels, revision_name
from asgipipe_kubernetes.settings import KubernetesDeployerSettings

CLEAN_UP = 10
"""Seconds that a server may take after it was to drain: what still runs is cancelled then, and its hooks run."""

_FIRST_UNPRIVILEGED = 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """A workload, the settings of its deployer, its image and its namespace."""

    workload: Workload
    settings: KubernetesDeployerSettings
    image: str
    namespace: str

    @property
    def name(self) -> str:
        """What the objects of the deployment are called."""
        return object_name(self.workload.name, self.workload.deployment_id)

    @property
    def revision_name(self) -> str:
        return revision_name(self.name, self.workload.revision)

    @property
    def labels(self) -> dict[str, str]:
        return {**self.settings.labels, **own_labels(self.workload)}

    @property
    def revision_labels(self) -> dict[str, str]:
        return {**self.labels, REVISION: str(self.workload.revision)}

    @property
    def container_port(self) -> int:
        """The port that is listened on in a pod, whose user may have none of the privileged ones."""
        port = self.workload.port
        return port if port >= _FIRST_UNPRIVILEGED else DEFAULT_PORT

    @property
    def service_port(self) -> int:
        return self.settings.port or self.workload.port or DEFAULT_PORT

    @property
    def url(self) -> str:
        """Where the service is reached: from outside if that is known, else in the cluster."""
        if self.settings.external_url is not None:
            return f"{self.settings.external_url}{self.workload.root}"
        return f"{self.workload.scheme}://{self.name}.{self.namespace}.svc:{self.service_port}{self.workload.root}"

    @property
    def termination_grace(self) -> int:
        """Seconds from when a pod is told to end until it is killed."""
        return self.settings.pre_stop + math.ceil(self.workload.drain) + CLEAN_UP

    def check(self) -> None:
        """Raise DeploymentError for what no cluster could serve."""
        target = self.workload.target
        if PurePath(target.rpartition(":")[0] or target).is_absolute():
            raise DeploymentError(f"{target} is outside of its project, and an image holds what is in the project")
        if self.settings.most > 1 and not self.settings.separate_stores and not self.has_shared_store:
            raise DeploymentError(
                f"{self.workload.name} has no store that several pods share, so that a job would be known to one of "
                "them alone: set store_url to a PostgreSQL database, replicas to 1, or, if nobody asks for jobs and "
                "recorded runs, separate_stores"
            )

    @property
    def has_shared_store(self) -> bool:
        place = self.workload.environment.get("ASGIPIPE_STORE_URL")
        return self.workload.shared_store if place is None else is_postgresql(place)
