"""The rules of deployments, with a deployer in memory and a registry in a file."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import time

import pytest

from asgipipe.deployers import identity
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployments import Deployments, Keys, OtherOwnerError
from asgipipe.deployers.records import Condition, DeployerRecord, Service, Snapshot, Status
from asgipipe.deployers.registry import Registry
from asgipipe.deployers.rollout import RolloutError
from asgipipe.errors import DeploymentError
from asgipipe.settings.keys import digest_of
from asgipipe.stores.registry import database
from tests.deployers.memory import Engine, MemoryDeployer

FAILED = Condition(Status.ERROR, "no model file", ("loading", "Error: no model file"))

MakeSnapshot = Callable[[str], Snapshot]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGIPIPE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("ASGIPIPE_OWNER", "ada")


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(database(str(tmp_path / "store.db"))) as registry:
        registry.add_deployer(DeployerRecord("other", "local", {}, "ada", time()))
        yield registry


@pytest.fixture
def deployments(registry: Registry, engine: Engine) -> Deployments:
    return Deployments(registry, Credentials(), load=lambda record: MemoryDeployer(engine), patience=0.2)


@pytest.fixture
def snapshot(registry: Registry) -> MakeSnapshot:
    def make(name: str) -> Snapshot:
        service = Service("http", "127.0.0.1", 8000, "", "/ready", 1.0)
        made = Snapshot(
            id=f"id-of-{name}",
            name=name,
            pipeline="hello",
            description="",
            target="hello.py",
            project="/srv",
            settings={},
            input_schema={},
            output_schema={},
            service=service,
            fingerprint="0",
            tags=(),
            created_by="ada",
            created_at=time(),
        )
        return registry.add_snapshot(made)

    return make


def test_a_new_deployment(deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot) -> None:
    """It runs, and its key is known in clear to whoever made it alone: the registry and the service have the digest."""
    deployed = deployments.deploy("hello", snapshot("one"), environment={"MODEL": "small"})
    key = deployed.key
    assert key is not None
    record = registry.deployment("hello")
    assert (record.owner, record.deployer, record.wanted, record.revision) == ("ada", "local", Status.RUNNING, 1)
    assert deployments.state(record).status is Status.RUNNING
    assert record.key_digests == (digest_of(key),)
    assert Credentials().get(record.id) == key
    (workload,) = engine.workloads
    assert workload.environment["MODEL"] == "small"
    assert json.loads(workload.environment["ASGIPIPE_AUTH_KEY"]) == [digest_of(key)]
    assert record.claim is None
    assert [entry.action for entry in registry.history(record.id)] == ["deployed"]


def test_what_serves_is_replaced_with_update_alone(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """The old one is ended when the new one is ready; key and environment stay."""
    deployments.deploy("hello", snapshot("one"), environment={"A": "1"})
    before = registry.deployment("hello")
    with pytest.raises(DeploymentError, match="'hello' exists: --update"):
        deployments.deploy("hello", snapshot("two"))
    deployed = deployments.deploy("hello", registry.snapshot("two"), update=True, environment={"B": "2"})
    assert engine.calls == ["start 1", "start 2 for 1", "stop 1"]
    assert deployed.key is None
    after = registry.deployment("hello")
    assert after.key_digests == before.key_digests
    assert after.environment == {"A": "1", "B": "2"}
    assert after.snapshot_id == registry.snapshot("two").id
    deployments.deploy("hello", snapshot("three"), update=True)
    assert engine.calls[3:] == ["discard 1", "start 3 for 2", "stop 2"]


@pytest.mark.parametrize("condition", [FAILED, Condition(Status.PENDING, "loading"), Condition(Status.ABSENT)])
def test_a_new_one_that_fails_leaves_the_old_one(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot, condition: Condition
) -> None:
    """The deployment is as before, but for the note of what failed, which is gone with the next success."""
    deployments.deploy("hello", snapshot("one"))
    before = registry.deployment("hello")
    engine.script = [condition]
    with pytest.raises(RolloutError, match=r"revision 2 of hello did not start: .+(\n.*)*\nRevision 1 serves on"):
        deployments.deploy("hello", snapshot("two"), update=True, keys=Keys(["another"]))
    after = registry.deployment("hello")
    assert after.instance == before.instance
    assert after.snapshot_id == before.snapshot_id
    assert after.key_digests == before.key_digests
    assert after.incoming is after.claim is None
    assert deployments.state(after).status is Status.RUNNING
    failure = after.metadata["last_failure"]
    assert isinstance(failure, dict)
    assert failure["revision"] == 2
    assert "stop 1" not in engine.calls
    deployments.deploy("hello", registry.snapshot("two"), update=True)
    assert "last_failure" not in registry.deployment("hello").metadata


def test_a_first_one_that_fails(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """It is in ERROR, with the reason and the last lines of the log; the same command again repairs it."""
    engine.script = [FAILED]
    with pytest.raises(RolloutError, match="no model file") as raised:
        deployments.deploy("hello", snapshot("one"))
    assert "serves on" not in str(raised.value)
    record = registry.deployment("hello")
    state = deployments.state(record)
    assert (state.status, state.reason, state.log) == (Status.ERROR, "no model file", FAILED.log)
    assert list(deployments.logs(record)) == ["log of 1"]
    deployed = deployments.deploy("hello", registry.snapshot("one"))
    assert deployed.key is not None
    assert registry.deployment("hello").key_digests == (digest_of(deployed.key),)


def test_an_interrupted_command_leaves_nothing_behind(
    deployments: Deployments,
    registry: Registry,
    engine: Engine,
    snapshot: MakeSnapshot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it had started is ended, and what served serves on."""
    deployments.deploy("hello", snapshot("one"))

    def interrupt(self: object, *_: object) -> Condition:
        raise KeyboardInterrupt

    monkeypatch.setattr("asgipipe.deployers.rollout.Rollout._until_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        deployments.deploy("hello", snapshot("two"), update=True)
    assert engine.calls == ["start 1", "start 2 for 1", "stop 2"]
    record = registry.deployment("hello")
    assert record.incoming is record.claim is None
    assert deployments.state(record).status is Status.RUNNING


def test_what_a_killed_command_left_is_cleaned_up(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """Its claim does not hold, and newer instances than the recorded one are ended first."""
    deployments.deploy("hello", snapshot("one"))
    record = registry.deployment("hello")
    killed = replace(identity.claim("deploying two"), pid=2**22 + 1)
    registry.claim(record.id, killed, identity.is_dead)
    engine.running[record.id, 2] = Condition(Status.RUNNING)
    deployments.deploy("hello", snapshot("two"), update=True)
    assert engine.calls == ["start 1", "stop 2", "start 2 for 1", "stop 1"]


def test_two_commands_at_once(deployments: Deployments, registry: Registry, snapshot: MakeSnapshot) -> None:
    """The second one is told who works on the deployment."""
    deployments.deploy("hello", snapshot("one"))
    record = registry.deployment("hello")
    registry.claim(record.id, identity.claim("deploying by hand"), identity.is_dead)
    for change in (deployments.provision, deployments.deprovision, deployments.delete, deployments.rotate_key):
        with pytest.raises(DeploymentError, match=r"ada works on deployment 'hello': deploying by hand"):
            change("hello")


def test_another_owner(
    deployments: Deployments, registry: Registry, snapshot: MakeSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed without consent; who replaces what is served, owns it then."""
    deployments.deploy("hello", snapshot("one"))
    monkeypatch.setenv("ASGIPIPE_OWNER", "grace")
    for change in (deployments.provision, deployments.deprovision, deployments.delete, deployments.rotate_key):
        with pytest.raises(OtherOwnerError, match="'hello' is ada's: confirm with --overtake"):
            change("hello")
    with pytest.raises(OtherOwnerError):
        deployments.deploy("hello", snapshot("two"), update=True)
    assert registry.deployment("hello").revision == 1
    deployments.deploy("hello", registry.snapshot("two"), update=True, overtake=True)
    assert registry.deployment("hello").owner == "grace"


def test_a_deployment_keeps_its_deployer(deployments: Deployments, engine: Engine, snapshot: MakeSnapshot) -> None:
    """To name another one is refused, before anything is done."""
    deployments.deploy("hello", snapshot("one"), deployer="other")
    with pytest.raises(DeploymentError, match="'hello' keeps its deployer, 'other'"):
        deployments.deploy("hello", snapshot("two"), deployer="local", update=True)
    assert engine.calls == ["start 1"]


def test_a_snapshot_has_one_running_deployment(
    deployments: Deployments, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """Another one may have it when the first has ended, and the first cannot come back then."""
    one = snapshot("one")
    deployments.deploy("hello", one)
    with pytest.raises(DeploymentError, match="'one' is served by deployment 'hello'"):
        deployments.deploy("again", one)
    deployments.deprovision("hello")
    deployments.deploy("again", one)
    with pytest.raises(DeploymentError, match="'one' is served by deployment 'again'"):
        deployments.provision("hello")


def test_deprovision_and_provision(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """The record stays, with key and log; what is there already, or gone already, is no mistake."""
    deployments.deploy("hello", snapshot("one"))
    before = registry.deployment("hello")
    for _ in range(2):
        record = deployments.deprovision("hello")
        assert deployments.state(record).status is Status.ABSENT
    assert list(deployments.logs(record)) == ["log of 1"]
    with pytest.raises(DeploymentError, match="--update"):
        deployments.deploy("hello", snapshot("two"))
    for _ in range(2):
        record = deployments.provision("hello")
        assert deployments.state(record).status is Status.RUNNING
    assert record.key_digests == before.key_digests
    assert engine.calls[:3] == ["start 1", "stop 1", "start 2"]
    assert engine.calls.count("start 2") == 1


def test_delete(deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot) -> None:
    """Nothing of it is left but its snapshot: no instance, record, history or key."""
    deployed = deployments.deploy("hello", snapshot("one"))
    assert deployments.delete("hello") is None
    assert engine.running == {}
    assert registry.find_deployment("hello") is None
    assert Credentials().get(deployed.record.id) is None
    assert registry.snapshot("one")


def test_delete_without_its_engine(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """It is refused, and by force says what may be left."""
    deployments.deploy("hello", snapshot("one"))
    engine.broken = "the engine does not answer"
    with pytest.raises(DeploymentError, match="does not answer"):
        deployments.delete("hello")
    record = registry.deployment("hello")
    state = deployments.state(record)
    assert (state.status, state.reason) == (Status.UNKNOWN, "the engine does not answer")
    orphaned = deployments.delete("hello", force=True)
    assert orphaned == "revision 1 of hello may still be there: the engine does not answer"
    assert registry.find_deployment("hello") is None


def test_delete_a_deployer(deployments: Deployments, registry: Registry, snapshot: MakeSnapshot) -> None:
    """Refused while it has a deployment that is not ABSENT; by force, those that nobody can end any more are named."""
    deployments.deploy("hello", snapshot("one"), deployer="other")
    with pytest.raises(DeploymentError, match="'other' has deployments that are not ABSENT: hello"):
        deployments.delete_deployer("other")
    assert deployments.delete_deployer("other", force=True) == ["hello"]
    with pytest.raises(DeploymentError, match="no deployer 'other'"):
        registry.deployer("other")
    assert deployments.state(registry.deployment("hello")).status is Status.UNKNOWN


def test_an_absent_deployment_holds_no_deployer(deployments: Deployments, snapshot: MakeSnapshot) -> None:
    """What is ABSENT cannot be orphaned."""
    deployments.deploy("hello", snapshot("one"), deployer="other")
    deployments.deprovision("hello")
    assert deployments.delete_deployer("other") == []


def test_rotating_the_key(deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot) -> None:
    """The key before it is valid until it is revoked, and the service is replaced, not stopped."""
    first = deployments.deploy("hello", snapshot("one")).key
    second = deployments.rotate_key("hello").key
    third = deployments.rotate_key("hello").key
    assert first
    assert second
    assert third
    assert registry.deployment("hello").key_digests == (digest_of(third), digest_of(second))
    assert Credentials().get(registry.deployment("hello").id) == third
    assert engine.calls[1:3] == ["start 2 for 1", "stop 1"]
    fourth = deployments.rotate_key("hello", revoke=True).key
    assert fourth
    assert registry.deployment("hello").key_digests == (digest_of(fourth),)
    deployments.deprovision("hello")
    deployments.rotate_key("hello")
    assert engine.calls[-1] == "stop 4"


def test_given_keys_and_none(deployments: Deployments, registry: Registry, snapshot: MakeSnapshot) -> None:
    """Keys that were given are kept as digests, and a deployment is open only if that was said."""
    deployments.deploy("given", snapshot("one"), keys=Keys(["theirs", digest_of("unseen")]))
    record = registry.deployment("given")
    assert record.key_digests == (digest_of("theirs"), digest_of("unseen"))
    assert Credentials().get(record.id) == "theirs"
    assert deployments.deploy("open", snapshot("two"), keys=Keys(open=True)).key is None
    deployments.deploy("open", snapshot("three"), update=True)
    assert registry.deployment("open").key_digests == ()


def test_a_failed_open_one_is_not_open_the_next_time(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """What never served has no key to keep, which is not the same as needing none."""
    engine.script = [FAILED]
    with pytest.raises(RolloutError):
        deployments.deploy("hello", snapshot("one"), keys=Keys(open=True))
    assert deployments.deploy("hello", registry.snapshot("one")).key is not None
    assert len(registry.deployment("hello").key_digests) == 1


def test_what_never_served_is_provisioned_as_it_was_asked_for(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """Its key and environment are those of the command that failed: it is never open by accident."""
    engine.script.append(FAILED)
    with pytest.raises(RolloutError):
        deployments.deploy("hello", snapshot("one"), environment={"MODEL": "small"})
    deployments.provision("hello")
    record = registry.deployment("hello")
    key = Credentials().get(record.id)
    assert key is not None
    assert record.key_digests == (digest_of(key),)
    assert engine.workloads[-1].environment["MODEL"] == "small"
    assert json.loads(engine.workloads[-1].environment["ASGIPIPE_AUTH_KEY"]) == [digest_of(key)]


def test_failures_are_in_the_history(
    deployments: Deployments, registry: Registry, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """A rollout that failed is noted with its revision and reason, whatever comes after it."""
    deployments.deploy("hello", snapshot("one"))
    engine.script.append(FAILED)
    with pytest.raises(RolloutError):
        deployments.deploy("hello", snapshot("two"), update=True)
    newest = registry.history(registry.deployment("hello").id)[0]
    assert (newest.action, newest.detail) == ("failed", {"revision": 2, "reason": "no model file"})


def test_a_claim_of_the_dead_is_not_pending(
    deployments: Deployments, registry: Registry, snapshot: MakeSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the command that starts it lives it is PENDING; when that was killed, an ERROR that says how to go on."""
    made = deployments._add("hello", snapshot("one"), "local")
    claim = identity.claim("deploying one")
    registry.claim(made.id, claim, identity.is_dead)
    record = registry.save(replace(made, wanted=Status.RUNNING), claim)
    assert deployments.state(record).status is Status.PENDING
    monkeypatch.setattr(identity, "is_dead", lambda claim: True)
    state = deployments.state(record)
    assert state.status is Status.ERROR
    assert "provision hello" in str(state.reason)


def test_what_is_checked_before_a_snapshot_is_made(
    deployments: Deployments, engine: Engine, snapshot: MakeSnapshot
) -> None:
    """A name that nothing can have, a deployer that is not known or does not work, and one that is ABSENT."""

    def check(name: str, deployer: str | None = None) -> None:
        deployments.check_deploy(name, deployer=deployer, update=False, overtake=False)

    check("hello")
    with pytest.raises(DeploymentError, match="cannot name a deployment"):
        check("-hello")
    with pytest.raises(DeploymentError, match="there is no deployer 'nobody'"):
        check("hello", "nobody")
    deployments.deploy("hello", snapshot("one"))
    deployments.deprovision("hello")
    with pytest.raises(DeploymentError, match="'asgipipe deployment provision hello' starts it as it was"):
        check("hello")
    engine.broken = "the engine is not there"
    with pytest.raises(DeploymentError, match="the engine is not there"):
        check("other")
