import base64
import json
from collections.abc import Iterator

import msgspec
import pytest

from asgipipe.errors import DeploymentError
from tests.deployers.kubernetes.samples import ID, plan, workload

pytest.importorskip("lightkube")

from lightkube.codecs import resource_registry

from asgipipe_kubernetes import manifests
from asgipipe_kubernetes.manifests import Manifest, built_in
from asgipipe_kubernetes.plan import Plan

EVERYTHING: dict[str, object] = {
    "autoscaling": {"min_replicas": 2, "max_replicas": 5, "cpu_utilization": 60},
    "resources": {"cpu_request": "500m", "cpu_limit": "2", "memory_request": "256Mi", "memory_limit": "1Gi"},
    "image_pull_policy": "Always",
    "image_pull_secrets": ["pull"],
    "labels": {"team": "sky"},
    "annotations": {"example.com/owner": "ada"},
    "pod_annotations": {"prometheus.io/scrape": "true"},
    "environment": {"REGION": "eu"},
    "service_account": "weather",
    "service_type": "LoadBalancer",
    "port": 80,
    "node_selector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
SHARED = workload(shared_store=True)


def of_kind(objects: list[Manifest], kind: str) -> Manifest:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def container(given: Plan) -> dict[str, object]:
    template = manifests.deployment(given).to_dict()["spec"]["template"]
    (found,) = template["spec"]["containers"]
    return dict(found)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from (str(name), *texts(member))
    elif isinstance(value, list):
        for member in value:
            yield from texts(member)
    else:
        yield str(value)


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"replicas": 3, "run_as_user": None, "pre_stop": 0}])
def test_manifests_are_of_the_schema_of_the_api(values: dict[str, object]) -> None:
    """Each object, read by the models that are made from the API's own schema, has no member they do not know."""
    for manifest in built_in(plan(SHARED, **values)):
        kind = resource_registry.load(str(manifest["apiVersion"]), str(manifest["kind"]))
        read = msgspec.convert(manifest, kind, strict=True)
        assert msgspec.to_builtins(read) == manifest


def test_the_same_input_gives_the_same_manifests() -> None:
    """Nothing in them depends on the time, the machine, or the order in which variables were given."""
    first = built_in(plan(workload(environment={"A": "1", "B": "2"})))
    second = built_in(plan(workload(environment={"B": "2", "A": "1"})))
    assert json.dumps(first) == json.dumps(second)


def test_secrets_are_in_the_secret_alone() -> None:
    """No object but the Secret of the revision holds a value of the environment, in clear or encoded."""
    value = "canary-0123456789"
    hidden = {value, base64.b64encode(value.encode()).decode()}
    objects = built_in(plan())
    for manifest in [*objects, manifests.record(plan(), objects)]:
        if manifest["metadata"] != of_kind(objects, "Secret")["metadata"]:
            assert not [text for text in texts(manifest) if any(each in text for each in hidden)]
    assert of_kind(objects, "Secret")["data"] == {"API_TOKEN": base64.b64encode(value.encode()).decode()}


def test_a_record_holds_what_is_shared_by_revisions() -> None:
    """By its record a revision can be gone back to; what belongs to it alone is still there then."""
    given = plan(SHARED, replicas=2)
    kept = manifests.record(given, built_in(given))
    data = kept["data"]
    assert isinstance(data, dict)
    assert [each["kind"] for each in json.loads(base64.b64decode(data["manifests"]))] == [
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ]


