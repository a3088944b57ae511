"""The deployer at work on a small API server and on a real one, whose controllers and nodes the tests play."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from asgipipe.deployers.records import Condition, Instance, Status, Workload
from asgipipe.errors import DeploymentError
from tests.deployers.kubernetes.conftest import Cluster, container, terminated, waiting
from tests.deployers.kubernetes.samples import POSTGRESQL, write

pytest.importorskip("lightkube")

from lightkube import Client
from lightkube.models.core_v1 import ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import ConfigMap, Secret, Service
from lightkube.resources.policy_v1 import PodDisruptionBudget
from lightkube.types import PatchType

from asgipipe_kubernetes import objects
from asgipipe_kubernetes.manifests import Manifest


def started(cluster: Cluster, **settings: object) -> tuple[Workload, Instance]:
    workload = cluster.workload()
    return workload, cluster.start(cluster.deployer(**settings), workload)


def inspected(cluster: Cluster, instance: Instance) -> Condition:
    return cluster.deployer().inspect(instance)


def ports(client: Client, name: str) -> list[int]:
    spec = client.get(Service, name).spec
    return [port.port for port in (spec.ports if spec is not None else None) or []]


# Starting


def test_the_account_has_the_rights_it_needs(cluster: Cluster) -> None:
    """The check of a deployer whose account may do all that is needed raises nothing."""
    cluster.deployer().check()


def test_a_start_applies_all_objects(cluster: Cluster) -> None:
    """The record, the environment, the settings, the Service and the Deployment are there, and belong together."""
    workload, instance = started(cluster)
    assert cluster.names(Secret) == [f"{cluster.name}-r1", f"{cluster.name}-r1-record"]
    assert cluster.names(ConfigMap) == [f"{cluster.name}-r1"]
    assert cluster.names(Service) == cluster.names(Deployment) == [cluster.name]
    with cluster.client() as client:
        data = client.get(Secret, f"{cluster.name}-r1").data or {}
    assert {name: base64.b64decode(value).decode() for name, value in data.items()} == workload.environment
    assert instance.url == f"http://{cluster.name}.services.svc:8000"
    assert cluster.deployer().instances(workload.deployment_id) == [instance]


def test_a_start_that_is_repeated_changes_nothing(cluster: Cluster) -> None:
    """Started again, by another command, a revision is the same instance, and its Deployment is as it was."""
    workload, instance = started(cluster)
    before = cluster.deployment()
    assert cluster.start(cluster.deployer(), workload) == instance
    assert cluster.deployment() == before


def test_scaling_leaves_the_pods_as_they_are(cluster: Cluster) -> None:
    """Another number of replicas changes the Deployment, and not the template of its pods."""
    values = {"separate_stores": True, "disruption_budget": False}
    workload, first = started(cluster, **values)
    before = cluster.deployment().spec
    cluster.start(cluster.deployer(replicas=3, **values), replace(workload, revision=2), first)
    after = cluster.deployment().spec
    assert (before.replicas, after.replicas) == (1, 3)
    assert before.selector == after.selector


def test_an_object_of_somebody_else_is_left_alone(cluster: Cluster) -> None:
    """A Service of that name which is not of this deployment is refused, and stays as it is."""
    theirs = Service(metadata=ObjectMeta(name=cluster.name), spec=ServiceSpec(ports=[ServicePort(port=81)]))
    with cluster.client() as client:
        client.create(theirs)
    with pytest.raises(DeploymentError, match=f"there is a Service {cluster.name} .*not of this deployment"):
        started(cluster)
    with cluster.client() as client:
        assert ports(client, cluster.name) == [81]
    cluster.deployer().remove(f"id-{cluster.name}")
    with cluster.client() as client:
        client.delete(Service, cluster.name)


def test_a_conflict_names_who_has_set_the_field(cluster: Cluster) -> None:
    """What something else has set is not taken over in silence: it is named, and so is the way to do it."""
    workload, first = started(cluster)
    change = {"spec": {"replicas": 4}}
    with cluster.client() as client:
        client.patch(Deployment, cluster.name, change, patch_type=PatchType.MERGE, field_manager="kubectl-scale")
    following = replace(workload, revision=2)
    with pytest.raises(DeploymentError, match=r'conflict with "kubectl-scale".*replicas.*force_conflicts'):
        cluster.start(cluster.deployer(), following, first)
    cluster.start(cluster.deployer(force_conflicts=True), following, first)
    assert cluster.deployment().spec.replicas == 1


def test_a_namespace_that_is_missing_is_named(cluster: Cluster) -> None:
    """The way out is the command that makes it."""
    with pytest.raises(DeploymentError, match="kubectl create namespace nowhere"):
        cluster.start(cluster.deployer(namespace="nowhere"), cluster.workload())


def test_an_api_that_is_too_old_is_named(cluster: Cluster) -> None:
    """What the cluster does not serve is said by its kind, and when it came."""
    if cluster.state is not None:
        cluster.state.absent.add("poddisruptionbudgets")
    elif cluster.version >= (1, 21):
        pytest.skip("this API server has what the deployer needs")
    with pytest.raises(DeploymentError, match=r"has no PodDisruptionBudget of policy/v1.*disruption_budget"):
        started(cluster, replicas=2, separate_stores=True)


# Looking


def test_a_rollout_is_followed(cluster: Cluster) -> None:
    """PENDING until the cluster has taken it up and all pods serve, then RUNNING."""
    workload, instance = started(cluster)
    assert inspected(cluster, instance).status is Status.PENDING
    cluster.report(complete=False, seen=True, replicas=1, updatedReplicas=1)
    cluster.add_pod(workload, ready=False, **container({"running": {}}))
    found = inspected(cluster, instance)
    assert found.status is Status.PENDING
    assert "0 of 1 pods serve: pod" in (found.reason or "")
    assert "its server has not started up yet" in (found.reason or "")
    cluster.report()
    assert inspected(cluster, instance) == Condition(Status.RUNNING)


def test_a_status_of_before_says_nothing(cluster: Cluster) -> None:
    """What the controller said of the revision before is not taken for what was applied since."""
    workload, first = started(cluster)
    cluster.report()
    second = cluster.start(cluster.deployer(), replace(workload, revision=2), first)
    assert inspected(cluster, second).status is Status.PENDING


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (waiting("ImagePullBackOff", 'Back-off pulling image "weather:3"'), "ImagePullBackOff: Back-off pulling"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), 'CreateContainerConfigError: secret "x"'),
        (
            waiting("CrashLoopBackOff", "back-off", lastState=terminated(3, "x\nError: no model\n"), restartCount=2),
            "it ended with status 3 and is started again: no model",
        ),
        (
            waiting("CrashLoopBackOff", "back-off", lastState=terminated(137, reason="OOMKilled"), restartCount=2),
            "took more memory than it may",
        ),
        (container(terminated(2)), "it ended with status 2"),
        (container({"running": {}}, lastState=terminated(1), restartCount=1), "was started anew once"),
    ],
)
def test_pods_that_cannot_start_are_an_error(cluster: Cluster, status: dict[str, object], reason: str) -> None:
    """What does not mend itself ends the waiting at once, with the pod's own reason on one line."""
    workload, instance = started(cluster)
    cluster.report(complete=False, replicas=1, updatedReplicas=1)
    pod = cluster.add_pod(workload, ready=False, **status)
    found = inspected(cluster, instance)
    assert found.status is Status.ERROR
    assert (found.reason or "").startswith(f"pod {pod}: ")
    assert reason in (found.reason or "")
    assert "\n" not in (found.reason or "")


