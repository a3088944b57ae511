import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgipipe.deployers.deployer import BaseDeployer
from asgipipe.deployers.local import LocalDeployer, LocalDeployerSettings
from asgipipe.deployers.records import JSONObject, Workload
from asgipipe.testing.deployers import DeployerConformance, DeployerSubject


class LocalSubject(DeployerSubject):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    def deployer(self) -> BaseDeployer:
        return LocalDeployer("local", LocalDeployerSettings(folder=self.folder))

    def workload(self, target: str, project: Path, settings: JSONObject) -> Workload:
        return Workload(
            deployment_id=f"deployment-{next(self._numbers)}",
            name="deployed",
            revision=1,
            target=target,
            project=str(project),
            settings={"settings": {"deployment": settings}},
            environment={},
            scheme="http",
            host="127.0.0.1",
            port=0,
            root="",
            ready_path="/ready",
            drain=25.0,
        )

    def leftovers(self, deployment_id: str) -> list[Path]:
        return [path for path in self.folder.glob("**/*") if deployment_id in str(path)]

    def readable(self, deployment_id: str) -> Iterator[tuple[str, bytes]]:
        for path in (self.folder / deployment_id).glob("**/*"):
            if path.is_file():
                yield str(path), path.read_bytes()


class TestLocal(DeployerConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> DeployerSubject:
        return LocalSubject(tmp_path / "deployments")
