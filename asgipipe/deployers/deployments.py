"""What may be done to deployments, and by whom.

One command at a time works on a deployment: it claims it in the registry first. One that was killed is repaired by
running it again: its claim ends with its process, and what it left behind is cleaned up by whoever comes next.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time

from asgipipe.deployers import identity
from asgipipe.deployers.claimed import ClaimedDeployment
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployer import BaseDeployer, Report
from asgipipe.deployers.flavors import make_deployer
from asgipipe.deployers.records import DeployerRecord, DeploymentRecord, JSONObject, Snapshot, Status, Workload
from asgipipe.deployers.registry import Registry
from asgipipe.deployers.registry.names import check_name
from asgipipe.deployers.rollout import ALIVE, SERVED, Rollout, RolloutError, known_instances
from asgipipe.deployers.state import READY_PATH, State, state_of
from asgipipe.errors import DeploymentError, UserError
from asgipipe.identifiers import derived
from asgipipe.settings.keys import digest_in, digest_of

PATIENCE = 120.0
"""Seconds that an instance may take from its start until it is ready."""

LOCAL = "local"
"""The deployer that is always there."""

_LONGEST_REASON = 500
"""Characters of a failure in the history; the metadata of the deployment have all of the last one."""

_KEYS_AT_ONCE = 2
"""The newest key, and the one before it until it is revoked."""


class OtherOwnerError(DeploymentError):
    """A deployment is somebody else's, and to change it has to be confirmed (`overtake`)."""

    def __init__(self, record: DeploymentRecord) -> None:
        super().__init__(f"deployment {record.name!r} is {record.owner}'s: confirm with --overtake that you change it")
        self.owner = record.owner


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment that was provisioned; `key` is its new key in clear, shown this once."""

    record: DeploymentRecord
    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keys:
    """How callers of a deployment are known: by the keys `given`, by one that is made up, or, if it is `open`, not."""

    given: Sequence[str] = field(default=(), repr=False)
    open: bool = False


def no_report(text: str) -> None:
    """Say nothing while somebody waits."""


class Deployments:
    """The deployments of a registry. Methods block, and raise DeploymentError and StoreError."""

    def __init__(
        self,
        registry: Registry,
        credentials: Credentials,
        *,
        load: Callable[[DeployerRecord], BaseDeployer] = make_deployer,
        patience: float = PATIENCE,
        report: Report = no_report,
    ) -> None:
        self._registry = registry
        self._credentials = credentials
        self._load = load
        self._patience = patience
        self._report = report

    # Asking

    def state(self, record: DeploymentRecord) -> State:
        """Return how a deployment is now; never raises for what its deployer cannot do."""
        try:
            return state_of(record, self.deployer_of(record))
        except UserError as error:
            return State(Status.UNKNOWN, str(error))

    def deployer_of(self, record: DeploymentRecord) -> BaseDeployer:
        return self._load(self._registry.deployer(record.deployer))

    def logs(self, record: DeploymentRecord, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield lines of the log of what serves, or served last."""
        if record.instance is None:
            raise DeploymentError(f"deployment {record.name!r} has no log: nothing of it was ever started")
        return self.deployer_of(record).logs(record.instance, tail=tail, follow=follow)

    def commands(self, record: DeploymentRecord) -> JSONObject:
        """Return commands of the platform's own for what serves, by what they are for."""
        if record.instance is None:
            return {}
        try:
            return self.deployer_of(record).commands(record.instance)
        except UserError:  # as `state` tells, with the reason
            return {}

    # Changing

    def check_deploy(self, name: str, *, deployer: str | None, update: bool, overtake: bool) -> None:
        """Raise what `deploy` would refuse, before a snapshot is made for it."""
        record = self._registry.find_deployment(name)
        if record is None:
            check_name("deployment", name)
            self._load(self._registry.deployer(deployer or LOCAL)).check()
        else:
            _check_owner(record, overtake)
            self._check_update(record, deployer=deployer, update=update)

    def deploy(
        self,
        name: str,
        snapshot: Snapshot,
        *,
        deployer: str | None = None,
        environment: Mapping[str, str] | None = None,
        keys: Keys | None = None,
        update: bool = False,
        overtake: bool = False,
    ) -> Deployed:
        """Make `name` serve `snapshot`, and return once it does.

        A new deployment is of the deployer called `deployer`, or the local one. What serves already is replaced with
        `update` alone. `environment` is added to that of before, and `keys` replace those of before.
        """
        self._refuse_second_use(snapshot, name)
        found = self._registry.find_deployment(name) or self._add(name, snapshot, deployer or LOCAL)
        with self._claimed(found, f"deploying {snapshot.name}", overtake) as work:
            self._check_update(work.record, deployer=deployer, update=update)
            known = SERVED in work.record.metadata
            digests, key = _keys(work.record, keys)
            after = replace(
                work.record,
                snapshot_id=snapshot.id,
                owner=identity.actor() if overtake else work.record.owner,
                environment={**_kept(work.record, snapshot), **(environment or {})},
                key_digests=digests,
            )
            if not known:
                # Nothing serves yet: should this be cut short, provisioning starts what was asked for, with its keys.
                if key is not None:
                    self._credentials.put(work.record.id, key)
                work.save(after)
            self._roll_out(work, after, snapshot)
            if key is not None and known:
                self._credentials.put(work.record.id, key)
            work.note("deployed", {"snapshot": snapshot.name, "revision": work.record.revision})
        return Deployed(work.record, key)

    def provision(self, name: str, *, overtake: bool = False) -> DeploymentRecord:
        """Start what the deployment served last; nothing happens when it serves."""
        with self._claimed(self._registry.deployment(name), "provisioning", overtake) as work:
            if work.record.wanted is Status.RUNNING and self.state(work.record).status is Status.RUNNING:
                return work.record
            snapshot = self._registry.snapshot(work.record.snapshot_id)
            self._refuse_second_use(snapshot, work.record.name)
            self._roll_out(work, work.record, snapshot)
            work.note("provisioned", {"revision": work.record.revision})
        return work.record

    def deprovision(self, name: str, *, overtake: bool = False) -> DeploymentRecord:
        """End what serves, when it has finished what it has begun; the deployment stays known, to be provisioned."""
        with self._claimed(self._registry.deployment(name), "deprovisioning", overtake) as work:
            self._end(work)
            work.note("deprovisioned", {"revision": work.record.revision})
        return work.record

    def delete(self, name: str, *, overtake: bool = False, force: bool = False) -> str | None:
        """End what serves, and forget the deployment; its snapshots stay.

        With `force` it is forgotten also when its deployer cannot end it; what may be left then is returned.
        """
        orphaned = None
        with self._claimed(self._registry.deployment(name), "deleting", overtake) as work:
            try:
                self._end(work)
                self._remove(work.record)
            except UserError as error:
                if not force:
                    raise
                orphaned = f"revision {work.record.revision} of {name} may still be there: {error}"
            work.delete()
        self._credentials.remove(work.record.id)
        return orphaned

    def rotate_key(self, name: str, *, revoke: bool = False, overtake: bool = False) -> Deployed:
        """Give a deployment a new key; the one before it stays valid until it is revoked, by this or a later call."""
        key = secrets.token_urlsafe(32)
        with self._claimed(self._registry.deployment(name), "rotating its key", overtake) as work:
            kept = () if revoke else work.record.key_digests[: _KEYS_AT_ONCE - 1]
            after = replace(work.record, key_digests=(digest_of(key), *kept))
            if work.record.wanted is Status.RUNNING:
                self._roll_out(work, after, self._registry.snapshot(work.record.snapshot_id))
            else:
                work.save(after)
            self._credentials.put(work.record.id, key)
            work.note("key rotated", {"revoked": revoke})
        return Deployed(work.record, key)

    def delete_deployer(self, name: str, *, force: bool = False) -> list[str]:
        """Forget a deployer, with `force` also one that has deployments that are not ABSENT; return their names."""
        self._registry.deployer(name)
        left = [
            record.name
            for record in self._registry.deployments(deployer=name)
            if self.state(record).status is not Status.ABSENT
        ]
        if left and not force:
            raise DeploymentError(
                f"deployer {name!r} has deployments that are not ABSENT: {', '.join(left)}; deprovision them, or give "
                "--force, which may leave what runs of them behind for ever"
            )
        self._registry.delete_deployer(name, force=True)  # what that asks of records, was asked of deployers here
        return left

    # Parts

    def _claimed(self, record: DeploymentRecord, operation: str, overtake: bool) -> ClaimedDeployment:
        _check_owner(record, overtake)
        return ClaimedDeployment(self._registry, record, operation)

    def _add(self, name: str, snapshot: Snapshot, deployer: str) -> DeploymentRecord:
        self._load(self._registry.deployer(deployer)).check()
        now = time()
        record = DeploymentRecord(
            id=derived("deployment", name),
            name=name,
            snapshot_id=snapshot.id,
            deployer=deployer,
            owner=identity.actor(),
            wanted=Status.ABSENT,
            revision=0,
            instance=None,
            incoming=None,
            key_digests=(),
            environment={},
            claim=None,
            metadata={},
            created_at=now,
            updated_at=now,
        )
        self._registry.add_deployment(record)
        return record

    def _check_update(self, record: DeploymentRecord, *, deployer: str | None, update: bool) -> None:
        if deployer is not None and deployer != record.deployer:
            raise DeploymentError(
                f"deployment {record.name!r} keeps its deployer, {record.deployer!r}: delete it first, or take another "
                "name"
            )
        if update or SERVED not in record.metadata:  # what never came to serve is repaired by the same command
            return
        serves = record.instance is not None and self.deployer_of(record).inspect(record.instance).status in ALIVE
        if serves:
            raise DeploymentError(f"deployment {record.name!r} exists: --update replaces what it serves")
        if record.wanted is Status.ABSENT:
            raise DeploymentError(
                f"deployment {record.name!r} exists, and is ABSENT: --update replaces it, and 'asgipipe deployment "
                f"provision {record.name}' starts it as it was"
            )

    def _refuse_second_use(self, snapshot: Snapshot, name: str) -> None:
        for other in self._registry.deployments(snapshot_id=snapshot.id):
            if other.name != name and other.wanted is Status.RUNNING:
                raise DeploymentError(
                    f"snapshot {snapshot.name!r} is served by deployment {other.name!r}, and has one running "
                    "deployment at most: make another snapshot of it, or deprovision that one"
                )

    def _roll_out(self, work: ClaimedDeployment, after: DeploymentRecord, snapshot: Snapshot) -> None:
        rollout = Rollout(
            self.deployer_of(after),
            work.save,
            patience=self._patience,
            grace=snapshot.service.drain,
            report=self._report,
        )
        record = rollout.clean_up(work.record)
        number = record.revision + 1
        before = work.save(replace(record, revision=number, wanted=Status.RUNNING))
        metadata = {**after.metadata, READY_PATH: snapshot.service.ready_path}
        after = replace(after, revision=number, wanted=Status.RUNNING, metadata=metadata)
        try:
            rollout.run(before, after, _workload(after, snapshot))
        except RolloutError as error:
            work.note("failed", {"revision": error.revision, "reason": error.reason[:_LONGEST_REASON]})
            raise

    def _end(self, work: ClaimedDeployment) -> None:
        grace = self._registry.snapshot(work.record.snapshot_id).service.drain
        work.save(replace(work.record, wanted=Status.ABSENT))
        own = self.deployer_of(work.record)
        self._report("waiting until it has finished what it has begun")
        for instance in known_instances(work.record, own):
            own.stop(instance, grace=grace)
        work.save(replace(work.record, incoming=None))

    def _remove(self, record: DeploymentRecord) -> None:
        own = self.deployer_of(record)
        for instance in known_instances(record, own):  # also one that was started from another folder
            own.discard(instance)
        own.remove(record.id)


