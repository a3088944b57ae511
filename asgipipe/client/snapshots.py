"""What Python programs do with snapshots."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from asgipipe.client.handle import DeploymentHandle, provisioned
from asgipipe.client.listing import items
from asgipipe.client.settings import texts_of
from asgipipe.client.targets import target_of
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployments import Deployments, Keys
from asgipipe.deployers.records import Snapshot
from asgipipe.deployers.registry import Registry
from asgipipe.deployers.snapshots import MadeSnapshot, make_snapshot
from asgipipe.errors import DefinitionError
from asgipipe.pipelines.pipeline import Pipeline, SettingsLike

Target = str | Pipeline[..., Any]
"""A TARGET of `asgipipe serve`, or a pipeline that a module of this program has under a name."""

_loading: ContextVar[bool] = ContextVar("_loading", default=False)


class Snapshots:
    """Pipelines as they were, to be deployed."""

    def __init__(self, registry: Registry, manager: Deployments, credentials: Credentials, project: Path) -> None:
        self._registry = registry
        self._manager = manager
        self._credentials = credentials
        self._project = project

    def list(self, *, tag: str | None = None, pipeline: str | None = None) -> Iterator[Snapshot]:
        """Yield the newest first."""
        return items(lambda cursor: self._registry.snapshots(tag=tag, pipeline=pipeline, cursor=cursor))

    def get(self, name: str) -> Snapshot:
        """Return the one of this name or id."""
        return self._registry.snapshot(name)

    def create(
        self,
        target: Target,
        *,
        name: str | None = None,
        settings: SettingsLike | None = None,
        config_file: str | os.PathLike[str] | None = None,
        tags: Sequence[str] = (),
        description: str = "",
    ) -> Snapshot:
        """Make a snapshot of a pipeline and its settings; without a name it has the pipeline's and a number.

        Secret settings are not kept in it: give them again when it is deployed.
        """
        made = made_snapshot(
            target,
            self._project,
            name=name,
            settings=settings,
            config_file=config_file,
            tags=tags,
            description=description,
        )
        return self._registry.add_snapshot(made.snapshot, numbered=name is None)

    def delete(self, name: str) -> None:
        """Forget a snapshot; refused for one that a deployment is made from."""
        self._registry.delete_snapshot(name)

    def deploy(
        self,
        name: str,
        *,
        deployment_name: str | None = None,
        deployer: str | None = None,
        environment: Mapping[str, str] | None = None,
        open: bool = False,
        update: bool = False,
        overtake: bool = False,
    ) -> DeploymentHandle:
        """Have a snapshot provisioned, as `Client.deploy` does with a pipeline."""
        return provisioned(
            self._manager,
            self._credentials,
            self.get(name),
            deployment_name,
            deployer=deployer,
            environment=environment or {},
            keys=Keys(open=True) if open else None,
            update=update,
            overtake=overtake,
        )


def made_snapshot(
    target: Target,
    project: Path,
    *,
    name: str | None = None,
    settings: SettingsLike | None = None,
    config_file: str | os.PathLike[str] | None = None,
    tags: Sequence[str] = (),
    description: str = "",
) -> MadeSnapshot:
    """Make a snapshot that is kept nowhere yet."""
    found = target_of(target) if isinstance(target, Pipeline) else target
    with _importing(found), chdir(project):
        return make_snapshot(
            found,
            name=name,
            project=project,
            config_file=config_file,
            values=texts_of(settings),
            tags=tags,
            description=description,
        )


@contextmanager
def _importing(target: str) -> Iterator[None]:
    """Import a target, which must not deploy itself meanwhile: it would do so whenever it is served."""
    if _loading.get():
        raise DefinitionError(
            f"{target} is deployed by the very module that defines it, as often as that is imported: put the call "
            "below 'if __name__ == \"__main__\":'"
        )
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)
