"""What keeps a pod from serving, in words."""

from collections.abc import Iterable
from dataclasses import dataclass

from lightkube.models.core_v1 import ContainerStateTerminated, ContainerStatus, PodStatus
from lightkube.resources.core_v1 import Pod

_HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""What does not mend itself; the kubelet tries again all the same, as it would for what does."""
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not serve; `hopeless` when waiting will not help. `started` says that it has a log."""

    reason: str
    hopeless: bool
    started: bool = False


def is_ready(pod: Pod) -> bool:
    conditions = (pod.status.conditions if pod.status else None) or []
    return any(each.type == "Ready" and each.status == "True" for each in conditions) and not is_ending(pod)


def is_ending(pod: Pod) -> bool:
    return pod.metadata is not None and pod.metadata.deletionTimestamp is not None


def trouble_of(pod: Pod) -> Trouble:
    """Return why a pod that is not ready is not."""
    status = pod.status or PodStatus()
    for container in [*(status.initContainerStatuses or []), *(status.containerStatuses or [])]:
        found = _container_trouble(container)
        if found is not None:
            return found
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return Trouble(f"no node takes it: {_line(condition.message or condition.reason)}", hopeless=False)
    if status.phase == "Failed":
        return Trouble(f"it was ended: {_line(status.message or status.reason)}", hopeless=False)
    if status.containerStatuses:
        return Trouble("its server has not started up yet", hopeless=False, started=True)
    return Trouble("it is being given to a node", hopeless=False)


def worst(pods: Iterable[Pod]) -> tuple[Pod, Trouble] | None:
    """Return the pod that says most about why some are not ready."""
    found = [(pod, trouble_of(pod)) for pod in pods if not is_ready(pod) and not is_ending(pod)]
    return max(found, key=lambda each: (each[1].hopeless, each[1].started), default=None)


def _container_trouble(container: ContainerStatus) -> Trouble | None:
    state = container.state
    last = container.lastState.terminated if container.lastState else None
    if state is not None and state.waiting is not None:
        reason, said = state.waiting.reason or "", _line(state.waiting.message)
        if reason == "CrashLoopBackOff" and last is not None:
            return Trouble(_ending(last), hopeless=True, started=True)
        if reason in {"ContainerCreating", "PodInitializing", ""}:
            return Trouble("its container is being made", hopeless=False) if last is None else None
        return Trouble(f"{reason}: {said}" if said else reason, hopeless=reason in _HOPELESS, started=last is not None)
    if state is not None and state.terminated is not None:
        return Trouble(_ending(state.terminated), hopeless=bool(state.terminated.exitCode), started=True)
    if container.restartCount and not container.ready and last is not None:
        times = "once" if container.restartCount == 1 else f"{container.restartCount} times"
        return Trouble(f"it was started anew {times}: {_ending(last)}", hopeless=True, started=True)
    return None


def _ending(ended: ContainerStateTerminated) -> str:
    if ended.reason == "OOMKilled":
        return "it was killed, since it took more memory than it may (resources.memory_limit)"
    if ended.signal:
        return f"it was ended by signal {ended.signal}"
    said = next((line for line in reversed((ended.message or "").splitlines()) if line.startswith("Error: ")), "")
    text = f"it ended with status {ended.exitCode}"
    return f"{text}: {_line(said.removeprefix('Error: '))}" if said else text


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:_LONGEST]
