"""What keeps a pod from serving, in words."""

from collections.abc import Iterable
from dataclasses import dataclass

from lightkube.models.core_v1 import ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodStatus
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
    """Why a pod does not serve; `hopeless` when waiting will not help.

    `started` says that it has a log, `last_words` are the end of that, where its container has ended.
    """

    reason: str
    hopeless: bool
    started: bool = False
    last_words: str = ""


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
        return _waiting(state.waiting, last)
    if state is not None and state.terminated is not None:
        return _ended(state.terminated, hopeless=bool(state.terminated.exitCode))
    if container.restartCount and not container.ready and last is not None:
        times = "once" if container.restartCount == 1 else f"{container.restartCount} times"
        return _ended(last, hopeless=True, then=f", and was started anew {times}")
    return None


def _waiting(waiting: ContainerStateWaiting, last: ContainerStateTerminated | None) -> Trouble:
    reason, said = waiting.reason or "", _line(waiting.message)
    if reason == "CrashLoopBackOff" and last is not None:
        return _ended(last, hopeless=True, then=" and is started again")
    if reason in {"ContainerCreating", "PodInitializing", ""}:
        return Trouble("its container is being made", hopeless=False)
    text = f"{reason}: {said}" if said else reason
    return Trouble(text, hopeless=reason in _HOPELESS, started=last is not None)


def _ended(ended: ContainerStateTerminated, *, hopeless: bool, then: str = "") -> Trouble:
    if ended.reason == "OOMKilled":
        reason = "it was killed, since it took more memory than it may (resources.memory_limit)"
    elif ended.signal:
        reason = f"it was ended by signal {ended.signal}"
    else:
        reason = f"it ended with status {ended.exitCode}"
    return Trouble(f"{reason}{then}", hopeless=hopeless, started=True, last_words=ended.message or "")


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:_LONGEST]
