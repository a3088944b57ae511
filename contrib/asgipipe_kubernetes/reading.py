"""How a revision is, from what its Deployment and its pods say."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightkube import ApiError, Client
from lightkube.models.apps_v1 import DeploymentCondition, DeploymentStatus
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Event, Pod

from asgipipe.deployers.records import Condition, Status
from asgipipe_kubernetes.logs import last_lines
from asgipipe_kubernetes.objects import name_of
from asgipipe_kubernetes.pod_state import Trouble, is_ready, worst

_SHOWN = 20
"""Last lines of a log that tell about an error."""
_LONGEST = 600


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the Deployment says of the revision that was applied last, with the pods of that revision."""

    deployment: Deployment
    pods: Sequence[Pod]

    @property
    def wanted(self) -> int:
        replicas = self.deployment.spec.replicas
        return 1 if replicas is None else replicas

    @property
    def status(self) -> DeploymentStatus:
        status = self.deployment.status
        return DeploymentStatus() if status is None else status

    @property
    def is_seen(self) -> bool:
        """Whether the status is that of what was applied, and not of what was before."""
        metadata = self.deployment.metadata
        generation = metadata.generation if metadata is not None else None
        return (self.status.observedGeneration or 0) >= (generation or 0)

    @property
    def is_complete(self) -> bool:
        """Whether all pods are of this revision, and serve."""
        status = self.status
        updated = status.updatedReplicas or 0
        return updated >= self.wanted and status.replicas == updated and (status.availableReplicas or 0) >= updated

    @property
    def has_been_complete(self) -> bool:
        found = self.condition("Progressing")
        return found is not None and found.reason == "NewReplicaSetAvailable"

    def condition(self, kind: str) -> DeploymentCondition | None:
        return next((each for each in self.status.conditions or [] if each.type == kind), None)


def condition_of(client: Client, rollout: Rollout) -> Condition:
    """Return how the revision that was applied last is."""
    if rollout.wanted == 0:
        return Condition(Status.ABSENT, f"the Deployment {name_of(rollout.deployment)} was scaled to 0 replicas")
    if not rollout.is_seen:
        return Condition(Status.PENDING, "the cluster has not taken it up yet")
    if rollout.is_complete:
        return Condition(Status.RUNNING)
    available = sum(is_ready(pod) for pod in rollout.pods)
    found = worst(rollout.pods)
    if rollout.has_been_complete and available:
        return Condition(
            Status.RUNNING, _line(f"{available} of {rollout.wanted} pods serve{_because(client, found, ': ')}")
        )
    return _not_complete(client, rollout, found, available)


def _not_complete(client: Client, rollout: Rollout, found: tuple[Pod, Trouble] | None, available: int) -> Condition:
    refused, progress = rollout.condition("ReplicaFailure"), rollout.condition("Progressing")
    if found is not None and found[1].hopeless:
        return _failed(client, found)
    if refused is not None and refused.status == "True" and not rollout.pods:
        return Condition(Status.ERROR, _line(f"the cluster makes no pods of it: {refused.message}"))
    if progress is not None and progress.reason == "ProgressDeadlineExceeded":
        reason = f"it did not start up in time (start_timeout){_because(client, found, ': ')}"
        return Condition(Status.ERROR, _line(reason), _log(client, found))
    if found is None:
        reason = f"{available} of {rollout.wanted} pods serve, and those of the revision before are being ended"
        return Condition(Status.PENDING, reason if available else "its pods are being made")
    return Condition(
        Status.PENDING, _line(f"{available} of {rollout.wanted} pods serve{_because(client, found, ': ')}")
    )


def _failed(client: Client, found: tuple[Pod, Trouble]) -> Condition:
    pod, trouble = found
    log = _log(client, found) or trouble.last_words.splitlines()[-_SHOWN:]
    said = next((line for line in reversed(log) if line.startswith("Error: ")), "").removeprefix("Error: ")
    return Condition(Status.ERROR, _line(f"pod {name_of(pod)}: {trouble.reason}" + (f": {said}" if said else "")), log)


def _log(client: Client, found: tuple[Pod, Trouble] | None) -> list[str]:
    return last_lines(client, found[0], _SHOWN) if found is not None and found[1].started else []


def _because(client: Client, found: tuple[Pod, Trouble] | None, before: str) -> str:
    """Return what is known about the pod that says most, the last warning about it included."""
    if found is None:
        return ""
    pod, trouble = found
    warning = "" if trouble.hopeless else _warning(client, pod)
    return f"{before}pod {name_of(pod)}: {trouble.reason}" + (f" ({warning})" if warning else "")


def _warning(client: Client, pod: Pod) -> str:
    """Return the last warning about a pod: a volume that cannot be mounted, a probe that fails."""
    assert pod.metadata is not None
    fields = {"involvedObject.name": name_of(pod), "type": "Warning"}
    try:
        events = list(client.list(Event, namespace=pod.metadata.namespace, fields=dict(fields)))
    except ApiError:  # not everybody may read events, and they only add to what is known
        return ""
    events.sort(key=lambda event: str(event.lastTimestamp or event.eventTime or ""))
    return f"{events[-1].reason}: {events[-1].message}" if events else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
