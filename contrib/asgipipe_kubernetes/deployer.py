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

from lightkube import Client
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.core_v1 import Pod, Service

from asgipipe.deployers.deployer import BaseDeployer, DeployerSettings, Report
from asgipipe.deployers.records import Condition, Instance, JSONObject, Status, Workload
from asgipipe.errors import DeploymentError
from asgipipe_kubernetes import images, logs, manifests, objects, reading, rendering, revisions
from asgipipe_kubernetes.cluster import UnreachableError, connected, kubectl, namespace_of
from asgipipe_kubernetes.manifests import Manifest, key_of
from asgipipe_kubernetes.names import DEPLOYMENT, REVISION, revision_name, selector
from asgipipe_kubernetes.plan import CLEAN_UP, Plan
from asgipipe_kubernetes.settings import KubernetesDeployerSettings
from asgipipe_kubernetes.templates import additional

_PAUSE = 0.3
_FORCED = 2
"""Seconds that a pod may take to end when it is given none."""
_NEEDED = {
    ("apps", "deployments"): ("get", "patch", "delete"),
    ("", "services"): ("get", "patch", "delete"),
    ("", "secrets"): ("get", "list", "create", "patch", "delete"),
    ("", "configmaps"): ("get", "list", "patch", "delete"),
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
        return rendering.documents(self._wanted(workload)[1], with_secrets=with_secrets)

    # Start

    def start(self, workload: Workload, *, replaces: Instance | None, report: Report) -> Instance:
        with connected(self._settings) as client:
            plan, _ = self._wanted(workload)
            instance = _instance(plan)
            if _applied(_deployment(client, instance)) == workload.revision:
                return instance
            plan = replace(plan, image=images.push(workload, self._settings, report))
            if not plan.has_shared_store:
                report("jobs and recorded runs end with their pod: store_url names no PostgreSQL database")
            report("applying the objects")
            self._apply(client, instance, self._objects(plan))
            return instance

    def _wanted(self, workload: Workload) -> tuple[Plan, list[Manifest]]:
        namespace = namespace_of(self._settings)
        plan = Plan(workload, self._settings, "", namespace)
        plan.check()
        plan = replace(plan, image=images.image_of(workload, self._settings))
        return plan, self._objects(plan)

    def _objects(self, plan: Plan) -> list[Manifest]:
        """Return all objects of a revision, its record first: by it, all others are found if this is cut short."""
        found = manifests.built_in(plan)
        for manifest in found:
            manifest.setdefault("metadata", {})
        own = [*additional(plan), *found]
        return [manifests.record(plan, own), *own]

    def _apply(self, client: Client, instance: Instance, wanted: Sequence[Manifest]) -> None:
        scaled = self._drop_autoscaler(client, instance, wanted)
        deployment_id = str(instance.handle["deployment"])
        objects.apply(client, wanted, deployment_id=deployment_id, force=self._settings.force_conflicts or scaled)

    def _drop_autoscaler(self, client: Client, instance: Instance, wanted: Sequence[Manifest]) -> bool:
        """Delete one that is no longer wanted, before the number of pods is said; say whether there was one."""
        if any(each["kind"] == "HorizontalPodAutoscaler" for each in wanted):
            return False
        found = [
            objects.name_of(each)
            for each in objects.listed(client, objects.SHARED[0], _labels(instance), _namespace(instance))
        ]
        for name in found:
            objects.delete(client, objects.SHARED[0], name, _namespace(instance))
        return bool(found)

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
        if any(map(reading.is_ready, pods)):
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
                for resource in objects.SHARED:
                    if resource is not Service:
                        objects.delete(client, resource, str(instance.handle["name"]), _namespace(instance))
            self._end_pods(client, instance, grace)

    def _keep_end(self, client: Client, instance: Instance) -> None:
        """Keep the end of the log with the record, and why it failed if it did: with the pods, both are gone."""
        condition = self._condition(client, instance)
        lines = tuple(logs.all_lines(client, _pods(client, instance), revisions.MOST_LINES))
        failed = condition.reason if condition.status is Status.ERROR else None
        if revisions.revision(client, instance) is not None:
            revisions.record_end(client, instance, revisions.End(failed, lines))

    def _end_pods(self, client: Client, instance: Instance, grace: float) -> None:
        """Wait until the pods have ended, which were given their own time for it: no more than `grace` if it is less."""
        began = time.monotonic()
        patience = self._settings.pre_stop + grace + CLEAN_UP
        while pods := _pods(client, instance):
            waited = time.monotonic() - began
            if waited > patience + _FORCED:
                return  # its node does not answer: the cluster ends it when it does
            left = patience - waited if grace else 0.0
            for pod in pods:
                if _time_left(pod) > left:
                    objects.delete(client, Pod, objects.name_of(pod), _namespace(instance), grace=math.ceil(left))
            time.sleep(_PAUSE)

    def retire(self, instance: Instance, *, by: Instance, grace: float) -> None:
        """Its pods have ended or are ending; what its revision had besides, and the new one has not, is deleted."""
        with connected(self._settings) as client:
            self._prune(client, instance, by)
            self._end_pods(client, instance, max(grace, 0.1))

    def abandon(self, instance: Instance, *, back_to: Instance | None) -> None:
        if back_to is None:
            self.stop(instance, grace=0.0)
            return
        with connected(self._settings) as client:
            applied = _applied(_deployment(client, instance))
            before = revisions.revision(client, back_to)
            if applied != back_to.revision:
                if before is None:
                    raise DeploymentError(
                        f"the record of revision {back_to.revision} is gone from the cluster, which cannot be gone back "
                        "to: deploy it anew"
                    )
                if applied == instance.revision:
                    self._keep_end(client, instance)
                self._apply(client, back_to, before.manifests)
            self._prune(client, instance, back_to)
            self._end_pods(client, instance, 0.0)

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
                for found in objects.listed(client, resource, labels, _namespace(instance)):
                    objects.delete(client, resource, objects.name_of(found), _namespace(instance))

    def remove(self, deployment_id: str) -> None:
        with connected(self._settings) as client:
            for recorded in revisions.revisions(client, deployment_id):
                for manifest in recorded.manifests:
                    objects.delete_manifest(client, manifest, deployment_id)
            for resource in (*objects.SHARED, *objects.OF_REVISIONS):
                for found in objects.listed(client, resource, selector(deployment_id), None):
                    objects.delete(client, resource, objects.name_of(found), None)


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


def _time_left(pod: Pod) -> float:
    """Return the seconds until a pod is killed; without end for one that was not told to end."""
    assert pod.metadata is not None
    if pod.metadata.deletionTimestamp is None:
        return math.inf
    return pod.metadata.deletionTimestamp.timestamp() - time.time()


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


__all__ = ["KubernetesDeployer", "revision_name"]
