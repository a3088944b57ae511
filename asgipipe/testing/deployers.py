"""What a deployer has to prove: one class of pytest tests, to be subclassed for each.

class MySubject(DeployerSubject):
    def deployer(self): return MyDeployer("mine", MyDeployerSettings())
    def workload(self, target, project, settings): ...

class TestMine(DeployerConformance):
    @pytest.fixture
    def subject(self): return MySubject()

What a platform cannot do stands in the subject's `lacks`, with the reason why; the tests that need it are skipped.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar
from urllib.parse import urljoin

import httpx
import psutil
import pytest

from asgipipe.deployers.deployer import BaseDeployer
from asgipipe.deployers.records import Condition, Instance, JSONObject, Status, Workload
from asgipipe.testing import deployed

PATIENCE = 60.0
"""Seconds until something that normally takes a few at most is given up."""
GRACE = 10.0
"""Seconds that an instance has to finish what it has begun."""
CANARY = "canary-0123456789"


class Capability(StrEnum):
    """What some platforms cannot do."""

    ONE_ADDRESS = "one address"
    """The instance that replaces another is reached at its address, so that no request fails while it does."""
    PROCESSES_HERE = "processes here"
    """The processes are this machine's, for those who list them."""


class DeployerSubject(ABC):
    """A deployer under test. Every workload is a new deployment's, and everything it leaves is the test's own."""

    lacks: ClassVar[Mapping[Capability, str]] = {}
    servers: ClassVar[Mapping[str, JSONObject]] = {
        "uvicorn-1": {},
        "uvicorn-2": {"uvicorn_workers": 2},
        "gunicorn-2": {"server": "gunicorn", "uvicorn_workers": 2},
    }
    """Settings of the server by a name: what depends on the kind and number of workers is tried with each."""

    @abstractmethod
    def deployer(self) -> BaseDeployer:
        """Return the deployer, anew each time: another command has another object."""

    @abstractmethod
    def workload(self, target: str, project: Path, settings: JSONObject) -> Workload:
        """Return revision 1 of a new deployment, at any free address, with `settings` for DeploymentSettings."""

    def leftovers(self, deployment_id: str) -> Sequence[object]:
        """Return what there is of a deployment that its deployer does not tell: files, images, networks."""
        return ()

    def readable(self, deployment_id: str) -> Iterator[tuple[str, bytes]]:
        """Yield what others on the machine can read of a deployment: files by name, with their content."""
        yield from ()


@dataclass
class Stage:
    """One deployer at work on one deployment; whatever was started is ended when the test ends."""

    subject: DeployerSubject
    project: Path
    deployer: BaseDeployer = field(init=False)
    _ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.deployer = self.subject.deployer()

    def workload(self, label: str = "one", settings: JSONObject | None = None, **environment: str) -> Workload:
        target = deployed.write_project(self.project)
        made = self.subject.workload(target, self.project, settings or {})
        self._ids.add(made.deployment_id)
        return replace(made, environment={**made.environment, "LABEL": label, **environment})

    def start(self, workload: Workload, replaces: Instance | None = None) -> Instance:
        return self.deployer.start(workload, replaces=replaces, report=lambda _: None)

    def started(self, workload: Workload, replaces: Instance | None = None) -> Instance:
        """Start a workload, and wait until it is RUNNING."""
        instance = self.start(workload, replaces)
        condition = self.settled(instance)
        assert condition.status is Status.RUNNING, "\n".join((str(condition.reason), *condition.log))
        return instance

    def settled(self, instance: Instance) -> Condition:
        """Return the first condition that is not PENDING."""
        found: list[Condition] = []

        def settled() -> bool:
            found[:] = [self.deployer.inspect(instance)]
            return found[0].status is not Status.PENDING

        until(settled, "an end of PENDING")
        return found[0]

    def url(self, instance: Instance) -> str:
        url = self.deployer.reachable(instance)
        if url is None:
            pytest.skip("this machine cannot reach the service")
        return url

    def ask(self, instance: Instance, **parameters: object) -> str:
        return answer_of(httpx.post(f"{self.url(instance)}/invoke", json={"parameters": parameters}, timeout=PATIENCE))

    def log(self, instance: Instance, tail: int | None = None) -> list[str]:
        return list(self.deployer.logs(instance, tail=tail, follow=False))

    def until_logged(self, instance: Instance, text: str) -> None:
        until(lambda: any(text in line for line in self.log(instance)), f"{text!r} in the log")

    def is_over(self, instance: Instance) -> bool:
        return self.deployer.inspect(instance).status in {Status.ERROR, Status.ABSENT}

    def close(self) -> None:
        for deployment_id in self._ids:
            for instance in self.deployer.instances(deployment_id):
                self.deployer.stop(instance, grace=0.0)
            self.deployer.remove(deployment_id)