def _check_owner(record: DeploymentRecord, overtake: bool) -> None:
    if record.owner != identity.actor() and not overtake:
        raise OtherOwnerError(record)


def _kept(record: DeploymentRecord, snapshot: Snapshot) -> dict[str, str]:
    """Return what stays of the environment: secret settings belong to the snapshot that they were deployed with."""
    same = snapshot.id == record.snapshot_id
    return {name: value for name, value in record.environment.items() if same or not name.startswith("ASGIPIPE_")}


def _keys(record: DeploymentRecord, keys: Keys | None) -> tuple[tuple[str, ...], str | None]:
    """Return the digests that the service is to accept, and a key in clear where there is a new one."""
    if keys is not None and keys.open:
        return (), None
    if keys is not None and keys.given:
        digests = tuple(key if digest_in(key) is not None else digest_of(key) for key in keys.given)
        return digests, next((key for key in keys.given if digest_in(key) is None), None)
    if SERVED in record.metadata:
        return record.key_digests, None
    key = secrets.token_urlsafe(32)
    return (digest_of(key),), key


def _workload(record: DeploymentRecord, snapshot: Snapshot) -> Workload:
    # A key that the settings want made up is the deployment's, which was made up with it.
    keys = {"ASGIPIPE_GENERATE_AUTH_KEY": "false"}
    if record.key_digests:
        keys["ASGIPIPE_AUTH_KEY"] = json.dumps(record.key_digests)
    return Workload(
        deployment_id=record.id,
        name=record.name,
        revision=record.revision,
        target=snapshot.target,
        project=snapshot.project,
        settings=snapshot.settings,
        environment={**record.environment, **keys},
        scheme=snapshot.service.scheme,
        host=snapshot.service.host,
        port=snapshot.service.port,
        root=snapshot.service.root,
        ready_path=snapshot.service.ready_path,
        drain=snapshot.service.drain,
        health_path=snapshot.service.health_path,
        shared_store=snapshot.service.shared_store,
    )
