"""Snapshots, deployments and deployers, for Python programs: what the command line does, with the same words."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asgipipe.client.deployers import Deployers
from asgipipe.client.deployments import RegisteredDeployments
from asgipipe.client.handle import DeploymentHandle, provisioned
from asgipipe.client.snapshots import Snapshots, Target, made_snapshot
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployer import Report
from asgipipe.deployers.deployments import PATIENCE, Deployments, Keys, no_report
from asgipipe.deployers.records import Snapshot
from asgipipe.deployers.registry import Registry
from asgipipe.errors import DefinitionError
from asgipipe.pipelines.pipeline import Pipeline, SettingsLike
from asgipipe.stores.registry import DEFAULT, database

STORE = "ASGIPIPE_STORE_URL"


class Client:
    """What is known of snapshots, deployments and deployers in a store, and what may be done to them.

    The store is the one at `store_url`, else that of ASGIPIPE_STORE_URL, else `.asgipipe/store.db` in the folder
    `project`, which is also where targets and the paths of settings start; by default the working directory. `patience`
    is the seconds that what is started may take until it is ready; `report` is told what is being waited for.

    Calls block, on any thread, and raise DeploymentError and StoreError. Use it as a context manager, or close it.
    """

    def __init__(
        self,
        store_url: str | None = None,
        *,
        project: str | os.PathLike[str] | None = None,
        patience: float = PATIENCE,
        report: Report = no_report,
    ) -> None:
        self.project = Path(project or ".").absolute()
        url = store_url or os.environ.get(STORE) or str(self.project / DEFAULT)
        self._registry = Registry(database(url))
        self._credentials = Credentials()
        self._manager = Deployments(self._registry, self._credentials, patience=patience, report=report)
        self.snapshots = Snapshots(self._registry, self._manager, self._credentials, self.project)
        self.deployments = RegisteredDeployments(self._registry, self._manager, self._credentials)
        self.deployers = Deployers(self._registry, self._manager)

    def __repr__(self) -> str:
        return f"<client of {self._registry.place}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._registry.close()

    def deploy(
        self,
        target: Target,
        *,
        deployment_name: str | None = None,
        deployer: str | None = None,
        settings: SettingsLike | None = None,
        config_file: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        open: bool = False,
        update: bool = False,
        overtake: bool = False,
    ) -> DeploymentHandle:
        """Make a snapshot of a pipeline, have it provisioned, and return when it is ready.

        `settings` are laid over the environment, that over `config_file`. A deployment that exists is replaced with
        `update`: what serves goes on until the new one is ready, and when that fails, goes on. `overtake` confirms a
        change of somebody else's. A new deployment gets a key, unless the settings give one or it is to be `open`.
        """
        made = made_snapshot(target, self.project, settings=settings, config_file=config_file, tags=tags)
        if open and made.keys:
            raise DefinitionError("it is to be open, and the settings give a key: a service with a key needs it")
        name = deployment_name or made.snapshot.pipeline
        self._manager.check_deploy(name, deployer=deployer, update=update, overtake=overtake)
        handle = provisioned(
            self._manager,
            self._credentials,
            self._registry.add_snapshot(made.snapshot, numbered=True),
            name,
            deployer=deployer,
            environment={**made.secrets, **(environment or {})},
            keys=Keys(made.keys, open=open) if made.keys or open else None,
            update=update,
            overtake=overtake,
        )
        return replace(handle, pipeline=target) if isinstance(target, Pipeline) else handle


# What the methods of Pipeline call


def deploy(
    pipeline: Pipeline[..., Any], *, store_url: str | None, timeout: float | None, **options: Any
) -> DeploymentHandle:
    """Deploy a pipeline, as `Client.deploy` does."""
    with Client(store_url, patience=timeout or PATIENCE) as client:
        return client.deploy(pipeline, **options)


def create_snapshot(pipeline: Pipeline[..., Any], *, store_url: str | None, **options: Any) -> Snapshot:
    """Make a snapshot of a pipeline, as `Client.snapshots.create` does."""
    with Client(store_url) as client:
        return client.snapshots.create(pipeline, **options)
