"""Deployers of the tests' own engine, and what they deploy."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from asgipipe.deployers.records import JSONObject, Workload
from asgipipe.testing import deployed
from tests import dockerd

docker = pytest.importorskip("docker")

from asgipipe_docker import DockerDeployer, DockerDeployerSettings  # noqa: E402  # it needs the extra


@dataclass(frozen=True)
class Workshop:
    """Makes deployers of one engine, and what they deploy."""

    engine: dockerd.Engine

    def settings(self, **values: object) -> DockerDeployerSettings:
        return DockerDeployerSettings.model_validate({**dockerd.settings_for(self.engine), **values})

    def deployer(self, **values: object) -> DockerDeployer:
        return DockerDeployer("docker", self.settings(**values))

    def client(self) -> "docker.DockerClient":
        return docker.DockerClient(base_url=self.engine.url)


def workload(project: Path, settings: JSONObject | None = None, **values: object) -> Workload:
    """Return revision 1 of a new deployment of the suite's project, at any free address."""
    members: dict[str, object] = {
        "deployment_id": str(uuid.uuid4()),
        "name": "deployed",
        "revision": 1,
        "target": deployed.write_project(project),
        "project": str(project),
        "settings": {"settings": {"deployment": settings or {}}},
        "environment": {"LABEL": "one"},
        "scheme": "http",
        "host": "127.0.0.1",
        "port": 0,
        "root": "",
        "ready_path": "/ready",
        "drain": 25.0,
    }
    return Workload(**{**members, **values})  # type: ignore[arg-type]


@contextmanager
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """An engine that holds the layers of an image already."""
    place = dockerd.folder_of_run(tmp_path_factory)
    with dockerd.engine_of_run(tmp_path_factory) as engine:
        workshop = Workshop(engine)
        built = place / "image-is-built"
        with dockerd.locked(place / "image.lock"):
            if not built.exists():
                deployer = workshop.deployer(network="host")
                first = deployer.start(workload(place / "project"), replaces=None, report=lambda _: None)
                deployer.stop(first, grace=0.0)  # and not removed: its layers are what other images are made of
                built.touch()
        yield workshop
