"""Fixtures that tests of more than one package use."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from asgipipe.http.docs import SIDECAR
from asgipipe.http.types import ASGIApp, Message, Scope
from tests.postgresql import PostgreSQLServer, running

PATIENCE = 30.0
"""Seconds until something that normally takes a fraction of one is given up."""

needs_docs = pytest.mark.skipif(find_spec(SIDECAR) is None, reason="the docs extra is not installed")

Headers = list[tuple[bytes, bytes]]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes test: most tests wait for a server, and one process for each core leaves half idle."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + min(cores, 4)


@dataclass(frozen=True)
class Answer:
    """What an ASGI application answered; `headers` are as it sent them."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the only header with this name; two of them are an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name!r} was sent {len(values)} times"
        return values[0] if values else None


class Call(Protocol):
    def __call__(
        self,
        app: ASGIApp,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
    ) -> Answer: ...


@pytest.fixture
def call() -> Call:
    """Start an ASGI application in this process, send it one request, stop it, return the answer."""

    def call(
        app: ASGIApp,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
    ) -> Answer:
        async def run() -> Answer:
            async with lifespan(app):
                return await exchange(app, path, method=method, headers=headers, body=body)

        return asyncio.run(run())

    return call


@contextlib.asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Run the lifespan of an ASGI application around the block; a start or stop that fails is an AssertionError."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, outbox.put)
    )

    async def phase(name: str) -> None:
        await inbox.put({"type": f"lifespan.{name}"})
        message = await asyncio.wait_for(outbox.get(), PATIENCE)
        assert message["type"] == f"lifespan.{name}.complete", message

    try:
        await phase("startup")
        yield
        await phase("shutdown")
        await asyncio.wait_for(task, PATIENCE)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def exchange(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
) -> Answer:
    """Send one request to a started ASGI application; `path` may end in a query."""
    path, _, query = path.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"testserver"), (b"content-length", b"%d" % len(body)), *headers],
        "client": ("127.0.0.1", 40000),
        "server": ("testserver", 80),
    }
    requests: asyncio.Queue[Message] = asyncio.Queue()
    requests.put_nowait({"type": "http.request", "body": body, "more_body": False})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, requests.get, send), PATIENCE)
    start, *rest = sent
    return Answer(start["status"], list(start.get("headers", [])), b"".join(part.get("body", b"") for part in rest))


@dataclass
class Server:
    """A running `asgipipe serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path = field(repr=False)

    def stderr(self) -> str:
        """Return what the server has written to standard output and standard error."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal to the server's first process, wait for its end, return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def wait_until_ready(self) -> None:
        """Return when the server answers, and no longer 503; if it ends before that, fail and show its log.

        Asked is `/ready`, but where settings have moved it a 404 tells as much.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with status {self.process.returncode}:\n{self.stderr()}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ready", timeout=PATIENCE).status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return
            time.sleep(0.02)
        pytest.fail(f"the server was not ready after {PATIENCE:g} s:\n{self.stderr()}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQLServer]:
    """Run a PostgreSQL server for all tests of this process; whoever disturbs it runs one of their own."""
    with running() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSQLServer) -> Iterator[str]:
    """Return the URL of a new, empty database."""
    with postgresql.database() as url:
        yield url


class Serve(Protocol):
    def __call__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = (),
        ready: bool = True,
    ) -> Server: ...


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts `asgipipe serve` with some arguments on a free port and waits until it is ready.

    `env` is added to the environment; `program` replaces `python -m asgipipe serve`; with `ready=False` nothing is
    waited for. When the test ends, whatever the servers started is killed.
    """
    servers: list[Server] = []

    def serve(
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = (),
        ready: bool = True,
    ) -> Server:
        port = free_port()
        ports = {"ASGIPIPE_UVICORN_PORT": str(port), "UVICORN_PORT": str(port)}
        log = tmp_path / f"server-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*(program or (sys.executable, "-m", "asgipipe", "serve")), *arguments],
                cwd=cwd or tmp_path,
                env={**os.environ, **ports, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(f"http://127.0.0.1:{port}", process, log)
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    yield serve
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def free_port() -> int:
    """Return a port on which nothing listens, of the kernel's choice: parallel tests hardly ever get the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