def next_revision(workload: Workload, label: str, **environment: str) -> Workload:
    changed = {**workload.environment, "LABEL": label, **environment}
    return replace(workload, revision=workload.revision + 1, environment=changed)


def answer_of(response: httpx.Response) -> str:
    response.raise_for_status()
    return str(response.json()["outputs"]["output"])


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


@dataclass
class Load:
    """Clients that ask all the time, one on a connection that it keeps, one on a new connection for every request.

    `answers` counts the labels that came, `failures` holds whatever else happened.
    """

    url: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=target) for target in (self._keep, self._reconnect)]
        for thread in threads:
            thread.start()
        try:
            self.until_answers_more()
            yield
            self.until_answers_more()
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def until_answers_more(self, label: str | None = None) -> None:
        def count() -> int:
            return self.answers.total() if label is None else self.answers[label]

        enough = count() + 20
        until(lambda: count() >= enough or bool(self.failures), "answers under load")

    def _keep(self) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            while not self._over.is_set():
                self._ask(client)

    def _reconnect(self) -> None:
        while not self._over.is_set():
            with httpx.Client(timeout=PATIENCE) as client:
                self._ask(client)

    def _ask(self, client: httpx.Client) -> None:
        time.sleep(0.002)  # a moment in which a server may close the connection
        try:
            self.answers[answer_of(client.post(f"{self.url}/invoke", json={"parameters": {}}))] += 1
        except (httpx.HTTPError, ValueError, KeyError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")


class DeployerConformance:
    """Subclass it with a fixture `subject`."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> DeployerSubject:
        raise NotImplementedError("a subclass says what is tested")

    @pytest.fixture
    def stage(self, subject: DeployerSubject, tmp_path: Path) -> Iterator[Stage]:
        stage = Stage(subject, tmp_path / "project")
        with closing(stage):
            yield stage

    @pytest.fixture(params=list(DeployerSubject.servers))
    def server(self, request: pytest.FixtureRequest, subject: DeployerSubject) -> JSONObject:
        """The settings of each kind of server."""
        if request.param not in subject.servers:
            pytest.skip(f"this subject has no {request.param}")
        if request.param.startswith("gunicorn"):
            pytest.importorskip("uvicorn_worker", reason="gunicorn or uvicorn-worker is not installed")
        return subject.servers[request.param]

    # Starting

    def test_the_platform_can_be_used(self, stage: Stage) -> None:
        """The check of a deployer that can provision raises nothing."""
        stage.deployer.check()

    def test_an_instance_runs_only_when_it_has_started_up(self, stage: Stage) -> None:
        """It is PENDING while its start takes its time, then RUNNING, and answers from that moment on."""
        workload = stage.workload(START="1")
        began = time.monotonic()
        instance = stage.start(workload)
        assert stage.settled(instance).status is Status.RUNNING
        assert time.monotonic() - began >= 1.0
        assert stage.ask(instance) == "one"
        assert httpx.get(urljoin(stage.url(instance), workload.ready_path), timeout=PATIENCE).status_code == 200

    def test_a_start_that_fails_is_an_error(self, stage: Stage, server: JSONObject) -> None:
        """An instance whose start fails is ERROR, with the reason and the last lines of its log, which is kept."""
        instance = stage.start(stage.workload(settings=server, START="fails"))
        condition = stage.settled(instance)
        assert condition.status is Status.ERROR
        assert deployed.FAILURE in (condition.reason or "")
        assert "\n" not in (condition.reason or "")
        assert any(deployed.FAILURE in line for line in condition.log)
        stage.deployer.stop(instance, grace=GRACE)
        assert any(deployed.STARTING in line for line in stage.log(instance))

    def test_starting_again_is_the_same_instance(self, stage: Stage) -> None:
        """A start that is repeated, by another command too, returns what runs already."""
        workload = stage.workload()
        instance = stage.started(workload)
        again = stage.subject.deployer().start(workload, replaces=None, report=lambda _: None)
        assert again == instance
        assert stage.deployer.instances(workload.deployment_id) == [instance]

    def test_another_command_finds_what_the_first_has_left(self, stage: Stage) -> None:
        """Whatever was started is found by the id of its deployment alone, the oldest first, and can be ended."""
        workload = stage.workload()
        first = stage.started(workload)
        second = stage.started(next_revision(workload, "two"), first)
        other = stage.subject.deployer()
        assert other.instances(workload.deployment_id) == [first, second]
        assert other.instances(f"{workload.deployment_id}-of-nobody") == []
        for instance in other.instances(workload.deployment_id):
            other.stop(instance, grace=GRACE)
        assert stage.is_over(first)
        assert stage.is_over(second)

    # Updating

    def test_an_update_under_load_fails_no_request(self, stage: Stage, server: JSONObject) -> None:
        """Between two revisions at one address no request fails, on kept connections or on new ones."""
        self._needs(stage, Capability.ONE_ADDRESS)
        workload = stage.workload(settings=server)
        old = stage.started(workload)
        load = Load(stage.url(old))
        with load.running():
            new = stage.started(next_revision(workload, "two"), old)
            stage.deployer.retire(old, by=new, grace=GRACE)
            load.until_answers_more("two")
            before = load.answers["one"]
            load.until_answers_more("two")
        assert load.failures == []
        assert new.url == old.url
        assert load.answers["one"] == before
        assert stage.is_over(old)

    def test_an_update_that_fails_leaves_the_old_one_serving(self, stage: Stage) -> None:
        """No request fails while a revision fails to start and is abandoned, and the one before it serves on."""
        workload = stage.workload()
        old = stage.started(workload)
        load = Load(stage.url(old))
        with load.running():
            new = stage.start(next_revision(workload, "two", START="fails"), old)
            assert stage.settled(new).status is Status.ERROR
            stage.deployer.abandon(new, back_to=old)
        assert load.failures == []
        assert set(load.answers) == {"one"}
        assert stage.is_over(new)
        assert stage.deployer.inspect(old).status is Status.RUNNING

    def test_one_that_starts_is_abandoned(self, stage: Stage) -> None:
        """An instance that takes too long to start is ended, soon, and the one before it serves on."""
        workload = stage.workload()
        old = stage.started(workload)
        new = stage.start(next_revision(workload, "two", START="30"), old)
        stage.until_logged(new, deployed.STARTING)
        stage.deployer.abandon(new, back_to=old)
        assert stage.is_over(new)
        assert stage.ask(old) == "one"

    def test_a_request_of_the_old_one_is_finished(self, stage: Stage) -> None:
        """A request that the old instance has begun is answered by it, though the new one has taken its place."""
        workload = stage.workload()
        old = stage.started(workload)
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(stage.ask(old, seconds=1.5)))
        asking.start()
        stage.until_logged(old, deployed.BEGUN)
        new = stage.started(next_revision(workload, "two"), old)
        stage.deployer.retire(old, by=new, grace=GRACE)
        asking.join()
        assert answers == ["one"]
        assert stage.ask(new) == "two"

    # Stopping

    def test_a_stop_drains_and_leaves_nothing_running(self, stage: Stage, server: JSONObject) -> None:
        """A request in progress is answered, then nothing listens; what had begun to stop can be stopped again."""
        instance = stage.started(stage.workload(settings=server))
        url = stage.url(instance)
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(stage.ask(instance, seconds=1.0)))
        asking.start()
        stage.until_logged(instance, deployed.BEGUN)
        stage.deployer.stop(instance, grace=GRACE)
        asking.join()
        assert answers == ["one"]
        assert stage.is_over(instance)
        with pytest.raises(httpx.TransportError):
            httpx.get(url, timeout=5.0)
        stage.deployer.stop(instance, grace=GRACE)

    def test_a_stop_ends_what_does_not_end_by_itself(self, stage: Stage) -> None:
        """A request that goes on for longer than the grace does not keep an instance alive."""
        instance = stage.started(stage.workload())
        failures: list[Exception] = []

        def ask() -> None:
            try:
                stage.ask(instance, seconds=40.0)
            except httpx.HTTPError as error:
                failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        stage.until_logged(instance, deployed.BEGUN)
        began = time.monotonic()
        stage.deployer.stop(instance, grace=0.2)
        assert time.monotonic() - began < 20.0
        asking.join()
        assert failures
        assert stage.is_over(instance)

    # Logs

    def test_the_log_can_be_read_and_followed(self, stage: Stage) -> None:
        """What a pipeline prints is in the log, the last lines alone on demand; following it ends with the instance."""
        instance = stage.started(stage.workload())
        followed: list[str] = []
        following = threading.Thread(
            target=lambda: followed.extend(stage.deployer.logs(instance, tail=None, follow=True))
        )
        following.start()
        stage.ask(instance, lines=50)
        stage.until_logged(instance, "line 49")
        expected = [f"line {number}" for number in range(50)]
        assert [line for line in stage.log(instance) if line.startswith("line ")] == expected
        assert len(stage.log(instance, tail=5)) == 5
        stage.deployer.stop(instance, grace=GRACE)
        following.join(PATIENCE)
        assert not following.is_alive()
        assert [line for line in followed if line.startswith("line ")] == expected
        assert followed == stage.log(instance)

    def test_the_last_words_are_kept(self, stage: Stage) -> None:
        """What a server wrote in the moment in which it died is in its log, though the line has no end."""
        instance = stage.started(stage.workload())
        with suppress(httpx.HTTPError):
            stage.ask(instance, last_words="out of memory")
        stage.until_logged(instance, "out of memory")

    # Secrets and leftovers

    def test_secrets_are_not_shown(self, stage: Stage) -> None:
        """A secret of the environment is in no command line, no log, no handle and nothing that others can read."""
        workload = stage.workload(SECRET=CANARY)
        instance = stage.started(workload)
        assert stage.ask(instance) == "one"
        if Capability.PROCESSES_HERE not in stage.subject.lacks:
            assert not [command for command in _command_lines() if CANARY in command]
        assert CANARY not in "\n".join(stage.log(instance))
        assert CANARY not in f"{instance.as_json()} {stage.deployer.commands(instance)} {workload!r}"
        for name, content in stage.subject.readable(workload.deployment_id):
            assert CANARY.encode() not in content, name

    def test_nothing_is_left_of_what_was_removed(self, stage: Stage) -> None:
        """A deployment that was removed has no instances, no files and no log, and its instance is ABSENT."""
        workload = stage.workload()
        instance = stage.started(workload)
        stage.deployer.stop(instance, grace=GRACE)
        assert stage.deployer.instances(workload.deployment_id) == [instance]
        stage.deployer.remove(workload.deployment_id)
        assert stage.deployer.instances(workload.deployment_id) == []
        assert list(stage.subject.leftovers(workload.deployment_id)) == []
        assert stage.deployer.inspect(instance).status is Status.ABSENT
        stage.deployer.stop(instance, grace=GRACE)
        assert list(stage.deployer.logs(instance, tail=None, follow=True)) == []
        stage.deployer.remove(workload.deployment_id)

    def test_one_that_ended_is_discarded(self, stage: Stage) -> None:
        """Of an instance that was discarded nothing is left, and the others are as they were."""
        workload = stage.workload()
        old = stage.started(workload)
        new = stage.started(next_revision(workload, "two"), old)
        stage.deployer.retire(old, by=new, grace=GRACE)
        stage.deployer.discard(old)
        assert stage.deployer.instances(workload.deployment_id) == [new]
        assert stage.deployer.inspect(old).status is Status.ABSENT
        assert stage.ask(new) == "two"

    def _needs(self, stage: Stage, capability: Capability) -> None:
        if capability in stage.subject.lacks:
            pytest.skip(stage.subject.lacks[capability])


def _command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield " ".join(process.cmdline())
