"""What Python programs do with deployments."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Unpack, overload

from asgipipe.client.handle import url_of
from asgipipe.client.listing import items
from asgipipe.client.models import JSONObject
from asgipipe.client.sync import ClientOptions, DeploymentClient
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployments import Deployed, Deployments
from asgipipe.deployers.records import DeploymentRecord, HistoryEntry
from asgipipe.deployers.registry import Registry
from asgipipe.deployers.state import State
from asgipipe.errors import DeploymentError
from asgipipe.pipelines.pipeline import Pipeline

T = TypeVar("T")


class RegisteredDeployments:
    """Named, running (or once running) snapshots."""

    def __init__(self, registry: Registry, manager: Deployments, credentials: Credentials) -> None:
        self._registry = registry
        self._manager = manager
        self._credentials = credentials

    def list(self, *, deployer: str | None = None, owner: str | None = None) -> Iterator[DeploymentRecord]:
        """Yield them by name; how they are, `state` finds out."""
        return items(lambda cursor: self._registry.deployments(deployer=deployer, owner=owner, cursor=cursor))

    def get(self, name: str) -> DeploymentRecord:
        """Return the one of this name or id."""
        return self._registry.deployment(name)

    def state(self, name: str) -> State:
        """Ask how a deployment is now: its deployer, and then the service itself."""
        return self._manager.state(self.get(name))

    def history(self, name: str) -> Iterator[HistoryEntry]:
        """Yield what was done to a deployment, newest first."""
        found = self.get(name)
        return items(lambda cursor: self._registry.history(found.id, cursor=cursor))

    def logs(self, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines of its log: the last `tail`, or all that is kept; with `follow`, those to come as well."""
        return self._manager.logs(self.get(name), tail=tail, follow=follow)

    def update(
        self,
        name: str,
        snapshot: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        overtake: bool = False,
    ) -> DeploymentRecord:
        """Have a deployment serve another snapshot, or its own started anew, and return when it does."""
        found = self.get(name)
        chosen = self._registry.snapshot(snapshot or found.snapshot_id)
        done = self._manager.deploy(found.name, chosen, environment=environment, update=True, overtake=overtake)
        return done.record

    def provision(self, name: str, *, overtake: bool = False) -> DeploymentRecord:
        """Start what the deployment served last, and return when it serves."""
        return self._manager.provision(name, overtake=overtake)

    def deprovision(self, name: str, *, overtake: bool = False) -> DeploymentRecord:
        """End what serves, when it has finished what it has begun; the deployment stays known."""
        return self._manager.deprovision(name, overtake=overtake)

    def delete(self, name: str, *, overtake: bool = False, force: bool = False) -> str | None:
        """End what serves, and forget the deployment.

        With `force` it is forgotten also when what serves cannot be ended; what may be left then is returned.
        """
        return self._manager.delete(name, overtake=overtake, force=force)

    def rotate_key(self, name: str, *, revoke: bool = False, overtake: bool = False) -> Deployed:
        """Give a deployment a new key; the one before it is valid until it is revoked."""
        return self._manager.rotate_key(name, revoke=revoke, overtake=overtake)

    def key(self, name: str) -> str | None:
        """Return the key that this user has for a deployment; None for one that is open.

        Raises DeploymentError when it has keys, none of which is known here.
        """
        record = self.get(name)
        found = self._credentials.get(record.id)
        if found is None and record.key_digests:
            raise DeploymentError(
                f"the key of deployment {record.name!r} is not kept for this user, in {self._credentials.place}: give "
                "it as auth_key, or make a new one with rotate_key"
            )
        return found if record.key_digests else None

    @overload
    def connect(self, name: str, **options: Unpack[ClientOptions]) -> DeploymentClient[JSONObject]: ...
    @overload
    def connect(
        self, name: str, *, pipeline: Pipeline[..., Any], **options: Unpack[ClientOptions]
    ) -> DeploymentClient[Any]: ...
    @overload
    def connect(self, name: str, *, output_type: type[T], **options: Unpack[ClientOptions]) -> DeploymentClient[T]: ...
    def connect(
        self,
        name: str,
        *,
        pipeline: Pipeline[..., Any] | None = None,
        output_type: type[Any] | None = None,
        **options: Unpack[ClientOptions],
    ) -> DeploymentClient[Any]:
        """Return a client of the service, with the key that is kept for this user unless `auth_key` is given."""
        given: ClientOptions = {"auth_key": self.key(name), **options} if "auth_key" not in options else options
        url = url_of(self.get(name))
        if pipeline is not None:
            return DeploymentClient(url, pipeline=pipeline, **given)
        return DeploymentClient(url, **given) if output_type is None else _typed(url, output_type, given)


def _typed(url: str, output_type: type[T], options: ClientOptions) -> DeploymentClient[T]:
    return DeploymentClient(url, output_type=output_type, **options)
