"""Putting a new instance of a deployment in the place of the one before it.

    started ─► recorded as `incoming` ─► ready ─► recorded as `instance` ─► the one before it is retired
                        │
                        └─ failed, too late, interrupted ─► abandoned; the one before it serves on

The command that does this may be killed between any two of these. What it has left behind is found the next time
anything is done to the deployment: instances newer than the recorded one are abandoned, older ones retired.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from asgipipe.deployers.deployer import BaseDeployer, Report
from asgipipe.deployers.probe import ask_ready
from asgipipe.deployers.records import Condition, DeploymentRecord, Instance, Status, Workload
from asgipipe.errors import DeploymentError

ALIVE = (Status.RUNNING, Status.PENDING)
SERVED = "served"
"""The member of a deployment's metadata with the revision that served last; there is none before the first did."""
LAST_FAILURE = "last_failure"
"""The member of a deployment's metadata that tells why the last rollout failed."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at an instance that starts."""

Save = Callable[[DeploymentRecord], DeploymentRecord]
"""Writes a record to the registry, if it may still be written, and returns it."""


class RolloutError(DeploymentError):
    """An instance that did not come to serve."""

    def __init__(self, name: str, revision: int, condition: Condition, *, serving: Instance | None) -> None:
        self.revision = revision
        self.reason = condition.reason or "for an unknown reason"
        lines = [f"revision {revision} of {name} did not start: {self.reason}"]
        # The reason holds the last line of a log mostly, which says no more a second time.
        lines += [f"    {line}" for line in condition.log if line.removeprefix("Error: ") not in self.reason]
        if serving is not None:
            lines.append(f"Revision {serving.revision} serves on.")
        super().__init__("\n".join(lines))


def known_instances(record: DeploymentRecord, deployer: BaseDeployer) -> list[Instance]:
    """Return what the registry knows of and what the deployer finds, oldest first.

    Either may know of more: the deployer of what a killed command started, the registry of what was started with other
    settings of the deployer, or from another folder.
    """
    recorded = [each for each in (record.instance, record.incoming) if each is not None]
    found = {instance.revision: instance for instance in [*recorded, *deployer.instances(record.id)]}
    return [found[revision] for revision in sorted(found)]


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one command that has claimed a deployment does to its instances.

    `patience` is the seconds from the start of an instance until it must be ready, `grace` those that one may take to
    finish what it has begun when it is told to stop.
    """

    deployer: BaseDeployer
    save: Save
    patience: float
    grace: float
    report: Report

    def clean_up(self, record: DeploymentRecord) -> DeploymentRecord:
        """End what a command that was killed has left behind, and remove what ended before the last rollout."""
        current = record.instance
        for instance in known_instances(record, self.deployer):
            if current is None or instance.revision > current.revision:
                self.deployer.abandon(instance, back_to=current)
            elif instance.revision < current.revision:
                self.deployer.retire(instance, by=current, grace=self.grace)
                self.deployer.discard(instance)
        return self.save(replace(record, incoming=None)) if record.incoming is not None else record

    def run(self, before: DeploymentRecord, after: DeploymentRecord, workload: Workload) -> DeploymentRecord:
        """Start `workload` and, once it is ready, make the deployment what `after` says and end what it replaces.

        Until then, and when it does not come to that, the deployment is as `before` says. Raises RolloutError.
        """
        serving = self._serving(before)
        condition, started = self._start(before, workload, serving)
        if condition.status is not Status.RUNNING or started is None:
            self._give_up(before, workload, condition, started, serving)
            raise RolloutError(before.name, workload.revision, condition, serving=serving)
        metadata = {name: value for name, value in after.metadata.items() if name != LAST_FAILURE}
        metadata[SERVED] = workload.revision
        record = self.save(replace(after, instance=started, incoming=None, metadata=metadata))
        if serving is not None:
            self.report(f"revision {serving.revision} finishes what it has begun")
            self.deployer.retire(serving, by=started, grace=self.grace)
        return record

    def _serving(self, record: DeploymentRecord) -> Instance | None:
        current = record.instance
        if current is None:
            return None
        condition = self.deployer.inspect(current)
        if condition.status is Status.UNKNOWN:
            raise DeploymentError(
                f"nobody knows how revision {current.revision} of {record.name} is: {condition.reason}"
            )
        if condition.status in ALIVE:
            return current
        self.deployer.stop(current, grace=0.0)  # it may hold the address, or be started again by its platform
        return None

    def _start(
        self, before: DeploymentRecord, workload: Workload, serving: Instance | None
    ) -> tuple[Condition, Instance | None]:
        started: Instance | None = None
        try:
            self.report(f"starting revision {workload.revision}")
            started = self.deployer.start(workload, replaces=serving, report=self.report)
            self.save(replace(before, incoming=started))
            return self._until_ready(started, workload), started
        except DeploymentError as error:
            return Condition(Status.ERROR, str(error)), started
        except BaseException:  # boundary: an interrupted command, too, leaves nothing half started
            if started is not None:
                self.report(f"interrupted: ending revision {workload.revision}")
                self.deployer.abandon(started, back_to=serving)
            self.save(replace(before, incoming=None))
            raise

    def _until_ready(self, instance: Instance, workload: Workload) -> Condition:
        """Return RUNNING when the instance has started up and the service says that it is ready."""
        self.report(f"waiting until revision {instance.revision} is ready")
        deadline = time.monotonic() + self.patience
        pause = _SHORTEST_PAUSE
        while True:
            condition = self._look(instance, workload)
            if condition.status in (Status.RUNNING, Status.ERROR):
                return condition
            if time.monotonic() > deadline:
                reason = f"it was not ready within {self.patience:g} s"
                return replace(condition, reason=f"{reason}: {condition.reason}" if condition.reason else reason)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _look(self, instance: Instance, workload: Workload) -> Condition:
        condition = self.deployer.inspect(instance)
        if condition.status is Status.ABSENT:
            return Condition(Status.ERROR, "it has disappeared", condition.log)
        url = self.deployer.reachable(instance)
        if condition.status is not Status.RUNNING or url is None:
            return condition
        answer = ask_ready(url, workload.ready_path)
        return condition if answer.ready else Condition(Status.PENDING, answer.reason, condition.log)

    def _give_up(
        self,
        before: DeploymentRecord,
        workload: Workload,
        condition: Condition,
        started: Instance | None,
        serving: Instance | None,
    ) -> None:
        failure = {"revision": workload.revision, "reason": condition.reason, "log": list(condition.log)}
        record = replace(before, incoming=None, metadata={**before.metadata, LAST_FAILURE: failure})
        if started is not None and serving is not None:
            self.deployer.abandon(started, back_to=serving)
        elif started is not None:
            self.deployer.stop(started, grace=0.0)
            record = replace(record, instance=started)  # ended as it is, its log tells why
        self.save(record)
