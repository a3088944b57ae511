"""The objects of a deployment, as they are applied.

One Deployment and one Service for all revisions, so that the cluster itself replaces the pods of one by those of the
next. What pods read when they start, their environment and settings, belongs to their revision: those of the one before
may be started anew while it is being replaced.
"""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence

from lightkube.models.apps_v1 import DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment
from lightkube.models.autoscaling_v2 import (
    CrossVersionObjectReference,
    HorizontalPodAutoscalerSpec,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from lightkube.models.core_v1 import ServicePort, ServiceSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.models.policy_v1 import PodDisruptionBudgetSpec
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import ConfigMap, Secret, Service
from lightkube.resources.policy_v1 import PodDisruptionBudget

from asgipipe.deployers.frozen import settings_text
from asgipipe.deployers.records import Workload
from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.names import NAME, RECORD, REVISION, URL, record_name, selector
from asgipipe_kubernetes.plan import Plan
from asgipipe_kubernetes.pods import SETTINGS_KEY, pod_template

Manifest = dict[str, object]
"""An object as it is written in JSON and YAML."""

_Object = Secret | ConfigMap | Service | Deployment | PodDisruptionBudget | HorizontalPodAutoscaler

MANIFESTS = "manifests"
"""The member of a record with what was applied, in JSON."""

_LARGEST = 900 * 1024
"""Bytes of a ConfigMap or Secret, of which the API takes 1 MiB, base64 and names included."""
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def built_in(plan: Plan) -> list[Manifest]:
    """Return the objects of a revision in the order in which they are applied. Raises DeploymentError."""
    plan.check()
    found: list[_Object] = [environment(plan), settings_file(plan), service(plan)]
    if plan.settings.fewest > 1 and plan.settings.disruption_budget:
        found.append(disruption_budget(plan))
    if plan.settings.autoscaling is not None:
        found.append(autoscaler(plan))
    found.append(deployment(plan))  # the last: whoever finds it applied need not look for the others
    return [each.to_dict() for each in found]


def environment(plan: Plan) -> Secret:
    """The environment of the pods, the digests of keys among it."""
    values = plan.workload.environment
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise DeploymentError(f"{name!r} cannot be the name of a variable in Kubernetes: call it another name")
    data = {name: _encoded(value) for name, value in sorted(values.items())}
    _check_size("the environment", data)
    return Secret(metadata=_revision_metadata(plan), type="Opaque", data=data)


def settings_file(plan: Plan) -> ConfigMap:
    data = {SETTINGS_KEY: settings_text(plan.workload.settings)}
    _check_size("the settings", data)
    return ConfigMap(metadata=_revision_metadata(plan), data=data)


def deployment(plan: Plan) -> Deployment:
    settings = plan.settings
    return Deployment(
        metadata=_metadata(plan, revision=True),
        spec=DeploymentSpec(
            replicas=None if settings.autoscaling is not None else settings.replicas,
            selector=LabelSelector(matchLabels=selector(plan.workload.deployment_id)),
            strategy=DeploymentStrategy(
                type="RollingUpdate", rollingUpdate=RollingUpdateDeployment(maxSurge=1, maxUnavailable=0)
            ),
            progressDeadlineSeconds=math.ceil(settings.start_timeout),
            revisionHistoryLimit=2,
            template=pod_template(plan),
        ),
    )


def service(plan: Plan) -> Service:
    return Service(
        metadata=_metadata(plan),
        spec=ServiceSpec(
            type=plan.settings.service_type,
            selector=selector(plan.workload.deployment_id),
            ports=[ServicePort(port=plan.service_port, name="http", protocol="TCP", targetPort="http")],
        ),
    )


def autoscaler(plan: Plan) -> HorizontalPodAutoscaler:
    limits = plan.settings.autoscaling
    assert limits is not None
    target = MetricTarget(type="Utilization", averageUtilization=limits.cpu_utilization)
    return HorizontalPodAutoscaler(
        metadata=_metadata(plan),
        spec=HorizontalPodAutoscalerSpec(
            minReplicas=limits.min_replicas,
            maxReplicas=limits.max_replicas,
            scaleTargetRef=CrossVersionObjectReference(apiVersion="apps/v1", kind="Deployment", name=plan.name),
            metrics=[MetricSpec(type="Resource", resource=ResourceMetricSource(name="cpu", target=target))],
        ),
    )


def disruption_budget(plan: Plan) -> PodDisruptionBudget:
    """Let a node that is emptied take one pod at a time, and those that do not serve at any time."""
    return PodDisruptionBudget(
        metadata=_metadata(plan),
        spec=PodDisruptionBudgetSpec(
            maxUnavailable=1,
            selector=LabelSelector(matchLabels=selector(plan.workload.deployment_id)),
            unhealthyPodEvictionPolicy="AlwaysAllow",
        ),
    )


def record(plan: Plan, manifests: Sequence[Manifest]) -> Manifest:
    """The record of a revision: what was applied, by which it is found, gone back to, and removed.

    A Secret, since additional resources may hold secrets; those of the revision itself are left out.
    """
    own = (plan.revision_name, plan.namespace)
    kept = [each for each in manifests if key_of(each)[2:] != own]
    data = {MANIFESTS: _encoded(json.dumps(kept, separators=(",", ":"), sort_keys=True))}
    _check_size("the manifests, additional_resources among them,", data)
    metadata = ObjectMeta(
        name=record_name(plan.name, plan.workload.revision),
        namespace=plan.namespace,
        labels={**plan.revision_labels, RECORD: "true"},
        annotations={NAME: plan.workload.name, URL: plan.url},
    )
    return Secret(metadata=metadata, type="Opaque", data=data).to_dict()


def key_of(manifest: Manifest) -> tuple[str, str, str, str]:
    """Return what tells an object from every other: API version, kind, name and namespace."""
    metadata = manifest.get("metadata")
    members: Mapping[str, object] = metadata if isinstance(metadata, Mapping) else {}
    return (
        str(manifest.get("apiVersion")),
        str(manifest.get("kind")),
        str(members.get("name")),
        str(members.get("namespace") or ""),
    )


def _metadata(plan: Plan, *, revision: bool = False) -> ObjectMeta:
    workload: Workload = plan.workload
    own = {NAME: workload.name, **({REVISION: str(workload.revision)} if revision else {})}
    return ObjectMeta(
        name=plan.name,
        namespace=plan.namespace,
        labels=plan.labels,
        annotations={**plan.settings.annotations, **own},
    )


def _revision_metadata(plan: Plan) -> ObjectMeta:
    return ObjectMeta(name=plan.revision_name, namespace=plan.namespace, labels=plan.revision_labels)


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _check_size(what: str, data: Mapping[str, str]) -> None:
    size = sum(len(name) + len(value.encode()) for name, value in data.items())
    if size > _LARGEST:
        raise DeploymentError(f"{what} have {size // 1024} KiB, and Kubernetes keeps {_LARGEST // 1024} at most")
