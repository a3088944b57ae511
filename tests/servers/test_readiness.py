import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from asgipipe.errors import ServerError
from asgipipe.servers.readiness import VARIABLE, ready_file
from asgipipe.servers.sockets import LISTENER
from tests.servers.command import PATIENCE, SERVERS, Command, command, until

APP = """
import os, pathlib, time
from asgipipe import pipeline

def hook():
    if os.environ.get("FAIL"):
        raise RuntimeError("broken")
    if os.environ.get("WAIT"):
        while not pathlib.Path("open").exists():
            time.sleep(0.01)

@pipeline(settings={"startup_hook": hook})
def app(seconds: float = 0.0) -> list[str]:
    if seconds:
        pathlib.Path("begun").touch()
        time.sleep(seconds)
    return sorted(name for name in os.environ if name.startswith("ASGIPIPE_"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@contextmanager
def kept(folder: Path, *arguments: object, **environment: str) -> Iterator[tuple[Command, int]]:
    """Serve on a socket that this process has bound; gives the command and the port."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ASGIPIPE_")}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "asgipipe", "serve", "app.py", *map(str, arguments)],
            cwd=folder,
            env={
                **variables,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                VARIABLE: str(folder / "ready"),
                LISTENER: str(listener.fileno()),
                **environment,
            },
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = Command(process)
    try:
        yield running, port
    finally:
        process.kill()
        running.status()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_it_is_there_from_when_all_workers_serve_until_the_end(folder: Path, server: str, workers: int) -> None:
    """The file is written when every worker has started up, on the socket that was given, and goes with the command."""
    ready = folder / "ready"
    ready.write_text("of a command before\n")
    with kept(folder, "--server", server, "--workers", workers, WAIT="yes") as (running, port):
        until(lambda: not ready.exists(), "the removal of what an earlier command has written")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        (folder / "open").touch()
        until(ready.exists, "the ready file")
        assert int(ready.read_text()) == running.process.pid
        answer = httpx.post(f"http://127.0.0.1:{port}/invoke", json={"parameters": {}}, timeout=PATIENCE)
        assert set(answer.json()["outputs"]["output"]) <= {"ASGIPIPE_SPECIFICATION"}
        assert running.stop() == 0
        assert not ready.exists()


@pytest.mark.parametrize(("server", "workers"), SERVERS[1:3])
def test_a_failing_start_writes_none(folder: Path, server: str, workers: int) -> None:
    """A command that does not come to serve leaves no ready file, not even an old one."""
    (folder / "ready").touch()
    with kept(folder, "--server", server, "--workers", workers, FAIL="yes") as (running, _):
        assert running.status() == 3
    assert [path.name for path in folder.iterdir() if path.name.startswith("ready")] == []


def test_a_file_that_cannot_be_written_fails_the_start(folder: Path) -> None:
    """Whoever waits for the file does not wait in vain: the command ends and names the file."""
    place = folder / "nowhere" / "ready"
    with command("serve", "app.py", "--port", 0, folder=folder, environment={VARIABLE: str(place)}) as running:
        assert running.status() == 3
        assert f"{place} ({VARIABLE})" in running.output


def test_nobody_wants_to_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the variable nothing is written; with it, the variable is gone until the next program is to have it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with ready_file() as ready:
        ready.write()
        ready.leave_to_next()
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ready"))
    with ready_file() as ready:
        assert VARIABLE not in os.environ
        ready.leave_to_next()
        assert os.environ[VARIABLE] == str(tmp_path / "ready")


@pytest.mark.parametrize("descriptor", ["nonsense", "987654"])
def test_a_listener_that_is_none_is_refused(folder: Path, descriptor: str) -> None:
    """A descriptor that is no socket is one clear message."""
    with command("serve", "app.py", folder=folder, environment={LISTENER: descriptor}) as running:
        assert running.status() == ServerError.exit_code
        assert f"file descriptor '{descriptor}' ({LISTENER}) is no socket" in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_one_that_retires_finishes_and_takes_no_more(folder: Path, server: str, workers: int) -> None:
    """After SIGUSR2 a command stops listening at once, answers what it has begun, and ends with status 0."""
    with kept(folder, "--server", server, "--workers", workers) as (running, port):
        until((folder / "ready").exists, "the ready file")
        url, statuses = f"http://127.0.0.1:{port}", list[int]()
        body = {"parameters": {"seconds": 1.0}}
        asking = threading.Thread(
            target=lambda: statuses.append(httpx.post(f"{url}/invoke", json=body, timeout=PATIENCE).status_code)
        )
        asking.start()
        until((folder / "begun").exists, "the request")
        running.signal(signal.SIGUSR2)
        assert running.status() == 0
        asking.join()
        assert statuses == [200]
        assert "cancelled" not in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS[1:3])
def test_one_that_retires_while_it_starts_ends(folder: Path, server: str, workers: int) -> None:
    """Workers that have not started up yet have nothing to leave to others, and are stopped."""
    with kept(folder, "--server", server, "--workers", workers, WAIT="yes") as (running, _):
        until(lambda: len(children_of(running.process.pid)) >= 1, "a worker")
        running.signal(signal.SIGUSR2)
        (folder / "open").touch()
        running.status()
        assert not (folder / "ready").exists()


def children_of(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children()]
