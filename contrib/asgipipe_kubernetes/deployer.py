"""The deployer of flavor `kubernetes`: each deployment is one Deployment and one Service, whatever its revision.

To start a revision is to apply its template; the cluster replaces the pods of the one before when those of the new one
are ready. To give it up is to apply once more what was applied before, which is kept in the cluster: a record of each
revision, by which any process finds and ends what another one has begun.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import httpx2
from lightkube import ApiError, Client
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import Pod, Service

from asgipipe.deployers.deployer import BaseDeployer, DeployerSettings, Report
from asgipipe.deployers.records import Condition, Instance, JSONObject, Status, Workload
from asgipipe.errors import DeploymentError
from asgipipe_kubernetes import images, logs, manifests, objects, reading, rendering, revisions
from asgipipe_kubernetes.cluster import UnreachableError, connected, kubectl, namespace_of
from asgipipe_kubernetes.manifests import Manifest, key_of
from asgipipe_kubernetes.names import DEPLOYMENT, REVISION, selector
from asgipipe_kubernetes.plan import CLEAN_UP, Plan
from asgipipe_kubernetes.pod_state import is_ending, is_ready
from asgipipe_kubernetes.settings import KubernetesDeployerSettings
from asgipipe_kubernetes.templates import additional

_DEFAULT_NAMESPACE = "default"
_PAUSE = 0.3
_SHORTEST = 1
"""Seconds that a pod is given to end when it is to end at once; 0 would forget it while it runs."""
_SLACK = 15.0
"""Seconds that the cluster may take for what it does itself; a node that does not answer takes longer."""
_ALL = ("get", "list", "create", "patch", "delete")
_NEEDED = {
    ("apps", "deployments"): _ALL,
    ("autoscaling", "horizontalpodautoscalers"): _ALL,
    ("policy", "poddisruptionbudgets"): _ALL,
    ("", "services"): _ALL,
    ("", "secrets"): _ALL,
    ("", "configmaps"): _ALL,
    ("", "pods"): ("list", "delete"),
    ("", "pods/log"): ("get",),
}
"""The rights that every deployment needs, by API group and resource."""


class KubernetesDeployer(BaseDeployer):
    """Runs deployments in one namespace of a cluster."""

    settings_class: ClassVar[type[DeployerSettings]] = KubernetesDeployerSettings

    def __init__(self, name: str, settings: DeployerSettings) -> None:
        super().__init__(name, settings)
        self._settings = KubernetesDeployerSettings.model_validate(settings.model_dump())

    def check(self) -> None:
        with connected(self._settings) as client:
            missing = [
                f"{verb} {resource}"
                for (group, resource), verbs in _NEEDED.items()
                for verb in verbs
                if not _may(client, verb, group, resource)
            ]
            if missing:
                raise DeploymentError(
                    f"the account may not {', '.join(missing)} in the namespace {client.namespace}: have it be given a "
                    "Role with these rights"
                )

    def render(self, workload: Workload, *, with_secrets: bool) -> str:
        """Return the objects of a revision as YAML documents, as they would be applied; nothing is applied.

        Raises DeploymentError.
        """
        try:
            namespace = namespace_of(self._settings)
        except UnreachableError:  # nothing is asked of the cluster: what kubectl takes without one will do
            namespace = _DEFAULT_NAMESPACE
        plan = Plan(workload, self._settings, "", namespace)
        plan.check()
        wanted = _objects(replace(plan, image=images.image_of(workload, self._settings)))
        return rendering.documents(wanted, with_secrets=with_secrets)

    # Start

    def start(self, workload: Workload, *, replaces: Instance | None, report: Report) -> Instance:
        with connected(self._settings) as client:
            plan = Plan(workload, self._settings, "", client.namespace)
            plan.check()
            instance = _instance(plan)
            if _applied(_deployment(client, instance)) == workload.revision:
                return instance
            plan = replace(plan, image=images.push(workload, self._settings, report))
            wanted = _objects(plan)
            if not plan.has_shared_store:
                report("jobs and recorded runs end with their pod: store_url names no PostgreSQL database")
            report("applying the objects")
            self._apply(client, instance, wanted)
            return instance

    def _apply(self, client: Client, instance: Instance, wanted: Sequence[Manifest]) -> None:
        scaled = False
        if not any(each["kind"] == HorizontalPodAutoscaler.__name__ for each in wanted):
            # Before the number of pods is said, which is that of the autoscaler until then.
            labels, namespace = _labels(instance), _namespace(instance)
            scaled = objects.delete_labelled(client, HorizontalPodAutoscaler, labels, namespace) > 0
        deployment_id = str(instance.handle["deployment"])
        objects.apply(client, wanted, deployment_id=deployment_id, force=self._settings.force_conflicts or scaled)

    # Look

    def inspect(self, instance: Instance) -> Condition:
        try:
            with connected(self._settings) as client:
                return self._condition(client, instance)
        except UnreachableError as error:
            return Condition(Status.UNKNOWN, error.reason)

    def _condition(self, client: Client, instance: Instance) -> Condition:
        deployment = _deployment(client, instance)
        pods = _pods(client, instance)
        if deployment is not None and _applied(deployment) == instance.revision:
            return reading.condition_of(client, reading.Rollout(deployment, pods))
        if any(map(is_ready, pods)):
            return Condition(Status.RUNNING, "another revision is taking its place")
        recorded = revisions.revision(client, instance)
        if recorded is not None and recorded.end is not None and recorded.end.condition is not None:
            return recorded.end.condition
        name = instance.handle["name"]
        if deployment is None:
            return Condition(Status.ABSENT, f"there is no Deployment {name} in the namespace {_namespace(instance)}")
        return Condition(Status.ABSENT, f"the Deployment {name} has another revision")

    def instances(self, deployment_id: str) -> list[Instance]:
        with connected(self._settings) as client:
            return [each.instance for each in revisions.revisions(client, deployment_id)]

    def logs(self, instance: Instance, *, tail: int | None, follow: bool) -> Iterator[str]:
        with connected(self._settings) as client:
            pods = _pods(client, instance)
            if follow and pods:
                yield from logs.follow(client, lambda: _pods(client, instance), tail)
            elif pods:
                yield from logs.all_lines(client, pods, tail)
            else:
                recorded = revisions.revision(client, instance)
                lines = recorded.end.log if recorded is not None and recorded.end is not None else ()
                yield from lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]

    def reachable(self, instance: Instance) -> str | None:
        settings = self._settings
        if settings.external_url is not None:
            return instance.url
        if settings.service_type != "LoadBalancer":
            return None
        with suppress(DeploymentError), connected(settings) as client:
            service = objects.find(client, Service, str(instance.handle["name"]), _namespace(instance))
            host = None if service is None else _balancer(service)
            return None if host is None else _at_host(instance.url, host)
        return None

    def commands(self, instance: Instance) -> JSONObject:
        name, pods = instance.handle["name"], f"--selector {DEPLOYMENT}={instance.handle['deployment']}"
        command = f"{kubectl(self._settings)} --namespace {_namespace(instance)}"
        port = instance.url.partition("://")[2].partition("/")[0].rpartition(":")[2]
        local = "8000:http" if not port.isdecimal() else f"{max(int(port), 1024)}:http"
        return {
            "log": f"{command} logs --tail 100 --follow --prefix {pods}",
            "pods": f"{command} get pods {pods}",
            "rollout": f"{command} rollout status deployment/{name}",
            "describe": f"{command} describe deployment/{name}",
            "port-forward": f"{command} port-forward service/{name} {local}",
        }

    # End

    def stop(self, instance: Instance, *, grace: float) -> None:
        with connected(self._settings) as client:
            if _applied(_deployment(client, instance)) == instance.revision:
                self._keep_end(client, instance)
                for resource in objects.SCALED:
                    objects.delete_labelled(client, resource, _labels(instance), _namespace(instance))
            self._end_pods(client, instance, grace)

    def _keep_end(self, client: Client, instance: Instance) -> None:
        """Keep the end of the log with the record, and why it failed if it did: with the pods, both are gone."""
        if revisions.revision(client, instance) is None:
            return
        with suppress(ApiError, httpx2.HTTPError):  # what cannot be read is not kept; it is ended all the same
            condition = self._condition(client, instance)
            lines = tuple(logs.all_lines(client, _pods(client, instance), revisions.MOST_LINES))
            failed = condition.reason if condition.status is Status.ERROR else None
            revisions.record_end(client, instance, revisions.End(failed, lines))

    def _end_pods(self, client: Client, instance: Instance, grace: float) -> None:
        """Wait until the pods have ended; one that may take longer to is given less time."""
        patience = self._settings.pre_stop + grace + CLEAN_UP if grace else _SHORTEST
        deadline = time.monotonic() + patience + _SLACK
        told: set[str] = set()
        while (pods := _pods(client, instance)) and time.monotonic() < deadline:
            for pod in pods:
                name, given = objects.name_of(pod), _grace_of(pod)
                if name not in told and (given is None or given > patience):
                    told.add(name)
                    objects.delete(client, Pod, name, _namespace(instance), grace=math.ceil(patience))
            time.sleep(_PAUSE)

    def retire(self, instance: Instance, *, by: Instance, grace: float) -> None:
        """Its pods are ending; what its revision had besides, and the new one has not, is deleted."""
        with connected(self._settings) as client:
            self._prune(client, instance, by)
            self._end_pods(client, instance, max(grace, _PAUSE))

    def abandon(self, instance: Instance, *, back_to: Instance | None) -> None:
        if back_to is None:
            self.stop(instance, grace=0.0)
            return
        with connected(self._settings) as client:
            applied, before = _applied(_deployment(client, instance)), revisions.revision(client, back_to)
            if applied == instance.revision:
                self._keep_end(client, instance)
            if before is not None:
                self._apply(client, back_to, before.manifests)
            elif applied != back_to.revision:
                raise DeploymentError(
                    f"revision {back_to.revision} cannot be gone back to, since its record is gone from the cluster: "
                    "deploy it anew"
                )
            self._prune(client, instance, back_to)
            self._end_pods(client, instance, 0.0)
            self._settle(client, back_to)

    def _settle(self, client: Client, instance: Instance) -> None:
        """Wait until the cluster says of what it has gone back to that it serves, as it does all the time."""
        deadline = time.monotonic() + _SLACK
        while self._condition(client, instance).status is Status.PENDING and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def _prune(self, client: Client, instance: Instance, kept: Instance) -> None:
        """Delete the objects of one revision that another one has not."""
        before, after = revisions.revision(client, instance), revisions.revision(client, kept)
        if before is None or after is None:
            return
        needed = {key_of(each) for each in after.manifests}
        for manifest in before.manifests:
            if key_of(manifest) not in needed:
                objects.delete_manifest(client, manifest, before.key)

    def discard(self, instance: Instance) -> None:
        with connected(self._settings) as client:
            labels = {**_labels(instance), REVISION: str(instance.revision)}
            for resource in objects.OF_REVISIONS:
                objects.delete_labelled(client, resource, labels, _namespace(instance))

    def remove(self, deployment_id: str) -> None:
        with connected(self._settings) as client:
            for recorded in revisions.revisions(client, deployment_id):
                for manifest in recorded.manifests:
                    objects.delete_manifest(client, manifest, deployment_id)
            for resource in (*objects.SCALED, Service, *objects.OF_REVISIONS):
                objects.delete_labelled(client, resource, selector(deployment_id), None)


def _objects(plan: Plan) -> list[Manifest]:
    """Return all objects of a revision, its record first: by it, all others are found if this is cut short."""
    own = [*additional(plan), *manifests.built_in(plan)]
    return [manifests.record(plan, own), *own]


def _instance(plan: Plan) -> Instance:
    workload = plan.workload
    return revisions.instance(plan.name, plan.namespace, workload.deployment_id, workload.revision, plan.url)


def _namespace(instance: Instance) -> str:
    return str(instance.handle["namespace"])


def _labels(instance: Instance) -> dict[str, str]:
    return selector(str(instance.handle["deployment"]))


def _deployment(client: Client, instance: Instance) -> Deployment | None:
    """Return the Deployment, if it is this deployment's."""
    found = objects.find(client, Deployment, str(instance.handle["name"]), _namespace(instance))
    if found is None or objects.labels_of(found).get(DEPLOYMENT) != instance.handle["deployment"]:
        return None
    return found