def test_pods_are_restricted() -> None:
    """Pods meet the restricted profile of the Pod Security Standards, with a root file system that is read only."""
    spec = manifests.deployment(plan()).to_dict()["spec"]["template"]["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(plan())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


def test_probes_ask_what_is_meant_for_them() -> None:
    """Liveness is asked of /health and readiness of /ready, below the root, with the scheme that is served."""
    given = plan(workload(health_path="/api/alive", root="/api", ready_path="/api/ready", scheme="https"))
    found = container(given)
    path = {"port": "http", "scheme": "HTTPS"}
    for name, expected in (("startup", "/api/alive"), ("liveness", "/api/alive"), ("readiness", "/api/ready")):
        probe = found[f"{name}Probe"]
        assert isinstance(probe, dict)
        assert probe["httpGet"] == {**path, "path": expected}


def test_a_service_without_probes_is_asked_for_a_connection() -> None:
    """Where neither /health nor /ready is served, a pod that listens is alive and ready: a 404 would end it."""
    found = container(plan(workload(health_path=None)))
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = found[name]
        assert isinstance(probe, dict)
        assert probe["tcpSocket"] == {"port": "http"}
        assert "httpGet" not in probe


def test_a_pod_has_the_time_to_drain() -> None:
    """A pod serves on while it is taken out of the endpoints, drains then, and is killed only after its clean-up."""
    given = plan(workload(drain=12.5), pre_stop=7)
    spec = manifests.deployment(given).to_dict()["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 7 + 13 + 10
    hook = json.loads(json.dumps(container(given)["lifecycle"]))["preStop"]["exec"]["command"]
    assert hook[:3] == ["python3", "-I", "-c"]
    compile(hook[3], "hook", "exec")
    assert "time.sleep(7)\nos.kill(1, signal.SIGUSR2)\n" in hook[3]
    assert "lifecycle" not in container(plan(pre_stop=0))


def test_an_update_never_has_fewer_pods() -> None:
    """Pods of the next revision come beside those there are, which go when those are ready."""
    spec = manifests.deployment(plan()).to_dict()["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["progressDeadlineSeconds"] == 300


def test_the_selector_is_the_same_for_each_revision() -> None:
    """A Deployment's selector cannot be changed; the revision is a label of the pods alone."""
    specs = [manifests.deployment(plan(workload(revision=number))).to_dict()["spec"] for number in (1, 2)]
    assert specs[0]["selector"] == specs[1]["selector"] == {"matchLabels": {"asgipipe.dev/deployment": ID}}
    assert [spec["template"]["metadata"]["labels"]["asgipipe.dev/revision"] for spec in specs] == ["1", "2"]


def test_autoscaling_says_how_many_pods_there_are() -> None:
    """With an autoscaler the Deployment says nothing of replicas, which would be set back at each update."""
    objects = built_in(plan(SHARED, **EVERYTHING))
    assert "replicas" not in json.loads(json.dumps(of_kind(objects, "Deployment")))["spec"]
    scaler = json.loads(json.dumps(of_kind(objects, "HorizontalPodAutoscaler")))["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "weather"}


def test_the_variables_of_a_deployment_win() -> None:
    """What was given with the deployment is not hidden by what the deployer sets, but for where to listen."""
    given = plan(
        workload(environment={"REGION": "us", "HOME": "/srv", "ASGIPIPE_UVICORN_PORT": "1"}),
        environment={"REGION": "eu"},
    )
    assert container(given)["env"] == [
        {"name": "ASGIPIPE_UVICORN_HOST", "value": "0.0.0.0"},
        {"name": "ASGIPIPE_UVICORN_PORT", "value": "8000"},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
    ]


def test_a_privileged_port_is_the_services_alone() -> None:
    """A service at port 80 listens on 8000 in its pods, where nobody is root."""
    given = plan(workload(port=80))
    assert (given.service_port, given.container_port) == (80, 8000)
    assert given.url == "http://weather.services.svc:80"


@pytest.mark.parametrize(
    "given",
    [
        workload(),
        workload(shared_store=True, environment={"ASGIPIPE_STORE_URL": "memory:"}),
    ],
)
def test_several_pods_need_a_store_that_they_share(given: object) -> None:
    """More than one pod with a store of its own each is refused, with what to do about it, unless that is wanted."""
    with pytest.raises(DeploymentError, match=r"PostgreSQL.*separate_stores"):
        built_in(plan(given, replicas=2))  # type: ignore[arg-type]
    assert built_in(plan(given, replicas=2, separate_stores=True))  # type: ignore[arg-type]


def test_a_secret_store_url_is_known_to_be_shared() -> None:
    """A URL with a password is in the environment, and found there."""
    environment = {"ASGIPIPE_STORE_URL": "postgresql://u:secret@db/jobs"}
    assert of_kind(built_in(plan(workload(environment=environment), replicas=2)), "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (workload(environment={"A B": "x"}), "cannot be the name of a variable"),
        (workload(environment={"BIG": "x" * 1_000_000}), "the environment have"),
        (workload(target="/elsewhere/agent.py:weather"), "outside of its project"),
    ],
)
def test_what_no_cluster_takes_is_refused(given: object, reason: str) -> None:
    """What the API server or a pod would fail on is refused before anything is applied."""
    with pytest.raises(DeploymentError, match=reason):
        built_in(plan(given))  # type: ignore[arg-type]