def test_a_pod_that_no_node_takes_is_waited_for(cluster: Cluster) -> None:
    """A node may be on its way: it is PENDING, and says what is missing, until it takes too long."""
    workload, instance = started(cluster)
    cluster.report(complete=False, replicas=1, updatedReplicas=1)
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}]
    cluster.add_pod(workload, ready=False, conditions=conditions)
    found = inspected(cluster, instance)
    assert found.status is Status.PENDING
    assert "no node takes it: 0/3 nodes: cpu" in (found.reason or "")
    cluster.report(complete=False, reason="ProgressDeadlineExceeded", replicas=1, updatedReplicas=1)
    found = inspected(cluster, instance)
    assert found.status is Status.ERROR
    assert "start_timeout" in (found.reason or "")
    assert "0/3 nodes: cpu" in (found.reason or "")


def test_a_service_that_lost_a_pod_still_runs(cluster: Cluster) -> None:
    """After a rollout, one pod of several that fails does not make it an error; that is said, though."""
    workload, instance = started(cluster, replicas=2, separate_stores=True, disruption_budget=False)
    cluster.report(replicas=2, updatedReplicas=2, readyReplicas=1, availableReplicas=1)
    cluster.add_pod(workload)
    cluster.add_pod(workload, ready=False, **container(terminated(1)))
    found = inspected(cluster, instance)
    assert found.status is Status.RUNNING
    assert "1 of 2 pods serve" in (found.reason or "")


