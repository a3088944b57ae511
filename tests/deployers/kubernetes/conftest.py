"""Clusters for the tests of this folder: the small API server of `api`, and a real one where there is one."""

import itertools
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from asgipipe.deployers.records import Instance, Workload
from tests.deployers.kubernetes import samples

pytest.importorskip("lightkube")

from lightkube import Client, KubeConfig  # they need the extra
from lightkube.core.resource import NamespacedResource
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod
from lightkube.types import PatchType

from asgipipe_kubernetes import KubernetesDeployer
from asgipipe_kubernetes.objects import name_of
from tests.deployers.kubernetes import control_plane
from tests.deployers.kubernetes.api import State, serving, write_kubeconfig
from tests.deployers.kubernetes.control_plane import ControlPlane


@dataclass
class Cluster:
    """A cluster without controllers and nodes, whose part the test plays through the API.

    `state` is what the small server keeps; None for a real one.
    """

    kubeconfig: Path
    state: State | None
    version: tuple[int, int]
    name: str = field(default_factory=lambda: f"d{uuid.uuid4().hex[:12]}")
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def deployer(self, **values: object) -> KubernetesDeployer:
        return KubernetesDeployer("cluster", samples.settings(**{"kubeconfig": self.kubeconfig, **values}))

    def workload(self, **values: object) -> Workload:
        return samples.workload(**{"name": self.name, "deployment_id": f"id-{self.name}", **values})  # type: ignore[arg-type]

    def client(self) -> Client:
        return Client(config=KubeConfig.from_file(self.kubeconfig), field_manager="controllers")

    def start(self, deployer: KubernetesDeployer, workload: Workload, replaces: Instance | None = None) -> Instance:
        return deployer.start(workload, replaces=replaces, report=lambda _: None)

    def deployment(self) -> Deployment:
        with self.client() as client:
            return client.get(Deployment, self.name)

    def names(self, kind: type[NamespacedResource]) -> list[str]:
        with self.client() as client:
            found: Iterable[object] = client.list(kind, labels={"asgipipe.dev/deployment": f"id-{self.name}"})
            return sorted(name_of(each) for each in found)

    # What controllers and kubelets do

    def report(self, *, complete: bool = True, seen: bool = True, reason: str | None = None, **counts: int) -> None:
        """Have the controller of Deployments say how the rollout of what was applied is."""
        metadata = self.deployment().metadata
        assert metadata is not None
        generation = metadata.generation or 1
        finished = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
        progressing = reason or ("NewReplicaSetAvailable" if complete else "ReplicaSetUpdated")
        condition = {
            "type": "Progressing",
            "status": "False" if progressing == "ProgressDeadlineExceeded" else "True",
            "reason": progressing,
            "message": "",
        }
        status = {
            **({**finished, **counts} if complete else counts),
            "observedGeneration": generation if seen else generation - 1,
            "conditions": [condition],
        }
        self._set_status(Deployment, self.name, status)

    def add_pod(self, workload: Workload, *, ready: bool = True, **status: object) -> str:
        """Have a pod of a revision be made, and its kubelet say how it is."""
        name = f"{self.name}-{workload.revision}-{next(self._numbers)}"
        labels = {
            "asgipipe.dev/deployment": workload.deployment_id,
            "asgipipe.dev/revision": str(workload.revision),
        }
        pod = Pod(
            metadata=ObjectMeta(name=name, labels=labels),
            spec=PodSpec(containers=[Container(name="service", image="weather:3")]),
        )
        with self.client() as client:
            client.create(pod)
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        self._set_status(Pod, name, {"conditions": conditions, **status})
        return name

    def delete_pods(self) -> None:
        with self.client() as client:
            for name in self.names(Pod):
                client.delete(Pod, name, grace_period=0)

    def _set_status(self, kind: "type[Deployment | Pod]", name: str, status: dict[str, object]) -> None:
        with self.client() as client:
            client.patch(kind.Status, name, {"status": status}, patch_type=PatchType.MERGE)


def waiting(reason: str, message: str = "", **status: object) -> dict[str, object]:
    """Return the status of a container that waits, for a pod's."""
    return container({"waiting": {"reason": reason, "message": message}}, **status)


def container(state: dict[str, object], **status: object) -> dict[str, object]:
    """Return what a pod's status says of its container."""
    defaults = {"name": "service", "image": "weather:3", "imageID": "", "ready": False, "restartCount": 0}
    return {"phase": "Pending", "containerStatuses": [{**defaults, "state": state, **status}]}


def terminated(code: int, message: str = "", reason: str = "Error") -> dict[str, object]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


@pytest.fixture(scope="session")
def real() -> Iterator[ControlPlane]:
    """A real API server, without controllers."""
    reason = control_plane.missing()
    if reason is not None:
        pytest.skip(reason)
    with control_plane.running() as found:
        yield found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """The small API server."""
    state = State()
    with serving(state) as url:
        yield Cluster(write_kubeconfig(tmp_path / "kubeconfig", url), state, version=(1, 99))


@pytest.fixture(params=["small", "real"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Each of the two."""
    given: Cluster | ControlPlane = request.getfixturevalue(request.param)
    found = Cluster(given.kubeconfig, None, given.version) if isinstance(given, ControlPlane) else given
    yield found
    with found.client() as client:
        for name in found.names(Pod):
            client.delete(Pod, name, grace_period=0)
    for deployer in [found.deployer()] if found.state is None else []:
        deployer.remove(f"id-{found.name}")
