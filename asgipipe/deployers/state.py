"""How a deployment is: found by asking its deployer, and then the service itself."""

from dataclasses import dataclass

from asgipipe.deployers import identity
from asgipipe.deployers.deployer import BaseDeployer
from asgipipe.deployers.probe import ask_ready
from asgipipe.deployers.records import Condition, DeploymentRecord, Status
from asgipipe.deployers.rollout import LAST_FAILURE

READY_PATH = "ready_path"
"""The member of a deployment's metadata with the whole path of its `/ready`."""


@dataclass(frozen=True, slots=True)
class State:
    """What was found, with the reason where it is not as it should be, and the last lines of the log on ERROR."""

    status: Status
    reason: str | None = None
    log: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return {"status": self.status.value, "reason": self.reason, "log": list(self.log)}


def state_of(record: DeploymentRecord, deployer: BaseDeployer) -> State:
    """Ask, and return what there is now; whoever cannot be asked makes it UNKNOWN."""
    if record.instance is None:
        return _without_instance(record)
    condition = deployer.inspect(record.instance)
    if condition.status is not Status.RUNNING:
        return _not_running(record, condition)
    url = deployer.reachable(record.instance)
    path = record.metadata.get(READY_PATH)
    if url is not None and isinstance(path, str):
        answer = ask_ready(url, path)
        if answer.status is None:
            return State(Status.ERROR, answer.reason, tuple(condition.log))
        if not answer.ready:
            return State(Status.PENDING, answer.reason)
    if record.wanted is Status.ABSENT:
        return State(Status.RUNNING, f"a command that was to end it did not finish; {_again(record, 'deprovision')}")
    return State(Status.RUNNING, condition.reason)


def _without_instance(record: DeploymentRecord) -> State:
    if record.wanted is Status.ABSENT:
        return State(Status.ABSENT)
    failure = record.metadata.get(LAST_FAILURE)
    if isinstance(failure, dict):
        return State(Status.ERROR, str(failure.get("reason")), tuple(failure.get("log") or ()))
    if record.claim is not None and not identity.is_dead(record.claim):
        return State(Status.PENDING, f"{record.claim.operation} by {record.claim.actor}")
    return State(Status.ERROR, f"a command that was to start it did not finish; {_again(record, 'provision')}")


def _not_running(record: DeploymentRecord, condition: Condition) -> State:
    status, reason = condition.status, condition.reason
    if record.wanted is Status.ABSENT and status in (Status.ABSENT, Status.ERROR):
        return State(Status.ABSENT)
    if status is Status.ABSENT:
        return State(Status.ERROR, f"{reason or 'nothing of it runs'}; {_again(record, 'provision')}")
    return State(status, reason, tuple(condition.log) if status is Status.ERROR else ())


def _again(record: DeploymentRecord, command: str) -> str:
    return f"run 'asgipipe deployment {command} {record.name}'"
