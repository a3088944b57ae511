"""The registry, over both databases."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from asgipipe.deployers import identity
from asgipipe.deployers.records import DeployerRecord, Status
from asgipipe.deployers.registry import Page, Registry, history, snapshots
from asgipipe.deployers.registry.table import DEPLOYMENTS
from asgipipe.errors import DeploymentError, StoreError, UnavailableError
from asgipipe.stores.database import Database, Operation
from asgipipe.stores.registry import database
from tests.conftest import PATIENCE
from tests.deployers.samples import DOCKER, claim_of, deployment, everybody_is_dead, nobody_is_dead, snapshot

T = TypeVar("T")

WRONG_CURSORS = ("", "?", "Zm9v\n", "é", "Zh")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    with Registry(database(url)) as registry:
        yield registry


def refusal(work: Callable[[], object]) -> str:
    """Return what is said when `work` is refused."""
    with pytest.raises(DeploymentError) as refused:
        work()
    return str(refused.value)


# Snapshots


def test_a_snapshot_is_kept_as_it_is(registry: Registry) -> None:
    """It is found by its name and by its id, with every field as it was, also by another process's registry."""
    kept = registry.add_snapshot(snapshot("weather", "v1", "prod"))
    assert registry.snapshot("weather") == kept
    assert registry.snapshot(kept.id) == kept
    assert list(registry.snapshots()) == [kept]


def test_a_name_that_no_snapshot_has(registry: Registry) -> None:
    """The most similar name is proposed, else the names there are, else where to look."""
    assert refusal(lambda: registry.snapshot("wether")) == (
        "there is no snapshot 'wether'; 'asgipipe snapshot list' shows that there is none"
    )
    registry.add_snapshot(snapshot("weather"))
    assert refusal(lambda: registry.snapshot("wether")) == "there is no snapshot 'wether'; did you mean 'weather'?"
    assert refusal(lambda: registry.snapshot("x")) == "there is no snapshot 'x'; there is weather"
    for number in range(6):
        registry.add_snapshot(snapshot(f"other {number}"))
    assert refusal(lambda: registry.snapshot("x")).endswith("; 'asgipipe snapshot list' shows them")
    assert len(refusal(lambda: registry.snapshot("x" * 10_000))) < 300


def test_names_of_snapshots_are_unique(registry: Registry) -> None:
    """A second one of the same name is refused, and the first stays."""
    kept = registry.add_snapshot(snapshot("weather"))
    said = refusal(lambda: registry.add_snapshot(snapshot("weather")))
    assert said.startswith("there is a snapshot 'weather' already; choose another name, or delete that one")
    assert list(registry.snapshots()) == [kept]


@pytest.mark.parametrize("name", ["", " ", "a\n", "a\x1b[2J", " a", "a ", "a" * 101])
def test_names_that_nothing_can_have(name: str, tmp_path: Path) -> None:
    """Names are 1 to 100 printable characters, and what is said about others is printable."""
    with Registry(database(str(tmp_path / "store.db"))) as registry:
        kept = registry.add_snapshot(snapshot("a" * 100))
        for add in (
            lambda: registry.add_snapshot(snapshot(name)),
            lambda: registry.add_snapshot(snapshot(name), numbered=True),
            lambda: registry.add_deployer(replace(DOCKER, name=name)),
            lambda: registry.add_deployment(deployment(name, kept)),
        ):
            said = refusal(add)
            assert "a name has 1 to 100 printable characters" in said
            assert said.isprintable()


def test_numbered_names(registry: Registry) -> None:
    """Automatic names count on from the highest number, whatever other names there are."""
    for name in ("weather-2", "weather-x", "weather-1000000000000", "weather-٣", "weather_7", "weath-9"):
        registry.add_snapshot(snapshot(name))
    names = [registry.add_snapshot(snapshot("weather"), numbered=True).name for _ in range(2)]
    assert names == ["weather-3", "weather-4"]
    long = registry.add_snapshot(snapshot("é" * 100), numbered=True)
    assert (long.name, registry.snapshot(long.name)) == (f"{'é' * 90}-1", long)


