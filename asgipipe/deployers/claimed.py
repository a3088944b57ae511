"""A deployment that this command works on, and nobody else meanwhile."""

from collections.abc import Mapping
from dataclasses import replace
from time import time
from types import TracebackType
from typing import Self

from asgipipe.deployers import identity
from asgipipe.deployers.records import DeploymentRecord
from asgipipe.deployers.registry import Registry


class ClaimedDeployment:
    """Claims a deployment of the registry for an operation, inside a `with`; `record` is as it was written last.

    Raises DeploymentError when another command that lives works on it.
    """

    def __init__(self, registry: Registry, record: DeploymentRecord, operation: str) -> None:
        self._registry = registry
        self._claim = identity.claim(operation)
        self._deleted = False
        self.record = record

    def __enter__(self) -> Self:
        self.record = self._registry.claim(self.record.id, self._claim, identity.is_dead)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._deleted:
            self._registry.release(self.record.id, self._claim)

    def save(self, record: DeploymentRecord) -> DeploymentRecord:
        """Write the deployment. Raises DeploymentError when the claim was lost to another command."""
        self.record = self._registry.save(replace(record, updated_at=time()), self._claim)
        return self.record

    def delete(self) -> None:
        self._registry.delete_deployment(self.record.id, self._claim)
        self._deleted = True

    def note(self, action: str, detail: Mapping[str, object]) -> None:
        """Write a line of the deployment's history."""
        self._registry.append(self.record.id, action, detail, self._claim.actor)
