import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import ValidationError

from asgipipe.deployers.flavors import load_flavor
from asgipipe.deployers.identity import ProcessIdentity, process_identity
from asgipipe.deployers.keeper.state import StateFolder
from asgipipe.deployers.local import LocalDeployer, LocalDeployerSettings, deployer
from asgipipe.deployers.local.processes import members
from asgipipe.deployers.records import Instance, Status, Workload
from asgipipe.errors import DeploymentError
from tests.servers.command import PATIENCE, until

ID = "dep-1"
APP = """
import os, subprocess, sys, time
from asgipipe import pipeline

FLED = "import os, signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"

def hook() -> None:
    time.sleep(float(os.environ.get("START", "0")))

@pipeline(settings={"startup_hook": hook})
def app(flee: bool = False) -> dict[str, str]:
    if flee:
        subprocess.Popen([sys.executable, "-SEc", FLED], start_new_session=True)
    found = {name: value for name, value in os.environ.items() if name.startswith(("ASGI", "T_"))}
    return {"cwd": os.getcwd(), **found}
"""

Make = Callable[..., LocalDeployer]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "app.py").write_text(APP)
    return tmp_path / "project"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LocalDeployer] = []

    def make(**settings: object) -> LocalDeployer:
        settings = {"folder": tmp_path / "deployments", **settings}
        made.append(LocalDeployer("local", LocalDeployerSettings.model_validate(settings)))
        return made[-1]

    yield make
    for each in made:
        for instance in each.instances(ID):
            process = instance.handle.get("pid")
            if process is not None and instance.handle.get("host") == socket.gethostname():
                each.stop(instance, grace=0.0)


