"""What Python programs do with deployers."""

from collections.abc import Mapping, Sequence
from time import time

from asgipipe.deployers import identity
from asgipipe.deployers.deployments import Deployments
from asgipipe.deployers.flavors import flavors, make_deployer, settings_of
from asgipipe.deployers.records import DeployerRecord
from asgipipe.deployers.registry import Registry


class Deployers:
    """Who provisions deployments, and with which settings; `local` is always there."""

    def __init__(self, registry: Registry, manager: Deployments) -> None:
        self._registry = registry
        self._manager = manager

    def flavors(self) -> Sequence[str]:
        """Return the names of the flavors that are installed."""
        return sorted(flavors())

    def list(self) -> Sequence[DeployerRecord]:
        return self._registry.deployers()

    def get(self, name: str) -> DeployerRecord:
        return self._registry.deployer(name)

    def register(
        self, name: str, flavor: str, settings: Mapping[str, object] | None = None, *, check: bool = True
    ) -> DeployerRecord:
        """Register a flavor and its settings under a name, once it works; `check=False` does not try."""
        record = self._record(name, flavor, settings or {})
        if check:
            make_deployer(record).check()
        self._registry.add_deployer(record)
        return record

    def update(self, name: str, settings: Mapping[str, object]) -> DeployerRecord:
        """Change settings of a deployer; deployments take them when they are provisioned next."""
        known = self.get(name)
        record = self._record(known.name, known.flavor, {**known.settings, **settings})
        self._registry.update_deployer(record)
        return record

    def check(self, name: str) -> None:
        """Raise when nothing could be provisioned."""
        make_deployer(self.get(name)).check()

    def delete(self, name: str, *, force: bool = False) -> Sequence[str]:
        """Forget a deployer; with `force` also one that has deployments, whose names are returned."""
        return self._manager.delete_deployer(name, force=force)

    @staticmethod
    def _record(name: str, flavor: str, settings: Mapping[str, object]) -> DeployerRecord:
        kept = settings_of(flavor, settings).model_dump(mode="json", exclude_unset=True)
        return DeployerRecord(name, flavor, kept, identity.actor(), time())
