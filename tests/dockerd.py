"""A container engine of the tests' own: Debian's dockerd, with a base image made from Debian's packages.

It needs root, the packages docker.io and mmdebstrap, and nothing from a registry of images. All workers of a test run
share one engine; it ends when none of them is left, however they ended.
"""

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

PROGRAMS = ("dockerd", "containerd", "runc", "docker-proxy", "mmdebstrap")
BASE = "asgipipe-tests/base:debian"
NETWORK = "asgipipe-tests"
"""A network with published ports: without its rules for iptables, Docker has no default one."""

_PACKAGES = "python3,python3-venv,ca-certificates"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_OLDEST = 14 * 86_400
"""Seconds after which the base image is made anew."""
_PATIENCE = 300.0


@dataclass(frozen=True)
class Engine:
    """`base` is the image to build on; it holds Debian's python3."""

    url: str
    base: str = BASE
    network: str = NETWORK


# Whoever runs the tests has told their tools by these about an index.
_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")


@contextlib.contextmanager
def engine_of_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of this test run; skips the test when none can run here."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with shared(folder_of_run(tmp_path_factory)) as engine:
        yield engine


def folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this test run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def settings_for(engine: Engine) -> dict[str, object]:
    """Return the settings of a deployer that uses an engine of the tests and builds as this machine installs."""
    trusted = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    return {
        "base_url": engine.url,
        "base_image": engine.base,
        "network": engine.network,
        "build_network": "host",
        "build_args": dict.fromkeys(_VARIABLES),
        "extras": ["gunicorn"],  # the same for all tests, so that what takes long is built once
        **({"ca_file": trusted} if trusted and Path(trusted).is_file() else {}),
    }


def option(value: object) -> str:
    """Return a setting's value as a shell has it."""
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def missing() -> str | None:
    """Return why no engine can run here."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "a container engine needs Linux, and root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)} is not installed (Debian's packages docker.io and mmdebstrap)"
    if not os.access("/sys/fs/cgroup", os.W_OK) or not Path("/proc/self/cgroup").read_text().strip():
        return "the control groups of this machine cannot be used"
    return None


@contextlib.contextmanager
def shared(place: Path) -> Iterator[Engine]:
    """Start the engine of the test run whose folder is `place`, or use the one that another worker has started.

    Raises RuntimeError when it does not start.
    """
    folder = place / "dockerd"
    url = f"unix://{folder}/docker.sock"
    with folder.with_suffix(".users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with locked(folder.with_suffix(".lock")):
            if not _answers(url):
                folder.mkdir(mode=0o700, exist_ok=True)
                _start(folder, url)
        yield Engine(url)


def _start(folder: Path, url: str) -> None:
    base = _base_image()
    subprocess.run([sys.executable, __file__, folder], stdin=subprocess.DEVNULL, cwd="/", check=True)
    deadline = time.monotonic() + _PATIENCE
    while not _answers(url):
        if time.monotonic() > deadline or (folder / "failed").exists():
            raise RuntimeError(f"dockerd does not start: {_tail(folder / 'log')}")
        time.sleep(0.1)
    _docker(url, "import", "--change", "CMD python3", base, BASE)
    _docker(url, "network", "create", NETWORK)


def _base_image() -> Path:
    """Return a tar file with Debian and its Python, made once for several test runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "asgipipe-tests")
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    suite = _debian()
    image = cache / f"{suite}.tar"
    with locked(cache / "lock"):
        if not image.exists() or time.time() - image.stat().st_mtime > _OLDEST:
            made = cache / f"{suite}.{os.getpid()}.tar"
            options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
            command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={_PACKAGES}", *options, suite, made]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
            if done.returncode:
                made.unlink(missing_ok=True)
                raise RuntimeError(f"mmdebstrap makes no base image: {done.stderr[-2000:]}")
            made.replace(image)
    return image


def _debian() -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    members = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return members.get("VERSION_CODENAME", "bookworm").strip('"') if members.get("ID") == "debian" else "bookworm"


def _answers(url: str) -> bool:
    socket = Path(url.removeprefix("unix://"))
    return socket.exists() and subprocess.run(_command(url, "info"), capture_output=True).returncode == 0


def _docker(url: str, *arguments: str | Path) -> None:
    subprocess.run(_command(url, *arguments), capture_output=True, text=True, check=True, timeout=_PATIENCE)


def _command(url: str, *arguments: str | Path) -> list[str | Path]:
    docker = shutil.which("docker", path=_path())
    assert docker is not None
    return [docker, "--host", url, *arguments]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes off."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:] if path.exists() else "it has written nothing"


# The process that keeps dockerd


def keep(folder: Path) -> None:
    """Run dockerd until nobody uses it, and remove all it has made."""
    options = [
        *("--data-root", folder / "data"),
        *("--exec-root", folder / "exec"),
        *("--pidfile", folder / "pid"),
        *("--host", f"unix://{folder}/docker.sock"),
        *("--iptables=false", "--ip6tables=false", "--bridge=none"),
    ]
    environment = {**os.environ, "PATH": _path()}
    with folder.with_suffix(".users").open("w") as users, (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
        try:
            _until_unused(users, daemon)
            if daemon.poll() is not None:
                (folder / "failed").touch()
                time.sleep(1)  # for whoever waits to read the log
        finally:
            _end(folder, daemon)


def _until_unused(users: IO[str], daemon: "subprocess.Popen[bytes]") -> None:
    """Return when no worker is left, with the lock that keeps others off, or when the daemon has ended."""
    while daemon.poll() is None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.5)
        else:
            return


def _end(folder: Path, daemon: "subprocess.Popen[bytes]") -> None:
    if daemon.poll() is None:
        url = f"unix://{folder}/docker.sock"
        found = subprocess.run(_command(url, "ps", "-aq"), capture_output=True, text=True).stdout.split()
        if found:
            subprocess.run(_command(url, "rm", "--force", *found), capture_output=True)
        subprocess.run(_command(url, "network", "rm", NETWORK), capture_output=True)
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    for place in (folder / "exec", folder / "data"):  # what a daemon that was killed has left mounted
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{place}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if os.fork():  # nobody waits for it
        os._exit(0)
    os.setsid()
    keep(Path(sys.argv[1]))
