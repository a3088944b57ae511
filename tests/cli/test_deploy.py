import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from asgipipe.deployers.identity import process_identity
from asgipipe.deployers.registry import Registry
from asgipipe.stores.registry import database
from tests.cli.project import Project
from tests.conftest import PATIENCE


def key_of(project: Project, deployment_id: str) -> str:
    kept: dict[str, dict[str, str]] = json.loads((project.folder / "config" / "credentials.json").read_text())
    return kept["keys"][deployment_id]


def history_of(project: Project) -> list[dict[str, object]]:
    found: list[dict[str, object]] = project.ask("deployment", "describe", "ping", "--json").json["history"]
    return found


@contextmanager
def load(url: str, key: str) -> Iterator[list[object]]:
    """Call a deployment, each time on a new connection, and collect what came of it."""
    outcomes: list[object] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            try:
                answer = httpx.post(
                    f"{url}/invoke", json={"parameters": {}}, headers={"Authorization": f"Bearer {key}"}, timeout=10
                )
                outcomes.append(answer.status_code)
            except httpx.HTTPError as error:
                outcomes.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield outcomes
    finally:
        ended.set()
        thread.join()


def edit(project: Project, old: str, new: str) -> None:
    file = project.folder / "pipelines.py"
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.timeout(4 * PATIENCE)
def test_updates_under_load(project: Project) -> None:
    """Every request is answered during updates that succeed and that fail; when one fails, the old one serves on."""
    first = project.deploy("pipelines.py:ping", "--json").json
    key, url = first["auth_key"], first["url"]
    assert key == key_of(project, first["id"])
    with load(url, key) as outcomes:
        edit(project, '"pong"', '"pong 2"')
        updated = project.run("deploy", "pipelines.py:ping", "--port=0", "--update", "--json").json
        assert (updated["url"], updated["revision"], updated["auth_key"]) == (url, 2, None)
        failed = project.run("deploy", "pipelines.py:ping", "--update", "--startup-hook=pipelines.raises")
        assert failed.status == 1, failed
        assert failed.stderr.count("the hook has no model") == 1
        assert "Revision 2 serves on." in failed.stderr
        edit(project, "import time", "import time, no_such_module")
        refused = project.run("deploy", "pipelines.py:ping", "--update")
        assert (refused.status, "no_such_module" in refused.stderr) == (2, True)
        assert project.ask("deployment", "invoke", "ping").json == {"output": "pong 2"}
    assert set(outcomes) == {200}
    page = project.ask("deployment", "describe", "ping").stdout
    assert "Revision      2\n" in page
    assert "Last failure  revision 3: it ended with status 3: startup_hook (raises) raised RuntimeError" in page
    assert [entry["action"] for entry in history_of(project)] == ["failed", "deployed", "deployed"]


def test_the_life_after(project: Project) -> None:
    """A deployment is ended and started again with its address, key and log, and deleted with all of it."""
    first = project.deploy("pipelines.py:ping", "--env=TOKEN=canary", "--json").json
    again = project.run("deploy", "pipelines.py:ping")
    assert (again.status, "'ping' exists: --update replaces what it serves" in again.stderr) == (1, True)
    assert project.ask("deployment", "deprovision", "ping").stdout == "ping is ABSENT\n"
    absent = project.ask("deployment", "invoke", "ping")
    assert absent.status == 1
    assert "'asgipipe deployment provision ping' starts it" in absent.stderr
    assert "SIGTERM" in project.ask("deployment", "logs", "ping").stdout
    (row,) = project.ask("deployment", "list", "--json").json["deployments"]
    assert (row["status"], row["url"], row["environment"]) == ("ABSENT", None, ["TOKEN"])
    provisioned = project.ask("deployment", "provision", "ping")
    assert provisioned.status == 0, provisioned
    assert provisioned.stdout.startswith("ping is RUNNING at http://127.0.0.1:")
    assert project.ask("deployment", "invoke", "ping").json == {"output": "pong"}
    assert project.ask("deployment", "delete", "ping").stdout == "ping is deleted\n"
    assert first["id"] not in (project.folder / "config" / "credentials.json").read_text()
    assert not list((project.folder / ".asgipipe" / "deployments").glob("*/*"))
    assert [each["name"] for each in project.ask("snapshot", "list", "--json").json["snapshots"]] == ["ping-1"]


def test_keys_and_owners(project: Project) -> None:
    """Another's deployment is changed with --yes alone; a new key is taken at once, the old one until it is revoked."""
    first = project.deploy("pipelines.py:ping", "--json").json
    for command in ("rotate-key", "deprovision", "delete", "update"):
        refused = project.ask("deployment", command, "ping", ASGIPIPE_OWNER="bob")
        assert refused.status == 1, refused
        assert "deployment 'ping' is ada's: confirm with --overtake" in refused.stderr
    refused = project.run("deploy", "pipelines.py:ping", "--update", ASGIPIPE_OWNER="bob")
    assert (refused.status, "is ada's" in refused.stderr) == (1, True)
    rotated = project.ask("deployment", "rotate-key", "ping", "--json").json["auth_key"]
    assert answers(project, first["auth_key"], rotated) == [0, 0]
    revoked = project.ask("deployment", "rotate-key", "ping", "--revoke", "--yes", "--json", ASGIPIPE_OWNER="bob").json
    assert answers(project, first["auth_key"], rotated, revoked["auth_key"]) == [1, 1, 0]
    assert [entry["actor"] for entry in history_of(project)] == ["bob", "ada", "ada"]


