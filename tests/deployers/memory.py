"""A deployer whose instances are entries in memory, for tests of what is done with deployers."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from asgipipe.deployers.deployer import BaseDeployer, DeployerSettings, Report
from asgipipe.deployers.records import Condition, Instance, Status, Workload
from asgipipe.errors import DeploymentError


@dataclass
class Engine:
    """What runs, by deployment and revision; `calls` is what was asked of it, `script` how the next ones turn out."""

    running: dict[tuple[str, int], Condition] = field(default_factory=dict)
    workloads: list[Workload] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    script: list[Condition] = field(default_factory=list)
    broken: str | None = None


class MemoryDeployer(BaseDeployer):
    def __init__(self, engine: Engine) -> None:
        super().__init__("memory", DeployerSettings())
        self.engine = engine

    def check(self) -> None:
        if self.engine.broken is not None:
            raise DeploymentError(self.engine.broken)

    def start(self, workload: Workload, *, replaces: Instance | None, report: Report) -> Instance:
        self.check()
        self.engine.calls.append(f"start {workload.revision}" + (f" for {replaces.revision}" if replaces else ""))
        self.engine.workloads.append(workload)
        outcome = self.engine.script.pop(0) if self.engine.script else Condition(Status.RUNNING)
        self.engine.running[workload.deployment_id, workload.revision] = outcome
        return Instance(workload.revision, "http://memory", {"id": workload.deployment_id})

    def inspect(self, instance: Instance) -> Condition:
        if self.engine.broken is not None:
            return Condition(Status.UNKNOWN, self.engine.broken)
        return self.engine.running.get(self._key(instance), Condition(Status.ABSENT))

    def stop(self, instance: Instance, *, grace: float) -> None:
        self.check()
        condition = self.engine.running.get(self._key(instance))
        if condition is not None and condition.status in (Status.RUNNING, Status.PENDING):
            self.engine.calls.append(f"stop {instance.revision}")
            self.engine.running[self._key(instance)] = Condition(Status.ABSENT)

    def discard(self, instance: Instance) -> None:
        self.engine.calls.append(f"discard {instance.revision}")
        self.engine.running.pop(self._key(instance), None)

    def logs(self, instance: Instance, *, tail: int | None, follow: bool) -> Iterator[str]:
        yield f"log of {instance.revision}"

    def instances(self, deployment_id: str) -> list[Instance]:
        self.check()
        found = sorted(revision for owner, revision in self.engine.running if owner == deployment_id)
        return [Instance(revision, "http://memory", {"id": deployment_id}) for revision in found]

    def remove(self, deployment_id: str) -> None:
        self.check()
        for key in [key for key in self.engine.running if key[0] == deployment_id]:
            del self.engine.running[key]

    def reachable(self, instance: Instance) -> str | None:
        return None

    def _key(self, instance: Instance) -> tuple[str, int]:
        return str(instance.handle["id"]), instance.revision
