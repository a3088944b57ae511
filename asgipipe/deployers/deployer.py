"""The contract of deployers: they start, find, ask and end instances of deployments; the rules are not theirs.

An operation may be cut at any moment, by the end of the command that called it, and is then repeated: so each method
finds what was done already. What an instance is called is derived from its deployment's id and its revision, and
`instances` finds all of them, whatever the registry knows.

    start ─► inspect: PENDING … RUNNING ─► retire(the one before it)
                 │
                 └── ERROR, or too late ─► abandon
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from asgipipe.deployers.records import Condition, Instance, JSONObject, Status, Workload

_LAST_REQUESTS = 10.0
"""Seconds in which an instance that is abandoned may answer what it has accepted."""

Report = Callable[[str], None]
"""Says in a few words what is being done, for somebody who waits."""


class DeployerSettings(BaseModel):
    """What a flavor is registered with; every field is documented with its unit and default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseDeployer(ABC):
    """A deployer called `name`. Its methods are called on any thread, and block; all of them are bounded in time.

    They raise DeploymentError, with a reason and a way out.
    """

    settings_class: ClassVar[type[DeployerSettings]] = DeployerSettings

    def __init__(self, name: str, settings: DeployerSettings) -> None:
        self.name = name
        self.settings = settings

    @abstractmethod
    def check(self) -> None:
        """Raise when nothing could be provisioned: the engine is not there, or does not let us in."""

    @abstractmethod
    def start(self, workload: Workload, *, replaces: Instance | None, report: Report) -> Instance:
        """Start an instance and return at once, or as soon as what runs is known by name.

        `replaces` serves on. Where both can have one address, the new one gets connections only when it has started up.
        An instance of the same deployment and revision that is there already is returned.
        """

    @abstractmethod
    def inspect(self, instance: Instance) -> Condition:
        """Say how an instance is; that it cannot be asked is UNKNOWN, not an error."""

    @abstractmethod
    def stop(self, instance: Instance, *, grace: float) -> None:
        """End an instance and all it started, and let it finish what it has begun for `grace` seconds.

        Its log can still be read. One that has ended, or never was, is no error.
        """

    @abstractmethod
    def discard(self, instance: Instance) -> None:
        """Remove what is left of an instance that has ended, its log too; called for those two revisions back."""

    @abstractmethod
    def logs(self, instance: Instance, *, tail: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of its log: the last `tail`, or all that is kept; with `follow`, those to come as well."""

    @abstractmethod
    def instances(self, deployment_id: str) -> list[Instance]:
        """Return every instance of a deployment that exists, running or ended, oldest revision first."""

    @abstractmethod
    def remove(self, deployment_id: str) -> None:
        """Remove what is left of a deployment of which nothing runs: files, logs, secrets, images of its own."""

    def retire(self, instance: Instance, *, by: Instance, grace: float) -> None:
        """End `instance`, whose place `by` has taken."""
        self.stop(instance, grace=grace)

    def abandon(self, instance: Instance, *, back_to: Instance | None) -> None:
        """End an instance that was not to take the place of `back_to`, which serves on."""
        if back_to is not None and self.inspect(instance).status is Status.RUNNING:
            # It has started up, shares the address of what serves on, and may have accepted requests.
            self.retire(instance, by=back_to, grace=_LAST_REQUESTS)
        else:
            self.stop(instance, grace=0.0)

    def reachable(self, instance: Instance) -> str | None:
        """Return the URL at which this machine can ask the service whether it is ready; None when it cannot."""
        return instance.url

    def commands(self, instance: Instance) -> JSONObject:
        """Return commands of the platform's own for this instance, by what they are for: such as `docker logs …`."""
        return {}
