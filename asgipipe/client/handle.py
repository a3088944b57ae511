"""A deployment that was just provisioned, ready to be called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from asgipipe.client.sync import ClientOptions, DeploymentClient
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployments import Deployments, Keys
from asgipipe.deployers.records import DeploymentRecord, Snapshot
from asgipipe.errors import DeploymentError
from asgipipe.pipelines.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class DeploymentHandle:
    """A deployment that serves; `auth_key` is the key this user has for it, None for one that is open."""

    record: DeploymentRecord
    snapshot: Snapshot
    auth_key: str | None = field(repr=False)
    pipeline: Pipeline[..., Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def url(self) -> str:
        return url_of(self.record)

    def connect(self, **options: Unpack[ClientOptions]) -> DeploymentClient[Any]:
        """Return a client of it, whose values are what the pipeline returns if it was deployed as an object."""
        given: ClientOptions = {"auth_key": self.auth_key, **options}
        if self.pipeline is None:
            return DeploymentClient(self.url, **given)
        return DeploymentClient(self.url, pipeline=self.pipeline, **given)


def url_of(record: DeploymentRecord) -> str:
    """Return where a deployment serves. Raises DeploymentError when it never did."""
    if record.url is None:
        raise DeploymentError(f"nothing of deployment {record.name!r} was ever started: provision it first")
    return record.url


def provisioned(
    manager: Deployments,
    credentials: Credentials,
    snapshot: Snapshot,
    name: str | None,
    *,
    deployer: str | None,
    environment: Mapping[str, str],
    keys: Keys | None,
    update: bool,
    overtake: bool,
) -> DeploymentHandle:
    """Have a snapshot provisioned; its deployment has the name of the pipeline by default."""
    done = manager.deploy(
        name or snapshot.pipeline,
        snapshot,
        deployer=deployer,
        environment=environment,
        keys=keys,
        update=update,
        overtake=overtake,
    )
    key = done.key or (credentials.get(done.record.id) if done.record.key_digests else None)
    return DeploymentHandle(done.record, snapshot, key)
