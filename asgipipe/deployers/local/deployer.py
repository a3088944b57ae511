"""The deployer of flavor `local`: each revision is a keeper with its server, in the background of this machine.

All that is known of an instance stands in its folder, `<folder>/<deployment id>/<revision>`, so any process can find
and end it, also when the command that started it was killed. Whoever holds the folder's lock is its one keeper; the
command takes the lock before it starts the keeper, which inherits it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from asgipipe.deployers.deployer import BaseDeployer, DeployerSettings, Report
from asgipipe.deployers.identity import ProcessIdentity, living, this_process
from asgipipe.deployers.keeper.state import INSTANCE, Address
from asgipipe.deployers.local import processes, reading
from asgipipe.deployers.local.folder import InstanceFolder, Plan
from asgipipe.deployers.local.settings import LocalDeployerSettings
from asgipipe.deployers.records import Condition, Instance, JSONObject, Status, Workload
from asgipipe.errors import DeploymentError
from asgipipe.servers.drain import RETIRE

_DEFAULT_FOLDER = Path(".asgipipe", "deployments")
_PREFIX = "ASGIPIPE_"
_SUPPORTED = os.name == "posix"
_TAKEN_UP = 30.0
"""Seconds in which a keeper must have said who it is and what it listens on: imports on a busy machine."""
_CLEAN_UP, _CLEAN_UP_OF_START = 10.0, 3.0
"""Seconds that a server may take after the grace: what still runs is cancelled then, and its hooks run. One that is
still starting has less to clean up."""
_PAUSE = 0.02
_SHOWN = 20
"""Last lines of a log that tell about an error."""
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class LocalDeployer(BaseDeployer):
    """Runs deployments as background processes of this user on this machine."""

    settings_class: ClassVar[type[DeployerSettings]] = LocalDeployerSettings

    def __init__(self, name: str, settings: DeployerSettings) -> None:
        super().__init__(name, settings)
        self._settings = LocalDeployerSettings.model_validate(settings.model_dump())
        # Made absolute here, so that a program which changes its directory keeps its deployments.
        self._root = (self._settings.folder or _DEFAULT_FOLDER).expanduser().absolute()

    def check(self) -> None:
        if not _SUPPORTED:
            raise DeploymentError(
                "the local deployer needs Linux or macOS: on Windows use WSL, or a deployer of flavor docker"
            )
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DeploymentError(f"the folder {self._root} cannot be made: {error.strerror}") from error

    # Start

    def start(self, workload: Workload, *, replaces: Instance | None, report: Report) -> Instance:
        self.check()
        if not Path(workload.project).is_dir():
            raise DeploymentError(f"the project of {workload.name} is not there: {workload.project}")
        folder = self._folder(workload.deployment_id, workload.revision)
        deadline = time.monotonic() + _TAKEN_UP
        started = False
        while time.monotonic() < deadline:
            identity = folder.state.identity()
            if identity is not None and living(identity) and folder.state.address() is not None:
                return _instance(folder)
            with folder.locked() as lock:
                if lock is not None and started:
                    return _instance(folder)  # it has ended already, and its folder tells why
                if lock is not None:
                    report("starting a process")
                    self._start_keeper(folder, workload, replaces, lock)
                    started = True
            time.sleep(_PAUSE)
        raise DeploymentError(f"the keeper of {workload.name} did not start within {_TAKEN_UP:g} s; see {folder.path}")

    def _start_keeper(self, folder: InstanceFolder, workload: Workload, replaces: Instance | None, lock: int) -> None:
        plan = Plan(
            scheme=workload.scheme,
            host=self._settings.address or workload.host,
            port=workload.port if self._settings.port is None else self._settings.port,
            root=workload.root,
            started_at=time.time(),
        )
        folder.prepare(plan, workload.settings)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
        environment |= {"PYTHONUNBUFFERED": "1", **workload.environment, INSTANCE: str(folder.path)}
        with os.fdopen(os.open(folder.state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            try:
                subprocess.run(  # noqa: S603  # our own module
                    [*self._keeper(folder, plan, replaces), "--", *_server(workload, folder)],
                    cwd=workload.project,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                    start_new_session=True,
                    check=False,  # it detaches; how it fares stands in its folder
                    timeout=_TAKEN_UP,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise DeploymentError(f"the keeper of {workload.name} cannot be started: {error}") from error

    def _keeper(self, folder: InstanceFolder, plan: Plan, replaces: Instance | None) -> list[str]:
        port, before = plan.port, None if replaces is None else self._predecessor(replaces, plan)
        options = ["--state", str(folder.path), "--detach", "--offer", str(folder.offer)]
        if before is not None:
            predecessor, port = before
            options += ["--take-over", str(predecessor)]
        if self._settings.allocate_port_if_busy:
            options += ["--ports", "{}-{}".format(*self._settings.port_range)]
        options += ["--log-files", str(self._settings.log_files), "--log-max-bytes", str(self._settings.log_max_bytes)]
        return [sys.executable, "-m", "asgipipe.deployers.keeper", f"--host={plan.host}", f"--port={port}", *options]

    def _predecessor(self, replaces: Instance, plan: Plan) -> tuple[Path, int] | None:
        """Return where the instance before gives its listener, and its port, when the new one wants its address."""
        folder, before = _folder_of(replaces), _folder_of(replaces).plan()
        address = folder.state.address()
        if before is None or address is None or _is_elsewhere(replaces) or not _lives(replaces):
            return None
        wanted = Address(plan.host, plan.port)
        return (folder.offer, address.port) if wanted in {Address(before.host, before.port), address} else None

    # Look

    def inspect(self, instance: Instance) -> Condition:
        if _is_elsewhere(instance):
            return Condition(Status.UNKNOWN, f"it was started on {instance.handle.get('host')}: ask there")
        folder = _folder_of(instance)
        if not folder.path.is_dir():
            return self._without_folder(instance, folder)
        if _lives(instance):
            return self._living(folder)
        if folder.is_kept:
            return Condition(Status.PENDING, "its process is being started")
        if folder.plan() is None:
            return Condition(Status.ABSENT, "its process was never started")
        log = reading.last_lines(folder.state.log, _SHOWN)
        return Condition(Status.ERROR, _reason(instance, folder, log), log)

    def _without_folder(self, instance: Instance, folder: InstanceFolder) -> Condition:
        if _lives(instance):
            return Condition(Status.ERROR, f"it runs, and its folder {folder.path} is gone")
        return Condition(Status.ABSENT, f"there is no folder {folder.path}")

    def _living(self, folder: InstanceFolder) -> Condition:
        if folder.state.ready.exists():
            return Condition(Status.RUNNING)
        plan = folder.plan()
        waited = 0.0 if plan is None else time.time() - plan.started_at
        if waited < self._settings.start_timeout:
            return Condition(Status.PENDING, "its server has not started up yet")
        reason = f"it did not start up within {self._settings.start_timeout:g} s (start_timeout)"
        return Condition(Status.ERROR, reason, reading.last_lines(folder.state.log, _SHOWN))

    def instances(self, deployment_id: str) -> list[Instance]:
        return [_instance(folder) for folder in self._folders(deployment_id)]

    def logs(self, instance: Instance, *, tail: int | None, follow: bool) -> Iterator[str]:
        folder = _folder_of(instance)
        return reading.follow(
            folder.state.log, tail=tail, ended=lambda: not (follow and (_lives(instance) or folder.is_kept))
        )

    def commands(self, instance: Instance) -> JSONObject:
        folder = _folder_of(instance)
        identity = _identity(instance)
        found = {"log": f"tail -n 100 -F {folder.state.log}"}
        return found if identity is None else {**found, "processes": f"ps -o pid,ppid,stat,args -s {identity.pid}"}

    # End

    def stop(self, instance: Instance, *, grace: float) -> None:
        self._end(instance, signal.SIGTERM, grace)

    def retire(self, instance: Instance, *, by: Instance, grace: float) -> None:
        self._end(instance, signal.SIGTERM if RETIRE is None else RETIRE, grace)

    def _end(self, instance: Instance, number: int, grace: float) -> None:
        if _is_elsewhere(instance):
            raise DeploymentError(f"it was started on {instance.handle.get('host')} and can only be ended there")
        folder, identity = _folder_of(instance), _identity(instance)
        killed = False
        if identity is not None and processes.tell(identity, number) and not processes.ends_within(identity, grace):
            processes.tell(identity, signal.SIGTERM)  # the second one: what still runs is cancelled
            if not processes.ends_within(identity, _CLEAN_UP if folder.state.ready.exists() else _CLEAN_UP_OF_START):
                processes.kill_group(identity)
                killed = True
        killed = processes.kill_members(folder.path) or killed
        if killed and folder.state.exit() is None and folder.path.is_dir():
            reason = "it was killed, since it had not ended when it was told to"
            folder.state.write_exit(128 + signal.SIGKILL, reason, signal.Signals(number).name)

    def discard(self, instance: Instance) -> None:
        _remove(_folder_of(instance), instance)

    def remove(self, deployment_id: str) -> None:
        for folder in self._folders(deployment_id):
            _remove(folder, _instance(folder))
        shutil.rmtree(self._root / deployment_id, ignore_errors=True)

    # Folders

    def _folder(self, deployment_id: str, revision: int) -> InstanceFolder:
        return InstanceFolder(self._root / deployment_id / str(revision))

    def _folders(self, deployment_id: str) -> list[InstanceFolder]:
        try:
            names = [path.name for path in (self._root / deployment_id).iterdir() if path.name.isdecimal()]
        except OSError:
            return []
        return [self._folder(deployment_id, number) for number in sorted(map(int, names))]


def _server(workload: Workload, folder: InstanceFolder) -> list[str]:
    return [
        *(sys.executable, "-m", "asgipipe", "serve", workload.target),
        *(f"--name={workload.name}", f"--config={folder.settings}"),
    ]


def _instance(folder: InstanceFolder) -> Instance:
    plan, address, identity = folder.plan(), folder.address(), folder.state.identity()
    host = folder.state.host() or socket.gethostname()
    handle: dict[str, object] = {"folder": str(folder.path), "host": host, "boot": this_process().boot}
    if identity is not None:
        handle |= {"pid": identity.pid, "started": identity.started, "boot": identity.boot}
    url = "" if plan is None or address is None else _url(plan, address)
    return Instance(int(folder.path.name), url, handle)


def _url(plan: Plan, address: Address) -> str:
    host = _ANYWHERE.get(address.host, address.host)
    return f"{plan.scheme}://{f'[{host}]' if ':' in host else host}:{address.port}{plan.root}"


def _folder_of(instance: Instance) -> InstanceFolder:
    return InstanceFolder(Path(str(instance.handle["folder"])))


def _identity(instance: Instance) -> ProcessIdentity | None:
    """Return who its keeper is: as its folder says, else as it was when the instance was returned."""
    handle = instance.handle
    found = _folder_of(instance).state.identity()
    if found is not None or "pid" not in handle:
        return found
    return ProcessIdentity(int(str(handle["pid"])), float(str(handle["started"])), str(handle["boot"]))


def _lives(instance: Instance) -> bool:
    identity = _identity(instance)
    return identity is not None and living(identity) is not None


def _is_elsewhere(instance: Instance) -> bool:
    """Say whether its processes cannot be seen from here: they are another machine's, or another container's."""
    if _lives(instance):  # where the system names no boot, that is surer than the name of a laptop, which changes
        return False
    here, there = this_process().boot, str(instance.handle.get("boot"))
    if here == there and here:
        return False
    same_boot = here.partition(" ")[0] == there.partition(" ")[0]
    return instance.handle.get("host") != socket.gethostname() or (bool(here) and same_boot)


def _reason(instance: Instance, folder: InstanceFolder, log: list[str]) -> str:
    """Return why it runs no more, in one line."""
    ended = folder.state.exit()
    if ended is None:
        identity = _identity(instance)
        if identity is not None and identity.boot != this_process().boot:
            return "the machine was started anew"
        return "its keeper was killed"
    said = next((line for line in reversed(log) if line.startswith("Error: ")), None)
    if said is None or not ended.status or ended.told is not None:
        return ended.reason
    text = said.removeprefix("Error: ")
    return ended.reason if text == ended.reason else f"{ended.reason}: {text}"


def _remove(folder: InstanceFolder, instance: Instance) -> None:
    if _is_elsewhere(instance):
        raise DeploymentError(f"it was started on {instance.handle.get('host')} and can only be removed there")
    if _lives(instance) or folder.is_kept:
        raise DeploymentError(f"revision {instance.revision} still runs and cannot be removed: stop it first")
    folder.remove()