def _applied(deployment: Deployment | None) -> int | None:
    """Return the revision that was applied last."""
    number = objects.annotations_of(deployment).get(REVISION, "")
    is_ending = deployment is not None and deployment.metadata is not None and deployment.metadata.deletionTimestamp
    return int(number) if number.isdecimal() and not is_ending else None


def _pods(client: Client, instance: Instance) -> list[Pod]:
    labels = {**_labels(instance), REVISION: str(instance.revision)}
    found = objects.listed(client, Pod, labels, _namespace(instance))
    return sorted(found, key=objects.name_of)


def _grace_of(pod: Pod) -> int | None:
    """Return the seconds that a pod was given to end; None for one that was not told to."""
    assert pod.metadata is not None
    return pod.metadata.deletionGracePeriodSeconds if is_ending(pod) else None


def _may(client: Client, verb: str, group: str, resource: str) -> bool:
    kind, _, part = resource.partition("/")
    asked = ResourceAttributes(
        verb=verb, group=group, resource=kind, subresource=part or None, namespace=client.namespace
    )
    answer = client.create(SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked)))
    return answer.status is not None and answer.status.allowed


def _balancer(service: Service) -> str | None:
    """Return where a load balancer answers; None while it has no address."""
    balancer = service.status.loadBalancer if service.status is not None else None
    places = (balancer.ingress if balancer is not None else None) or []
    return next((place.hostname or place.ip for place in places if place.hostname or place.ip), None)


def _at_host(url: str, host: str) -> str:
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    port = place.rpartition(":")[2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{slash}{path}"