def test_a_deployment_that_was_scaled_away_is_absent(cluster: Cluster) -> None:
    """Whoever scales to nothing by hand has ended it."""
    _, instance = started(cluster)
    with cluster.client() as client:
        client.patch(Deployment, cluster.name, {"spec": {"replicas": 0}}, patch_type=PatchType.MERGE)
    found = inspected(cluster, instance)
    assert found.status is Status.ABSENT
    assert "scaled to 0" in (found.reason or "")


def test_nobody_to_ask_is_unknown(cluster: Cluster, tmp_path: Path) -> None:
    """No file, no such context, no answer: UNKNOWN with the reason, and for a start an error with the way out."""
    _, instance = started(cluster)
    for values in ({"kubeconfig": tmp_path / "none"}, {"context": "nowhere", "kubeconfig": cluster.kubeconfig}):
        found = cluster.deployer(**values).inspect(instance)
        assert found.status is Status.UNKNOWN
        assert "there is no cluster to be found" in (found.reason or "")
        with pytest.raises(DeploymentError, match="kubectl config get-contexts"):
            cluster.deployer(**values).check()


# Replacing


def test_an_update_takes_the_place_of_what_serves(cluster: Cluster) -> None:
    """Until the new pods serve, the old ones do; once they have gone the old revision is ABSENT, to be discarded."""
    workload, first = started(cluster)
    cluster.report()
    cluster.add_pod(workload)
    following = replace(workload, revision=2, environment={"API_TOKEN": "another"})
    second = cluster.start(cluster.deployer(), following, first)
    assert inspected(cluster, first).status is Status.RUNNING
    assert inspected(cluster, second).status is Status.PENDING
    cluster.delete_pods()
    cluster.add_pod(following)
    cluster.report()
    assert inspected(cluster, second).status is Status.RUNNING
    cluster.deployer().retire(first, by=second, grace=1.0)
    assert inspected(cluster, first).status is Status.ABSENT
    assert cluster.deployer().instances(workload.deployment_id) == [first, second]
    cluster.deployer().discard(first)
    assert cluster.deployer().instances(workload.deployment_id) == [second]
    assert cluster.names(ConfigMap) == [f"{cluster.name}-r2"]