def answers(project: Project, *keys: str) -> list[int]:
    return [project.ask("deployment", "invoke", "ping", ASGIPIPE_KEY=key).status for key in keys]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("pipelines.py:ping", "--name=-x"), 2, "'-x' cannot name a deployment"),
        (("pipelines.py:ping", "--deployer=mine"), 1, "there is no deployer 'mine'"),
        (("pipelines.py:ping", "--env=_NOT_SET_"), 2, "--env takes NAME=VALUE"),
    ],
)
def test_mistakes_keep_nothing(project: Project, arguments: tuple[str, ...], status: int, said: str) -> None:
    """What is wrong is found before a snapshot or a deployment is registered."""
    done = project.run("deploy", *arguments)
    assert (done.status, done.stdout) == (status, ""), done
    assert said in done.stderr
    assert not Path(project.store).exists()


def test_a_given_key_is_not_repeated(project: Project) -> None:
    """A key of the environment protects the service, is kept for this user, and is in no output and no snapshot."""
    given = {"ASGIPIPE_AUTH_KEY": "canary-key-that-was-given"}
    done = project.deploy("pipelines.py:ping", **given)
    assert "canary" not in done.stdout + done.stderr
    assert only(project)["auth_enabled"] is True
    assert project.ask("deployment", "invoke", "ping").status == 0
    contradiction = project.run("deploy", "pipelines.py:ping", "--no-auth", "--update", **given)
    assert (contradiction.status, "--no-auth, and the settings give a key" in contradiction.stderr) == (2, True)


def test_openness_is_said_at_once(project: Project) -> None:
    """What others will reach without a key is warned about before it starts."""
    done = project.deploy("pipelines.py:ping", "--no-auth", "--host=0.0.0.0")
    warning, starting = done.stderr.index("ping will be OPEN: everyone"), done.stderr.index("starting revision 1")
    assert warning < starting
    assert "--no-auth" in done.stderr


def test_blocking(project: Project) -> None:
    """A blocking command shows the log, and ends the service when it is told to end."""
    process = project.start("deploy", "pipelines.py:ping", "--port=0", "--blocking", "--json")
    read_until(process, "serves on")
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert json.loads(stdout)["status"] == "RUNNING"
    assert only(project)["status"] == "ABSENT"


def test_a_blocking_command_fails_with_its_service(project: Project) -> None:
    """It ends with status 1 and the reason when the service was killed."""
    process = project.start("deploy", "pipelines.py:ping", "--port=0", "--blocking", "--json")
    read_until(process, "serves on")
    (server,) = psutil.Process(keeper_of(project)).children()
    server.kill()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "ping has ended: it was ended by SIGKILL" in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_was_cut_short(project: Project, number: signal.Signals) -> None:
    """What was asked for is provisioned by the next command, with its key; what was interrupted has left nothing."""
    edit(project, '    raise RuntimeError("the hook has no model")', "    time.sleep(60)")
    process = project.start("deploy", "pipelines.py:ping", "--port=0", "--startup-hook=pipelines.raises")
    read_until(process, "waiting until revision 1 is ready")
    keeper = keeper_of(project, "incoming")
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    if number is not signal.SIGKILL:
        assert process_identity(keeper) is None
    found = only(project)
    assert found["status"] == "ERROR"
    assert "run 'asgipipe deployment provision ping'" in str(found["reason"])
    edit(project, "    time.sleep(60)", "    pass")
    provisioned = project.ask("deployment", "provision", "ping")
    assert provisioned.status == 0, provisioned
    assert process_identity(keeper) is None
    assert only(project)["auth_enabled"] is True
    assert project.ask("deployment", "invoke", "ping", ASGIPIPE_KEY="wrong").status == 1
    assert project.ask("deployment", "invoke", "ping").json == {"output": "pong"}


def test_two_at_once(project: Project) -> None:
    """Of two commands that deploy under one name, one does; the other says why it does not."""
    processes = [project.start("deploy", "pipelines.py:ping", "--port=0") for _ in range(2)]
    errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1], errors
    said = " ".join(errors)
    assert "already" in said or "works on deployment 'ping'" in said or "'ping' exists" in said
    assert only(project)["status"] == "RUNNING"


def test_the_store_of_an_option(project: Project, postgresql_url: str) -> None:
    """--store names the registry, PostgreSQL too, in which alone the deployment is known."""
    store = f"--store={postgresql_url}"
    project.deploy("pipelines.py:ping", store)
    try:
        assert project.ask("deployment", "list", store, "--json").json["deployments"][0]["status"] == "RUNNING"
        assert project.ask("deployment", "invoke", store, "ping").json == {"output": "pong"}
        assert project.ask("deployment", "list").stdout == ""
    finally:
        assert project.ask("deployment", "delete", store, "ping").status == 0


def only(project: Project) -> dict[str, object]:
    """Return the one deployment there is."""
    (found,) = project.ask("deployment", "list", "--json").json["deployments"]
    assert isinstance(found, dict)
    return found


def keeper_of(project: Project, member: str = "instance") -> int:
    """Return the process that keeps what serves, or what is about to."""
    with Registry(database(project.store)) as registry:
        instance = getattr(registry.deployment("ping"), member)
    pid = instance.handle["pid"]
    assert isinstance(pid, int)
    return pid


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read the errors of a command up to a line with `text`."""
    assert process.stderr is not None
    assert any(text in line for line in process.stderr), f"never said: {text}"