def workload(project: Path, revision: int = 1, **changes: object) -> Workload:
    made = Workload(
        deployment_id=ID,
        name="app",
        revision=revision,
        target="app.py",
        project=str(project),
        settings={"settings": {"deployment": {}}, "pipeline": {}},
        environment={},
        scheme="http",
        host="127.0.0.1",
        port=0,
        root="",
        ready_path="/ready",
        drain=25.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # as the caller says


def start(local: LocalDeployer, given: Workload, replaces: Instance | None = None) -> Instance:
    return local.start(given, replaces=replaces, report=lambda _: None)


def running(local: LocalDeployer, given: Workload, replaces: Instance | None = None) -> Instance:
    instance = start(local, given, replaces)

    def runs() -> bool:
        condition = local.inspect(instance)
        assert condition.status in {Status.PENDING, Status.RUNNING}, condition
        return condition.status is Status.RUNNING

    until(runs, "the instance")
    return instance


def ask(instance: Instance, **parameters: object) -> dict[str, str]:
    answer = httpx.post(f"{instance.url}/invoke", json={"parameters": parameters}, timeout=PATIENCE)
    output: dict[str, str] = answer.raise_for_status().json()["outputs"]["output"]
    return output


def keeper_of(instance: Instance) -> psutil.Process:
    return psutil.Process(int(str(instance.handle["pid"])))


def folder_of(instance: Instance) -> Path:
    return Path(str(instance.handle["folder"]))


def test_it_is_installed_as_a_flavor() -> None:
    """The flavor `local` is this deployer."""
    assert load_flavor("local") is LocalDeployer


# What it starts


def test_an_instance_is_on_its_own(make: Make, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a session of its own, no terminal, the folder of the project, and an environment without our settings."""
    monkeypatch.setenv("ASGIPIPE_UVICORN_PORT", "1")
    monkeypatch.setenv("T_CALLER", "of the caller")
    given = workload(project, environment={"T_OWN": "secret", "ASGIPIPE_LOG_LEVEL": "info"})
    instance = running(make(), given)
    found = ask(instance)
    assert found["cwd"] == str(project)
    assert (found["T_CALLER"], found["T_OWN"]) == ("of the caller", "secret")
    assert {name for name in found if name.startswith("ASGI")} == {"ASGIPIPE_INSTANCE", "ASGIPIPE_LOG_LEVEL"}
    keeper = keeper_of(instance)
    assert keeper.pid == os.getsid(keeper.pid) == os.getpgid(keeper.pid) != os.getsid(0)
    assert keeper.terminal() is None
    assert keeper.parent() not in [*psutil.Process().children(), psutil.Process()]
    for process in (keeper, *keeper.children()):
        assert Path(f"/proc/{process.pid}/fd/0").readlink() == Path("/dev/null")


def test_files_are_private(make: Make, project: Path) -> None:
    """Nobody else can read the files of an instance, or enter its folder."""
    instance = running(make(), workload(project))
    folder = folder_of(instance)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.name != "ready"}
    assert set(modes) >= {"settings.yaml", "plan", "pid", "address", "log", "lock", "socket"}
    assert set(modes.values()) == {0o600}


def test_it_survives_the_command_and_its_terminal(make: Make, project: Path, tmp_path: Path) -> None:
    """An instance runs on when the session of the command that started it is hung up and killed."""
    code = f"""
    import os, signal, sys
    sys.path.insert(0, {str(Path(__file__).parents[3])!r})
    from pathlib import Path
    from tests.deployers.local.test_deployer import *
    start(LocalDeployer("local", LocalDeployerSettings(folder=Path({str(tmp_path / "deployments")!r}))),
          workload(Path({str(project)!r})))
    os.killpg(0, signal.SIGHUP)
    """
    caller = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], start_new_session=True)
    assert caller.returncode == -signal.SIGHUP
    local = make()
    [instance] = local.instances(ID)
    until(lambda: local.inspect(instance).status is Status.RUNNING, "the instance")
    assert ask(instance)["cwd"] == str(project)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[4])
from pathlib import Path
from tests.deployers.local.test_deployer import *
left = int(sys.argv[3])

def trace(frame, event, argument):
    global left
    if not any(name in frame.f_code.co_filename for name in ("asgipipe/deployers/", "/subprocess.py")):
        return None
    left -= event == "line"
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace

local = LocalDeployer("local", LocalDeployerSettings(folder=Path(sys.argv[1])))
sys.settrace(trace)
start(local, workload(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("lines", [30, 60, 110, 420, 433, 440, 460, 520])
def test_a_start_that_was_killed_is_repeated(make: Make, project: Path, tmp_path: Path, lines: int) -> None:
    """Wherever the starting command is killed, doing it again leads to one instance, which serves."""
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", KILLED, str(tmp_path / "deployments"), str(project), str(lines), root]
    subprocess.run(command, timeout=PATIENCE)
    local = make()
    for instance in local.instances(ID):
        local.inspect(instance)
    instance = running(local, workload(project))
    assert ask(instance)["cwd"] == str(project)
    keepers = {each.pid for each in members(folder_of(instance)) if "asgipipe.deployers.keeper" in each.cmdline()}
    assert keepers == {keeper_of(instance).pid}
    assert local.instances(ID) == [instance]


def test_two_commands_start_one_instance(make: Make, project: Path) -> None:
    """Commands that start the same revision at once return the same instance."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: start(make(), workload(project)), range(4)))
    assert found == [found[0]] * 4
    until(lambda: make().inspect(found[0]).status is Status.RUNNING, "the instance")
    assert sum("asgipipe.deployers.keeper" in each.cmdline() for each in members(folder_of(found[0]))) == 1


def test_one_that_has_ended_is_started_anew(make: Make, project: Path) -> None:
    """Starting a revision again that has ended makes an instance that runs, with a log of its own."""
    local = make()
    instance = running(local, workload(project))
    local.stop(instance, grace=1.0)
    assert local.inspect(instance).status is Status.ERROR
    again = running(local, workload(project))
    assert again.handle["pid"] != instance.handle["pid"]
    assert local.inspect(instance).status is Status.RUNNING


def test_a_project_that_is_gone(make: Make, tmp_path: Path) -> None:
    """A project folder that is not there is an error that names it."""
    with pytest.raises(DeploymentError, match=f"the project of app is not there: {tmp_path}/gone"):
        start(make(), workload(tmp_path / "gone"))


# What it finds


def test_a_start_that_takes_too_long(make: Make, project: Path) -> None:
    """After `start_timeout` an instance that has not started up is ERROR, though its process is there."""
    instance = start(make(), workload(project, environment={"START": "60"}))
    assert make().inspect(instance).status is Status.PENDING
    impatient = make(start_timeout=0.01)
    condition = impatient.inspect(instance)
    assert condition.status is Status.ERROR
    assert condition.reason == "it did not start up within 0.01 s (start_timeout)"


def test_one_that_died_says_why(make: Make, project: Path) -> None:
    """What the server itself said about its end is the reason; of one that was killed, the signal is."""
    local = make()
    broken = start(local, workload(project, target="nothing.py"))
    until(lambda: local.inspect(broken).status is Status.ERROR, "the end")
    assert local.inspect(broken).reason == "it ended with status 2: 'nothing.py': the file 'nothing.py' does not exist"
    instance = running(local, workload(project, 2))
    [server] = keeper_of(instance).children()
    server.kill()
    until(lambda: local.inspect(instance).status is Status.ERROR, "the end")
    assert local.inspect(instance).reason == "it was ended by SIGKILL"


def test_a_keeper_that_was_killed(make: Make, project: Path) -> None:
    """Without its keeper an instance is ERROR, and stopping it ends whatever is left."""
    local = make()
    instance = running(local, workload(project))
    ask(instance, flee=True)
    keeper_of(instance).kill()
    until(lambda: local.inspect(instance).status is Status.ERROR, "the end")
    assert local.inspect(instance).reason == "its keeper was killed"
    local.stop(instance, grace=0.0)
    assert members(folder_of(instance)) == []


def test_a_strangers_process_is_left_alone(make: Make, project: Path) -> None:
    """A process that has got the number of a keeper which has ended is neither taken for it nor signalled."""
    local = make()
    instance = running(local, workload(project))
    local.stop(instance, grace=1.0)
    with subprocess.Popen([sys.executable, "-SEc", "import time; time.sleep(600)"]) as stranger:
        identity = process_identity(stranger.pid)
        assert identity is not None
        state = StateFolder(folder_of(instance))
        for forged in (
            replace(identity, started=identity.started - 60.0),
            replace(identity, boot="another boot"),
        ):
            state.write_identity(forged)
            found = replace(instance, handle={**instance.handle, "pid": stranger.pid})
            assert local.inspect(found).status is Status.ERROR
            local.stop(found, grace=0.0)
            local.retire(found, by=instance, grace=0.0)
        assert stranger.poll() is None
        stranger.kill()


def test_a_zombie_is_dead(make: Make, project: Path) -> None:
    """A keeper that has ended and was not buried yet does not run."""
    local = make()
    instance = running(local, workload(project))
    local.stop(instance, grace=1.0)
    with subprocess.Popen([sys.executable, "-SEc", "import time; time.sleep(600)"]) as zombie:
        identity = process_identity(zombie.pid)
        assert identity is not None
        StateFolder(folder_of(instance)).write_identity(identity)
        assert local.inspect(instance).status is Status.PENDING
        os.kill(zombie.pid, signal.SIGKILL)
        until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE, "the zombie")
        assert local.inspect(instance).status is Status.ERROR


def test_an_instance_of_another_machine(make: Make, project: Path) -> None:
    """It cannot be asked here, and is not touched: neither another host's nor another container's."""
    local = make()
    instance = running(local, workload(project))
    state, own = StateFolder(folder_of(instance)), process_identity(keeper_of(instance).pid)
    assert own is not None
    in_a_container = f"{own.boot.partition(' ')[0]} pid:[1]"
    for there in ({"host": "elsewhere", "boot": "another boot"}, {"boot": in_a_container}):
        state.write_identity(replace(own, boot=there["boot"]))
        other = replace(instance, handle={**instance.handle, **there})
        assert local.inspect(other).status is Status.UNKNOWN
        for forbidden in (lambda other=other: local.stop(other, grace=0.0), lambda other=other: local.discard(other)):
            with pytest.raises(DeploymentError, match="only be"):
                forbidden()
    state.write_identity(own)
    assert local.inspect(instance).status is Status.RUNNING


def test_a_machine_that_was_started_anew(make: Make, project: Path) -> None:
    """After a reboot an instance is ERROR, and the reason says so."""
    local = make()
    instance = running(local, workload(project))
    local.stop(instance, grace=1.0)
    state = StateFolder(folder_of(instance))
    (state.path / "exit").unlink()
    state.write_identity(ProcessIdentity(1, 2.0, "an earlier boot"))
    found = replace(instance, handle={**instance.handle, "boot": "an earlier boot"})
    assert local.inspect(found).status is Status.ERROR
    assert local.inspect(found).reason == "the machine was started anew"


def test_a_folder_that_was_removed(make: Make, project: Path) -> None:
    """An instance without its folder is known by its handle: it is ERROR while it runs, and can be ended."""
    local = make()
    instance = running(local, workload(project))
    folder_of(instance).rename(folder_of(instance).with_name("moved"))
    condition = local.inspect(instance)
    assert condition.status is Status.ERROR
    assert "is gone" in (condition.reason or "")
    local.stop(instance, grace=1.0)
    assert local.inspect(instance).status is Status.ABSENT
    assert process_identity(int(str(instance.handle["pid"]))) is None


# What it ends


def test_children_that_fled_are_ended(make: Make, project: Path) -> None:
    """A process that a pipeline has put into a session of its own ends with the instance."""
    local = make()
    instance = running(local, workload(project))
    ask(instance, flee=True)
    [fled] = [each for each in members(folder_of(instance)) if "time.sleep(600)" in " ".join(each.cmdline())]
    local.stop(instance, grace=1.0)
    assert process_identity(fled.pid) is None
    assert members(folder_of(instance)) == []


def test_what_does_not_end_is_killed(make: Make, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not listen is killed with its keeper, and the record says so."""
    monkeypatch.setattr(deployer, "_CLEAN_UP", 0.1)
    local = make()
    instance = running(local, workload(project))
    [server] = keeper_of(instance).children()
    server.suspend()
    local.stop(instance, grace=0.1)
    assert process_identity(server.pid) is None
    assert local.inspect(instance).reason == "it was killed, since it had not ended when it was told to"


def test_what_runs_is_not_removed(make: Make, project: Path) -> None:
    """An instance that runs is neither discarded nor removed."""
    local = make()
    instance = running(local, workload(project))
    for forbidden in (lambda: local.discard(instance), lambda: local.remove(ID)):
        with pytest.raises(DeploymentError, match="revision 1 still runs"):
            forbidden()
    assert ask(instance)["cwd"] == str(project)


# Addresses


def test_another_address_is_bound(make: Make, project: Path) -> None:
    """A revision that is to listen elsewhere does, and the one before it keeps its address until it is retired."""
    first = running(make(), workload(project))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = running(make(), workload(project, 2, port=port), first)
    assert second.url == f"http://127.0.0.1:{port}" != first.url
    assert ask(first) == {**ask(second), "ASGIPIPE_INSTANCE": str(folder_of(first))}
    make().retire(first, by=second, grace=5.0)
    third = running(make(), workload(project, 3), second)
    assert third.url != second.url


def test_the_port_that_it_got_can_be_asked_for(make: Make, project: Path) -> None:
    """A revision whose port is the one that the revision before it happened to get takes it over."""
    first = running(make(), workload(project))
    port = int(first.url.rpartition(":")[2])
    assert running(make(allocate_port_if_busy=False), workload(project, 2, port=port), first).url == first.url


def test_the_settings_of_the_deployer_choose_the_address(make: Make, project: Path) -> None:
    """`address`, `port`, `allocate_port_if_busy` and `port_range` each decide where an instance listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = make(port=port, allocate_port_if_busy=False)
        instance = start(refused, workload(project))
        until(lambda: refused.inspect(instance).status is Status.ERROR, "the end")
        assert f"another program listens on 127.0.0.1:{port}" in str(refused.inspect(instance).reason)
        elsewhere = start(make(port=port, port_range=(port + 1, 65535)), workload(project, 2))
        assert port < int(elsewhere.url.rpartition(":")[2]) < port + 1000
    everywhere = start(make(address="0.0.0.0"), workload(project, 3, root="/api"))
    assert everywhere.url.startswith("http://127.0.0.1:")
    assert everywhere.url.endswith("/api")


def test_a_deep_folder_hands_over_too(make: Make, project: Path, tmp_path: Path) -> None:
    """Where the path of a Unix socket would be too long, a private folder has it, and it is removed with the rest."""
    folder = tmp_path.joinpath(*["deep" * 10] * 3)
    local = make(folder=folder)
    first = running(local, workload(project))
    second = running(local, workload(project, 2), first)
    assert second.url == first.url
    for instance in (first, second):
        local.stop(instance, grace=1.0)
    local.remove(ID)
    assert list(folder.iterdir()) == []


def test_the_scheme_is_that_of_the_server(make: Make, project: Path) -> None:
    """The URL of a server with a certificate begins with https."""
    assert start(make(), workload(project, scheme="https")).url.startswith("https://127.0.0.1:")


# Settings and files


def test_the_log_is_bounded(make: Make, project: Path) -> None:
    """`log_max_bytes` and `log_files` bound what an instance keeps of its log."""
    noisy = "def app(lines: int) -> int:\n    for number in range(lines):\n        print('x' * 99)\n    return lines\n"
    (project / "noisy.py").write_text(noisy)
    local = make(log_max_bytes=65536, log_files=2)
    instance = running(local, workload(project, target="noisy.py"))
    httpx.post(f"{instance.url}/invoke", json={"parameters": {"lines": 2000}}, timeout=PATIENCE)
    until((folder_of(instance) / "log.1").exists, "a rotation")
    local.stop(instance, grace=1.0)
    logs = sorted(path for path in folder_of(instance).iterdir() if path.name.startswith("log"))
    assert [path.name for path in logs] == ["log", "log.1"]
    assert all(path.stat().st_size <= 65536 for path in logs)
    assert len(list(local.logs(instance, tail=None, follow=False))) > 655


@pytest.mark.parametrize("wrong", [{"port": 65536}, {"port_range": (9000, 8000)}, {"log_files": 0}, {"prot": 1}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    """A value that makes no sense, and a field that there is not, are refused."""
    with pytest.raises(ValidationError):
        LocalDeployerSettings.model_validate(wrong)


def test_every_setting_is_described() -> None:
    """Each field says what it is for."""
    assert all(field.description for field in LocalDeployerSettings.model_fields.values())


def test_commands_are_the_machines_own(make: Make, project: Path) -> None:
    """They show the log and the processes of an instance, without asgipipe."""
    local = make()
    instance = running(local, workload(project))
    commands = local.commands(instance)
    processes = subprocess.run(str(commands["processes"]), shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert "asgipipe serve" in processes.stdout
    log = subprocess.run(str(commands["log"]).replace("-F", ""), shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert "serves on" in log.stdout
    json.dumps(instance.as_json())


def test_it_needs_processes_as_unix_has_them(make: Make, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows nothing is tried, and the error says what to use instead."""
    monkeypatch.setattr(deployer, "_SUPPORTED", False)
    with pytest.raises(DeploymentError, match="needs Linux or macOS"):
        start(make(), workload(project))


def test_a_folder_that_cannot_be_made(make: Make, tmp_path: Path) -> None:
    """The check names a folder that is none."""
    (tmp_path / "file").touch()
    with pytest.raises(DeploymentError, match=f"the folder {tmp_path}/file/deployments cannot be made"):
        make(folder=tmp_path / "file" / "deployments").check()


def test_the_folder_is_beside_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default everything is kept below the working directory, also when that is changed later."""
    monkeypatch.chdir(tmp_path)
    local = LocalDeployer("local", LocalDeployerSettings())
    local.check()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    local.check()
    assert (tmp_path / ".asgipipe" / "deployments").is_dir()
    assert list((tmp_path / "other").iterdir()) == []