def test_numbers_are_given_once(url: str) -> None:
    """Registries that number snapshots at the same moment give each another number."""

    def add(_: int) -> list[str]:
        with Registry(database(url)) as registry:
            return [registry.add_snapshot(snapshot("weather"), numbered=True).name for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        names = [name for found in pool.map(add, range(4)) for name in found]
    assert sorted(names, key=lambda name: int(name[8:])) == [f"weather-{number}" for number in range(1, 21)]


def test_pages_of_snapshots(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come newest first, by tag and by pipeline, page by page; a wrong cursor is refused."""
    monkeypatch.setattr(snapshots, "_CHUNK", 2)
    for number in range(7):
        tags = ["odd" if number % 2 else "even"]
        registry.add_snapshot(snapshot(f"n{number}", *tags, pipeline="low" if number < 4 else "high"))

    def all_pages(**filters: str) -> list[list[str]]:
        pages, cursor = [], None
        while True:
            page = registry.snapshots(limit=2, cursor=cursor, **filters)  # type: ignore[arg-type]  # filters are texts
            pages.append([found.name for found in page])
            cursor = page.next_cursor
            if cursor is None:
                return pages

    assert all_pages() == [["n6", "n5"], ["n4", "n3"], ["n2", "n1"], ["n0"]]
    assert all_pages(tag="odd") == [["n5", "n3"], ["n1"]]
    assert all_pages(pipeline="low", tag="even") == [["n2", "n0"]]
    assert all_pages(tag="none") == [[]]
    for cursor in WRONG_CURSORS:
        assert "cursor" in refusal(lambda cursor=cursor: registry.snapshots(cursor=cursor))  # type: ignore[misc]


def test_a_snapshot_that_is_needed_stays(registry: Registry) -> None:
    """One that a deployment is made from, running or not, is not deleted; one that none needs is."""
    kept = registry.add_snapshot(snapshot("weather"))
    registry.add_deployment(deployment("rain", kept))
    said = refusal(lambda: registry.delete_snapshot("weather"))
    assert said == "snapshot 'weather' is what rain is provisioned from; delete or update the deployment first"
    claim = claim_of("ada")
    rain = registry.claim(deployment("rain", kept).id, claim, nobody_is_dead)
    other = registry.add_snapshot(snapshot("other"))
    registry.save(replace(rain, snapshot_id=other.id), claim)
    registry.delete_snapshot("weather")
    assert list(registry.snapshots()) == [other]
    assert "there is no snapshot" in refusal(lambda: registry.delete_snapshot("weather"))


# Deployers


def test_the_local_deployer_is_always_there(registry: Registry) -> None:
    """It need not be registered, may be given settings, and is there again when they are deleted."""
    assert [(deployer.name, deployer.flavor, deployer.settings) for deployer in registry.deployers()] == [
        ("local", "local", {})
    ]
    default = registry.deployer("local")
    assert "always there" in refusal(lambda: registry.delete_deployer("local"))
    assert "has the flavor local" in refusal(lambda: registry.add_deployer(replace(DOCKER, name="local")))
    own = DeployerRecord("local", "local", {"port": 9000}, "ada", 1.0)
    registry.update_deployer(own)
    assert registry.deployer("local") == own
    assert "local" in refusal(lambda: registry.deployer("locl"))
    registry.delete_deployer("local")
    assert registry.deployer("local") == default


def test_deployers_are_kept(registry: Registry) -> None:
    """They are found by name, listed by name, changed in their settings alone, and deleted."""
    registry.add_deployer(DOCKER)
    assert registry.deployer("box") == DOCKER
    assert [deployer.name for deployer in registry.deployers()] == ["box", "local"]
    assert "there is a deployer 'box' already" in refusal(
        lambda: registry.add_deployer(replace(DOCKER, settings={}, created_at=4.0))
    )
    registry.update_deployer(replace(DOCKER, settings={"image": "other"}, created_by="eve", created_at=9.0))
    assert registry.deployer("box") == replace(DOCKER, settings={"image": "other"})
    assert "keeps it" in refusal(lambda: registry.update_deployer(replace(DOCKER, flavor="local")))
    assert refusal(lambda: registry.deployer("bix")) == "there is no deployer 'bix'; did you mean 'box'?"
    assert "there is no deployer" in refusal(lambda: registry.update_deployer(replace(DOCKER, name="bax")))
    registry.delete_deployer("box")
    assert "there is no deployer" in refusal(lambda: registry.delete_deployer("box"))


@pytest.mark.parametrize(
    ("changes", "free"),
    [({}, False), ({"instance": None}, True), ({"instance": None, "wanted": Status.RUNNING}, False)],
)
def test_a_deployer_with_something_to_manage_stays(registry: Registry, changes: dict[str, object], free: bool) -> None:
    """While a deployment of it is there, or should be, it is deleted with force alone."""
    registry.add_deployer(DOCKER)
    registry.add_deployment(deployment("rain", registry.add_snapshot(snapshot("w")), deployer="box", **changes))
    if free:
        registry.delete_deployer("box")
    else:
        assert "deployer 'box' manages rain" in refusal(lambda: registry.delete_deployer("box"))
        registry.delete_deployer("box", force=True)
    assert [deployer.name for deployer in registry.deployers()] == ["local"]


# Deployments


def test_a_deployment_is_kept_as_it_is(registry: Registry) -> None:
    """It is found by its name and by its id, with every field as it was; without one, the most similar is proposed."""
    kept = registry.add_snapshot(snapshot("weather"))
    record = registry.add_deployment(deployment("rain", kept))
    assert registry.deployment("rain") == registry.deployment(record.id) == registry.find_deployment("rain") == record
    assert registry.find_deployment("ran") is None
    assert refusal(lambda: registry.deployment("ran")) == "there is no deployment 'ran'; did you mean 'rain'?"


def test_a_deployment_needs_its_parts(registry: Registry) -> None:
    """Its snapshot and its deployer must be there, and its name free."""
    kept = registry.add_snapshot(snapshot("weather"))
    assert "there is no deployer 'box'" in refusal(
        lambda: registry.add_deployment(deployment("rain", kept, deployer="box"))
    )
    assert "there is no snapshot" in refusal(lambda: registry.add_deployment(deployment("rain", snapshot("none"))))
    registry.add_deployment(deployment("rain", kept))
    said = refusal(lambda: registry.add_deployment(deployment("rain", kept, owner="eve")))
    assert said == "there is a deployment 'rain' of ada already; update it, or choose another name"


def test_pages_of_deployments(registry: Registry) -> None:
    """They come by name, by deployer, snapshot and owner, page by page; a wrong cursor is refused."""
    registry.add_deployer(DOCKER)
    first, second = (registry.add_snapshot(snapshot(name)) for name in ("first", "second"))
    for name, kept, owner, deployer in (
        ("d", first, "ada", "box"),
        ("b", second, "ada", "box"),
        ("c", second, "eve", "local"),
        ("a", first, "ada", "local"),
    ):
        registry.add_deployment(deployment(name, kept, owner=owner, deployer=deployer))

    def names(page: Page[object]) -> list[str]:
        return [str(getattr(record, "name", None)) for record in page]

    page = registry.deployments(limit=3)
    assert names(page) == ["a", "b", "c"]
    rest = registry.deployments(limit=3, cursor=page.next_cursor)
    assert (names(rest), rest.next_cursor) == (["d"], None)
    assert names(registry.deployments(owner="ada", deployer="box")) == ["b", "d"]
    assert names(registry.deployments(snapshot_id=second.id)) == ["b", "c"]
    assert page[0].name == "a"
    assert len(page[1:]) == 2
    for cursor in WRONG_CURSORS:
        assert "cursor" in refusal(lambda cursor=cursor: registry.deployments(cursor=cursor))  # type: ignore[misc]


def test_one_wins_who_deploys_a_name(url: str) -> None:
    """Of those that make a deployment known at the same moment, one does, and the others are told."""
    with Registry(database(url)) as registry:
        kept = registry.add_snapshot(snapshot("weather"))
    together = threading.Barrier(4)

    def add(number: int) -> bool:
        with Registry(database(url)) as registry:
            registry.deployers()
            together.wait(PATIENCE)
            try:
                registry.add_deployment(deployment("rain", kept, owner=f"user {number}"))
            except DeploymentError as error:
                assert "there is a deployment 'rain' of user" in str(error)  # noqa: PT017  # it is one of two outcomes
                return False
            return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(add, range(4))) == [False, False, False, True]


# Claims


def test_a_claim_keeps_others_out(registry: Registry) -> None:
    """While its holder lives nobody else gets it, and is told who has it, where, for what and since when."""
    record = registry.add_deployment(deployment("rain", registry.add_snapshot(snapshot("w"))))
    mine = replace(claim_of("ada"), host="moon", pid=4711, since=1_800_000_000.0)
    claimed = registry.claim(record.id, mine, nobody_is_dead)
    assert claimed == replace(record, claim=mine)
    said = refusal(lambda: registry.claim(record.id, claim_of("eve"), nobody_is_dead))
    assert said == (
        "ada works on deployment 'rain': updating, in process 4711 on moon since 2027-01-15 08:00:00 UTC; "
        "try again when that has ended"
    )
    registry.release(record.id, claim_of("eve"))
    assert registry.deployment("rain").claim == mine
    registry.release(record.id, mine)
    assert registry.deployment("rain") == record
    registry.claim(record.id, claim_of("eve"), nobody_is_dead)


def test_a_dead_holder_is_followed(registry: Registry) -> None:
    """The claim of one that is dead is taken over, and that one, should it live after all, changes nothing more."""
    record = registry.add_deployment(deployment("rain", registry.add_snapshot(snapshot("w"))))
    lost, mine = claim_of("ada"), claim_of("eve")
    registry.claim(record.id, lost, nobody_is_dead)
    assert registry.claim(record.id, mine, everybody_is_dead).claim == mine
    said = refusal(lambda: registry.save(record, lost))
    assert said.startswith("eve works on deployment 'rain'")
    assert "took it over" in said
    assert "took it over" in refusal(lambda: registry.delete_deployment(record.id, lost))
    registry.release(record.id, lost)
    registry.release(record.id, mine)
    assert "is not claimed any more" in refusal(lambda: registry.save(record, mine))
    assert registry.deployment("rain") == record


def test_one_gets_the_claim(url: str) -> None:
    """Of those that claim a deployment at the same moment, one gets it."""
    with Registry(database(url)) as registry:
        record = registry.add_deployment(deployment("rain", registry.add_snapshot(snapshot("w"))))
    together = threading.Barrier(4)

    def claim(number: int) -> bool:
        with Registry(database(url)) as registry:
            registry.deployment("rain")
            together.wait(PATIENCE)
            try:
                registry.claim(record.id, claim_of(f"user {number}"), nobody_is_dead)
            except DeploymentError:
                return False
            return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(claim, range(4))) == [False, False, False, True]


HOLDER = """
import sys
from asgipipe.deployers import identity
from asgipipe.deployers.registry import Registry
from asgipipe.stores.registry import database
with Registry(database(sys.argv[1])) as registry:
    registry.claim(sys.argv[2], identity.claim("deploying"), identity.is_dead)
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder(url: str) -> None:
    """A process that lives keeps its claim; once it is killed, and not even waited for, another one gets it."""
    with Registry(database(url)) as registry:
        record = registry.add_deployment(deployment("rain", registry.add_snapshot(snapshot("w"))))
        command = [sys.executable, "-c", HOLDER, url, record.id]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"claimed\n"
            mine = identity.claim("updating")
            said = refusal(lambda: registry.claim(record.id, mine, identity.is_dead))
            assert f"deploying, in process {holder.pid} on" in said
            holder.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from here on
            assert registry.claim(record.id, mine, identity.is_dead).claim == mine


def test_saving(registry: Registry) -> None:
    """All but name, creation and claim is written, with the time; the answer is what is kept."""
    kept = registry.add_snapshot(snapshot("w"))
    other = registry.add_snapshot(snapshot("other"))
    record = registry.add_deployment(deployment("rain", kept))
    claim = claim_of("ada")
    registry.claim(record.id, claim, nobody_is_dead)
    changed = replace(
        record,
        name="snow",
        snapshot_id=other.id,
        owner="eve",
        wanted=Status.RUNNING,
        revision=3,
        instance=None,
        incoming=record.instance,
        key_digests=(),
        environment={},
        metadata={"x": 1},
        created_at=0.0,
        claim=None,
    )
    before = time.time()
    saved = registry.save(changed, claim)
    assert saved == registry.deployment("rain")
    assert saved == replace(
        changed, name="rain", created_at=record.created_at, claim=claim, updated_at=saved.updated_at
    )
    assert before <= saved.updated_at <= time.time()
    assert "there is no snapshot" in refusal(
        lambda: registry.save(replace(saved, snapshot_id="none", wanted=Status.ABSENT), claim)
    )


def test_a_snapshot_runs_once(registry: Registry) -> None:
    """A second deployment of the same snapshot is refused while the first is to run, when made and when saved."""
    kept = registry.add_snapshot(snapshot("w"))
    first = registry.add_deployment(deployment("rain", kept, wanted=Status.RUNNING))
    said = refusal(lambda: registry.add_deployment(deployment("snow", kept, wanted=Status.RUNNING)))
    assert said.startswith("snapshot 'w' runs already, as rain; make another snapshot, or end that one")
    second = registry.add_deployment(deployment("snow", kept))
    claim = claim_of("ada")
    registry.claim(second.id, claim, nobody_is_dead)
    assert "runs already, as rain" in refusal(lambda: registry.save(replace(second, wanted=Status.RUNNING), claim))
    registry.claim(first.id, claim, nobody_is_dead)
    registry.save(first, claim)
    registry.save(replace(first, wanted=Status.ABSENT), claim)
    assert registry.save(replace(second, wanted=Status.RUNNING), claim).wanted is Status.RUNNING


def test_a_snapshot_runs_once_at_the_same_moment(url: str) -> None:
    """Of deployments that are to run the same snapshot from one moment on, one is."""
    with Registry(database(url)) as registry:
        kept = registry.add_snapshot(snapshot("w"))
        claim = claim_of("ada")
        records = [registry.add_deployment(deployment(f"d{number}", kept)) for number in range(3)]
        for record in records:
            registry.claim(record.id, claim, nobody_is_dead)
    together = threading.Barrier(3)

    def run(number: int) -> bool:
        with Registry(database(url)) as registry:
            registry.deployers()
            together.wait(PATIENCE)
            try:
                registry.save(replace(records[number], wanted=Status.RUNNING), claim)
            except DeploymentError:
                return False
            return True

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(run, range(3))) == [False, False, True]


def test_deleting(registry: Registry) -> None:
    """Whoever holds the claim deletes a deployment, with its history; a new one of the same name starts afresh."""
    kept = registry.add_snapshot(snapshot("w"))
    record = registry.add_deployment(deployment("rain", kept))
    registry.append(record.id, "created", {}, "ada")
    claim = claim_of("ada")
    assert "is not claimed any more" in refusal(lambda: registry.delete_deployment(record.id, claim))
    registry.claim(record.id, claim, nobody_is_dead)
    registry.delete_deployment(record.id, claim)
    assert registry.find_deployment("rain") is None
    registry.release(record.id, claim)
    registry.add_deployment(record)
    assert list(registry.history(record.id)) == []


# History


def test_history(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are numbered and come newest first, page by page; the oldest are forgotten."""
    monkeypatch.setattr(history, "MOST", 4)
    record = registry.add_deployment(deployment("rain", registry.add_snapshot(snapshot("w"))))
    for number in range(1, 7):
        entry = registry.append("rain", "updated", {"revision": number}, "ada")
        assert (entry.number, entry.detail) == (number, {"revision": number})
    page = registry.history(record.id, limit=3)
    assert [entry.number for entry in page] == [6, 5, 4]
    assert (page[0].actor, page[0].action, page[0].at > 0) == ("ada", "updated", True)
    rest = registry.history(record.id, limit=3, cursor=page.next_cursor)
    assert ([entry.number for entry in rest], rest.next_cursor) == ([3], None)
    assert "there is no deployment 'snow'" in refusal(lambda: registry.append("snow", "updated", {}, "ada"))
    for cursor in (*WRONG_CURSORS, "Zm9v"):
        assert "cursor" in refusal(lambda cursor=cursor: registry.history(record.id, cursor=cursor))  # type: ignore[misc]


# The database


class Repeating(Database):
    """A database that does each change twice, as one does whose first commit had an unknown outcome."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner

    @property
    def place(self) -> str:
        return self._inner.place

    def exists(self) -> bool:
        return self._inner.exists()

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    def enqueue(self, operation: Operation[T], *, urgent: bool = True) -> "Future[T]":
        raise NotImplementedError

    async def write(self, operation: Operation[T]) -> T:
        await self._inner.write(operation)
        return await self._inner.write(operation)

    async def read(self, operation: Operation[T]) -> T:
        return await self._inner.read(operation)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError

    async def register(self) -> int:
        raise NotImplementedError

    async def dead(self, workers: Collection[int]) -> set[int]:
        raise NotImplementedError


def test_changes_may_be_repeated(url: str) -> None:
    """A change that is done once more, because nobody knows whether it was done, is the same as one."""
    claim = claim_of("ada")
    with Registry(Repeating(database(url))) as registry:
        kept = registry.add_snapshot(snapshot("w"))
        assert registry.add_snapshot(snapshot("n"), numbered=True).name == "n-1"
        registry.add_deployer(DOCKER)
        registry.update_deployer(replace(DOCKER, settings={}))
        record = registry.add_deployment(deployment("rain", kept, wanted=Status.RUNNING))
        registry.claim(record.id, claim, nobody_is_dead)
        registry.save(record, claim)
        registry.append(record.id, "created", {"a": [1]}, "ada")
        registry.append(record.id, "created", {"a": [1]}, "ada")
        assert [entry.number for entry in registry.history(record.id)] == [2, 1]
        registry.release(record.id, claim)
        registry.claim(record.id, claim, nobody_is_dead)
        registry.delete_deployment(record.id, claim)
        assert [found.name for found in registry.snapshots()] == ["n-1", "w"]


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Where there is no store, there is nothing in it, and no file is made; leaving without a change makes none."""
    place = tmp_path / "none" / "store.db"
    with Registry(database(str(place))) as registry:
        assert list(registry.snapshots()) == []
        assert list(registry.deployments()) == []
        assert [deployer.name for deployer in registry.deployers()] == ["local"]
        assert registry.find_deployment("rain") is None
        assert "there is no deployment" in refusal(lambda: registry.deployment("rain"))
    assert not place.parent.exists()


def test_inside_an_event_loop(tmp_path: Path) -> None:
    """It works where an event loop runs, as in a notebook."""

    async def cell() -> str:
        with Registry(database(str(tmp_path / "store.db"))) as registry:
            return registry.add_snapshot(snapshot("w")).name

    assert asyncio.run(cell()) == "w"


def test_memory_is_no_place(tmp_path: Path) -> None:
    """A registry that would be gone with the command is refused."""
    with pytest.raises(StoreError, match="in memory does not"):
        Registry(database("memory:"))


def test_a_database_that_does_not_work(tmp_path: Path) -> None:
    """What keeps the store from being used is a message that names it, also where callers over HTTP are told less."""
    place = tmp_path / "store.db"
    place.write_text("no database")
    with Registry(database(str(place))) as registry, pytest.raises(StoreError, match=r"store\.db is no SQLite"):
        registry.snapshots()

    class Away(Repeating):
        async def open(self) -> None:
            raise UnavailableError("The store is locked by another process; try again.")

    with (
        Registry(Away(database(str(tmp_path / "other.db")))) as registry,
        pytest.raises(StoreError, match=r"the store .*other\.db cannot be used: The store is locked"),
    ):
        registry.add_snapshot(snapshot("w"))


def ours(others: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of registries and stores that are none of `others`."""
    return [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("asgipipe-")]


def test_no_thread_before_it_is_used(tmp_path: Path) -> None:
    """A registry that was made starts nothing; one that was left has ended what it started."""
    threads = set(threading.enumerate())
    registry = Registry(database(str(tmp_path / "store.db")))
    assert ours(threads) == []
    registry.close()
    with registry:
        registry.add_snapshot(snapshot("w"))
        assert ours(threads)
    assert ours(threads) == []


def test_unknown_things_are_compared_with_few(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names there are, a wrong one is compared with a bounded number of them: the newest."""
    monkeypatch.setattr("asgipipe.deployers.registry.table._CANDIDATES", 1)
    kept = registry.add_snapshot(snapshot("w"))
    for age, name in enumerate(("rain", "snow")):
        registry.add_deployment(deployment(name, kept, created_at=float(age)))
    assert DEPLOYMENTS.noun in refusal(lambda: registry.deployment("rainy"))
    assert "there is snow" in refusal(lambda: registry.deployment("rainy"))
