"""The conformance suite of deployers, on a real control plane with a node that runs pods as processes."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from asgipipe.deployers.deployer import BaseDeployer
from asgipipe.deployers.records import JSONObject, Workload
from asgipipe.testing.deployers import Capability, DeployerConformance, DeployerSubject
from tests.deployers.kubernetes import samples

pytest.importorskip("lightkube")

from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Secret, Service

from asgipipe_kubernetes import KubernetesDeployer
from tests.deployers.kubernetes import control_plane, node
from tests.deployers.kubernetes.api import NAMESPACE
from tests.deployers.kubernetes.node import Kubelet, Proxy

pytestmark = pytest.mark.timeout(180)


class KubernetesSubject(DeployerSubject):
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.PROCESSES_HERE: "the environment of a process stands in none of its lists"
    }

    def __init__(self, kubelet: Kubelet, kubeconfig: Path, project: Path) -> None:
        self.kubelet, self.kubeconfig, self.project = kubelet, kubeconfig, project
        self.name = f"d{uuid.uuid4().hex[:12]}"
        self.proxy = Proxy(kubelet, self.name)

    def deployer(self) -> BaseDeployer:
        settings = samples.settings(
            kubeconfig=self.kubeconfig,
            project_folder=str(self.project),
            external_url=f"http://127.0.0.1:{self.proxy.port}",
            pre_stop=1,
        )
        return KubernetesDeployer("cluster", settings)

    def workload(self, target: str, project: Path, settings: JSONObject) -> Workload:
        return samples.workload(
            settings,
            deployment_id=f"id-{self.name}",
            name=self.name,
            target=target,
            project=str(project),
            environment={},
            port=0,
        )

    def leftovers(self, deployment_id: str) -> list[str]:
        labels = {"asgipipe.dev/deployment": deployment_id}
        kinds = (Deployment, Service, Secret, ConfigMap)
        return [str(each) for kind in kinds for each in self.kubelet.client.list(kind, labels=dict(labels))]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kubelet, Path]]:
    reason = control_plane.missing("kube-controller-manager")
    if reason is not None:
        pytest.skip(reason)
    with (
        control_plane.running(controllers=True) as found,
        node.running(found.kubeconfig, NAMESPACE, tmp_path_factory.mktemp("node")) as kubelet,
    ):
        yield kubelet, found.kubeconfig


class TestKubernetes(DeployerConformance):
    @pytest.fixture
    def subject(self, cluster: tuple[Kubelet, Path], tmp_path: Path) -> Iterator[DeployerSubject]:
        subject = KubernetesSubject(*cluster, tmp_path / "project")
        yield subject
        subject.proxy.close()
