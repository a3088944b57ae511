"""A project with a deployment among its URLs, on the servers that Django is run with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

pytest.importorskip("django")
pytest.importorskip("gunicorn")

from tests.adapters.django.hosts import write_project
from tests.conftest import PATIENCE, free_port

GUNICORN = ("-m", "gunicorn", "-b", "127.0.0.1:{port}", "--no-control-socket")
WORKER = ("-k", "uvicorn_worker.UvicornWorker")
SERVERS = {
    "uvicorn-plain": ("-m", "uvicorn", "shop.asgi:django", "--port", "{port}"),
    "gunicorn-uvicorn-worker-plain": (*GUNICORN, *WORKER, "shop.asgi:django"),
    "uvicorn": ("-m", "uvicorn", "shop.asgi:included", "--port", "{port}"),
    "gunicorn-uvicorn-worker": (*GUNICORN, *WORKER, "shop.asgi:included"),
    "gunicorn-sync": (*GUNICORN, "-w", "2", "shop.wsgi"),
    "gunicorn-gthread": (*GUNICORN, "-k", "gthread", "--threads", "4", "shop.wsgi"),
    "gunicorn-preload": (*GUNICORN, "-k", "gthread", "--threads", "4", "--preload", "shop.wsgi"),
    "runserver": ("manage.py", "runserver", "--noreload", "{port}"),
    "uvicorn-mount": ("-m", "uvicorn", "shop.asgi:application", "--port", "{port}"),
    "gunicorn-mount-preload": (*GUNICORN, *WORKER, "--preload", "shop.asgi:application"),
}


@dataclass
class Running:
    name: str
    url: str
    process: subprocess.Popen[bytes]
    trace: Path
    log: Path

    def stop(self) -> list[tuple[str, str]]:
        """End the server as its users do; return what the hooks noted, with the process each."""
        # runserver leaves SIGTERM to its default, which lets no Python code run.
        self.process.send_signal(signal.SIGINT if self.name == "runserver" else signal.SIGTERM)
        self.process.wait(PATIENCE)
        return [tuple(line.split()) for line in self.trace.read_text().splitlines()]  # type: ignore[misc]  # two words


def interruptible() -> None:
    """Let SIGINT stop the process, also where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose database has its tables."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    subprocess.run((sys.executable, "manage.py", "migrate", "-v0"), cwd=folder, check=True)
    return folder


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> Iterator[Running]:
    folder, port, trace = shutil.copytree(migrated, tmp_path / "project"), free_port(), tmp_path / "trace"
    trace.touch()
    environment = {**os.environ, "TRACE": str(trace), "DJANGO_SETTINGS_MODULE": "shop.settings"}
    command = [part.format(port=port) for part in SERVERS[request.param]]
    prefix = "/mounted" if "mount" in request.param else "/weather"
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, *command),
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=interruptible,  # noqa: PLW1509  # it takes no lock
        )
    running = Running(request.param, f"http://127.0.0.1:{port}{prefix}", process, trace, log)
    try:
        wait_for(f"http://127.0.0.1:{port}/own", running)
        yield running
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, running: Running) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert running.process.poll() is None, running.log.read_text()
        try:
            httpx.get(url, timeout=PATIENCE)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(running.log.read_text())


def test_it_serves_and_stops_cleanly(server: Running) -> None:
    """Concurrent first requests start it once a process, runs see the project, and it stops with its process."""
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{server.url}/invoke", timeout=PATIENCE), range(6)))
    assert [answer.json()["outputs"] for answer in answers] == [{"output": "Rome: 0 users"}] * 6
    for name in ("x-frame-options", "x-content-type-options", "referrer-policy", "content-length", "x-request-id"):
        assert len(answers[0].headers.get_list(name)) == 1, name
    body = json.dumps({"a": "x" * 5_000_000})
    answer = httpx.post(f"{server.url}/size", content=body, headers={"content-type": "application/json"})
    assert answer.text == "5000000"
    head = httpx.head(f"{server.url}/info")
    assert (head.status_code, head.content, int(head.headers["content-length"]) > 0) == (200, b"", True)
    assert httpx.get(f"{server.url}/nowhere").headers["content-type"] == "application/problem+json"
    pieces = streamed(f"{server.url}/slow")
    assert next(pieces) == "first"
    server.trace.with_name("trace-has-arrived").touch()  # what the second one waits for
    assert [*pieces] == ["second"]
    noted = server.stop()
    processes = {process for _, process in noted}
    assert sorted(noted) == sorted((event, process) for event in ("start", "stop") for process in processes)
    assert "Traceback" not in server.log.read_text()


def streamed(url: str) -> Iterator[str]:
    with httpx.stream("GET", url, timeout=PATIENCE) as answer:
        yield from answer.iter_lines()