def test_a_failed_update_goes_back_to_what_was_applied_before(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up, the Deployment is as it was, from any process; why the revision failed is kept, with its log."""
    monkeypatch.setattr("asgipipe_kubernetes.deployer._SLACK", 0.5)  # nobody here says that it is complete
    workload, first = started(cluster)
    before = cluster.deployment().spec.template
    following = replace(workload, revision=2)
    second = cluster.start(cluster.deployer(image="broken:1"), following, first)
    cluster.report(complete=False, replicas=1, updatedReplicas=1)
    cluster.add_pod(following, ready=False, **waiting("ImagePullBackOff", "no such image"))
    cluster.deployer().abandon(second, back_to=first)
    assert cluster.deployment().spec.template == before
    found = inspected(cluster, second)
    assert found.status is Status.ERROR
    assert "no such image" in (found.reason or "")
    cluster.report()
    assert inspected(cluster, first).status is Status.RUNNING


@pytest.mark.parametrize("applied", [1, 2, 4])
def test_a_start_that_was_cut_short_is_undone(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, applied: int) -> None:
    """What a command that was killed has applied is found by another one, and undone; what serves is left as it is."""
    monkeypatch.setattr("asgipipe_kubernetes.deployer._SLACK", 0.5)
    workload, first = started(cluster)
    template = cluster.deployment().spec.template
    apply = objects.apply

    def cut_short(client: Client, manifests: list[Manifest], *, deployment_id: str, force: bool) -> None:
        apply(client, manifests[:applied], deployment_id=deployment_id, force=force)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(objects, "apply", cut_short)
        with pytest.raises(KeyboardInterrupt):
            cluster.start(cluster.deployer(port=81), replace(workload, revision=2), first)
    found, second = cluster.deployer().instances(workload.deployment_id)
    assert found == first
    assert inspected(cluster, second).status is Status.ABSENT
    cluster.deployer().abandon(second, back_to=first)
    cluster.deployer().discard(second)
    assert cluster.deployer().instances(workload.deployment_id) == [first]
    assert cluster.deployment().spec.template == template
    with cluster.client() as client:
        assert ports(client, cluster.name) == [8000]


def test_going_back_without_a_record_says_so(cluster: Cluster) -> None:
    """When somebody has deleted the record of what to go back to, that is said, and the new one is left alone."""
    workload, first = started(cluster)
    second = cluster.start(cluster.deployer(), replace(workload, revision=2), first)
    cluster.deployer().discard(first)
    with pytest.raises(DeploymentError, match="revision 1 cannot be gone back to"):
        cluster.deployer().abandon(second, back_to=first)


# Ending


def test_a_stop_leaves_what_is_needed_to_provision_again(cluster: Cluster) -> None:
    """The Deployment is gone, the record and the Service are there; a second stop does nothing."""
    workload, instance = started(cluster)
    cluster.deployer().stop(instance, grace=1.0)
    assert inspected(cluster, instance).status is Status.ABSENT
    assert cluster.names(Deployment) == []
    assert cluster.names(Service) == [cluster.name]
    assert cluster.deployer().instances(workload.deployment_id) == [instance]
    cluster.deployer().stop(instance, grace=1.0)
    assert cluster.start(cluster.deployer(), workload) == instance
    assert cluster.names(Deployment) == [cluster.name]


def test_a_stop_of_one_that_failed_keeps_the_reason(cluster: Cluster) -> None:
    """Its pods are gone, and why they failed is still known."""
    workload, instance = started(cluster)
    cluster.report(complete=False, replicas=1, updatedReplicas=1)
    cluster.add_pod(workload, ready=False, **waiting("ImagePullBackOff", "no such image"))
    cluster.deployer().stop(instance, grace=0.0)
    found = inspected(cluster, instance)
    assert found.status is Status.ERROR
    assert "no such image" in (found.reason or "")


def test_nothing_is_left_of_what_was_removed(cluster: Cluster, tmp_path: Path) -> None:
    """Objects that the user added go with the others; those of other deployments stay."""
    write(tmp_path, 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "${name}-more"}\n')
    workload = cluster.workload(project=str(tmp_path))
    instance = cluster.start(cluster.deployer(additional_resources=["more.yaml"]), workload)
    assert f"{cluster.name}-more" in cluster.names(ConfigMap)
    cluster.deployer().stop(instance, grace=0.0)
    cluster.deployer().remove(workload.deployment_id)
    for kind in (Deployment, Service, Secret, ConfigMap):
        assert cluster.names(kind) == []
    assert cluster.deployer().instances(workload.deployment_id) == []
    assert inspected(cluster, instance).status is Status.ABSENT
    cluster.deployer().stop(instance, grace=0.0)
    assert list(cluster.deployer().logs(instance, tail=None, follow=True)) == []


def test_an_added_object_that_is_no_longer_wanted_goes(cluster: Cluster, tmp_path: Path) -> None:
    """What the revision before has added, and the new one does not, is deleted when that has taken its place."""
    write(tmp_path, 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "${name}-more"}\n')
    workload = cluster.workload(project=str(tmp_path))
    first = cluster.start(cluster.deployer(additional_resources=["more.yaml"]), workload)
    second = cluster.start(cluster.deployer(), replace(workload, revision=2), first)
    assert f"{cluster.name}-more" in cluster.names(ConfigMap)
    cluster.deployer().retire(first, by=second, grace=0.1)
    assert f"{cluster.name}-more" not in cluster.names(ConfigMap)


def test_a_kind_that_the_cluster_does_not_know_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """An object of a kind that nobody defines is refused by its name."""
    write(tmp_path, "apiVersion: example.com/v1\nkind: Rocket\nmetadata: {name: a}\n")
    workload = cluster.workload(project=str(tmp_path))
    with pytest.raises(DeploymentError, match="knows no Rocket of example"):
        cluster.start(cluster.deployer(additional_resources=["more.yaml"]), workload)
    cluster.deployer().remove(workload.deployment_id)


# What needs a newer API than the oldest that is tried, or what only the small server can do


def test_an_autoscaler_comes_and_goes(small: Cluster) -> None:
    """With autoscaling there are an autoscaler and a disruption budget; without it both go, and replicas is said."""
    settings = {"autoscaling": {"max_replicas": 4}, "resources": {"cpu_request": "1"}}
    workload = small.workload(environment={"ASGIPIPE_STORE_URL": POSTGRESQL})
    first = small.start(small.deployer(**settings), workload)
    assert small.names(HorizontalPodAutoscaler) == small.names(PodDisruptionBudget) == [small.name]
    with small.client() as client:
        change = {"spec": {"replicas": 3}}
        client.patch(Deployment, small.name, change, patch_type=PatchType.MERGE, field_manager="autoscaler")
    second = small.start(small.deployer(), replace(workload, revision=2), first)
    assert small.names(HorizontalPodAutoscaler) == []
    assert small.deployment().spec.replicas == 1
    small.deployer().retire(first, by=second, grace=0.1)
    assert small.names(PodDisruptionBudget) == []


def test_a_missing_right_is_named(small: Cluster) -> None:
    """By check before anything is made, and by what the cluster says when it is refused later."""
    assert small.state is not None
    small.state.forbidden |= {("patch", "deployments"), ("get", "pods/log")}
    with pytest.raises(DeploymentError, match="may not patch deployments, get pods/log in the namespace services"):
        small.deployer().check()
    with pytest.raises(DeploymentError, match=r'cannot patch resource "deployments".*Role'):
        small.start(small.deployer(), small.workload())


def test_a_wrong_token_is_named(small: Cluster) -> None:
    """Whoever is not known has to log in again."""
    text = small.kubeconfig.read_text(encoding="utf-8").replace("token-of-the-tests", "old")
    small.kubeconfig.write_text(text, encoding="utf-8")
    with pytest.raises(DeploymentError, match="does not know who asks"):
        small.deployer().check()


def test_a_cluster_in_trouble_is_unknown(small: Cluster) -> None:
    """A server that cannot answer for a while does not make a deployment an error."""
    _, instance = started(small)
    assert small.state is not None
    small.state.failing = True
    found = small.deployer().inspect(instance)
    assert found.status is Status.UNKNOWN
    assert "no leader" in (found.reason or "")


def test_the_log_of_one_pod_is_as_it_was_written(small: Cluster) -> None:
    """All lines, or the last ones, and none while the container has not begun."""
    workload, instance = started(small)
    assert small.state is not None
    pod = small.add_pod(workload)
    assert list(small.deployer().logs(instance, tail=None, follow=False)) == []
    small.state.log(pod, *(f"line {number}" for number in range(50)))
    lines = [f"line {number}" for number in range(50)]
    assert list(small.deployer().logs(instance, tail=None, follow=False)) == lines
    assert list(small.deployer().logs(instance, tail=5, follow=False)) == lines[-5:]


def test_the_logs_of_several_pods_are_told_apart(small: Cluster) -> None:
    """Their lines come in the order in which they were written, each with its pod before it."""
    workload, instance = started(small)
    assert small.state is not None
    one, two = small.add_pod(workload), small.add_pod(workload)
    for number in range(3):
        small.state.log(one, f"a{number}")
        small.state.log(two, f"b{number}")
    found = list(small.deployer().logs(instance, tail=4, follow=False))
    assert found == [f"[{one}] a1", f"[{two}] b1", f"[{one}] a2", f"[{two}] b2"]


def test_a_log_is_followed_until_its_pods_have_gone(small: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written meanwhile comes once, through a restart of the container, and it ends with the last pod."""
    monkeypatch.setattr("asgipipe_kubernetes.logs._PAUSE", 0.01)
    workload, instance = started(small)
    assert small.state is not None
    pod = small.add_pod(workload)
    small.state.log(pod, "early", "first", "first")
    lines = small.deployer().logs(instance, tail=2, follow=True)
    found = [next(lines), next(lines)]
    small.state.log(pod, "second")
    found.append(next(lines))
    with small.state.lock:
        small.state.logs[pod] = small.state.logs[pod][-1:]  # started anew: the log before is another file's
        small.state.log(pod, "third")
    found.append(next(lines))
    small.delete_pods()
    assert [*found, *lines] == ["first", "first", "second", "third"]


def test_the_log_of_what_was_stopped_can_be_read(small: Cluster) -> None:
    """The end of the log is kept with the record, and not shown for another revision."""
    workload, instance = started(small)
    assert small.state is not None
    small.state.log(small.add_pod(workload), *(f"line {number}" for number in range(2000)))
    small.deployer().stop(instance, grace=1.0)
    found = list(small.deployer().logs(instance, tail=None, follow=False))
    assert found == [f"line {number}" for number in range(1000, 2000)]
    assert list(small.deployer().logs(instance, tail=2, follow=False)) == ["line 1998", "line 1999"]
    assert list(small.deployer().logs(replace(instance, revision=9), tail=None, follow=False)) == []


def test_the_last_warning_about_a_pod_is_told(small: Cluster) -> None:
    """Why a pod is not ready often stands in its events alone: a probe that fails, a volume that is missing."""
    workload, instance = started(small)
    assert small.state is not None
    pod = small.add_pod(workload, ready=False, **container({"running": {}}))
    small.report(complete=False, replicas=1, updatedReplicas=1)
    event: dict[str, object] = {
        "metadata": {"name": "e1", "namespace": "services"},
        "involvedObject": {"name": pod},
        "type": "Warning",
        "reason": "Unhealthy",
        "message": "Startup probe failed: connection refused",
        "lastTimestamp": "2026-11-21T07:00:00Z",
    }
    small.state.objects["events", "services", "e1"] = event
    assert "(Unhealthy: Startup probe failed" in (inspected(small, instance).reason or "")
    small.state.forbidden.add(("list", "events"))
    assert "its server has not started up yet" in (inspected(small, instance).reason or "")


def test_a_pod_that_takes_too_long_to_end_is_given_less_time(small: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop without grace tells the pods so, and does not forget them while they may run."""
    monkeypatch.setattr("asgipipe_kubernetes.deployer._SLACK", 0.5)
    workload, instance = started(small)
    assert small.state is not None
    pod = small.add_pod(workload)
    found = small.state.objects["pods", "services", pod]
    found["spec"] = {"nodeName": "node", "containers": [{"name": "service"}]}
    requests = small.state.requests
    requests.clear()
    small.deployer().stop(instance, grace=0.0)
    deleted = small.state.objects["pods", "services", pod]["metadata"]
    assert isinstance(deleted, dict)
    assert deleted["deletionGracePeriodSeconds"] == 1
    assert requests.count(f"DELETE pods {pod}") == 1


@pytest.mark.parametrize(
    ("values", "ingress", "expected"),
    [
        ({}, None, None),
        ({"service_type": "NodePort"}, None, None),
        ({"service_type": "LoadBalancer"}, [], None),
        ({"service_type": "LoadBalancer"}, [{"ip": "203.0.113.7"}], "http://203.0.113.7:8000/api"),
        ({"service_type": "LoadBalancer"}, [{"hostname": "lb.example"}], "http://lb.example:8000/api"),
        ({"external_url": "https://weather.example/"}, None, "https://weather.example/api"),
    ],
)
def test_a_url_is_given_where_this_machine_reaches_it(
    small: Cluster, values: dict[str, object], ingress: object, expected: str | None
) -> None:
    """A load balancer's address or the URL that was given; an address of the cluster is not asked from outside."""
    deployer = small.deployer(**values)
    instance = small.start(deployer, small.workload(root="/api"))
    assert small.state is not None
    if ingress is not None:
        status = {"status": {"loadBalancer": {"ingress": ingress}}}
        with small.client() as client:
            client.patch(Service.Status, small.name, status, patch_type=PatchType.MERGE)
    assert deployer.reachable(instance) == expected


def test_commands_are_kubectls(small: Cluster) -> None:
    """What is shown to people works on the same cluster and namespace, and holds no secret."""
    _, instance = started(small)
    found = small.deployer(context="test").commands(instance)
    assert found["rollout"] == (
        f"kubectl --kubeconfig {small.kubeconfig} --context test --namespace services rollout status "
        f"deployment/{small.name}"
    )
    assert "canary" not in json.dumps([*found.values(), instance.as_json()])
