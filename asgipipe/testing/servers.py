"""Server processes for the suite, each started once for all specimens of one subject in one form."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from asgipipe.testing.client import PATIENCE, Client, Headers
from asgipipe.testing.served import FORM, HEADER, STORE, SUBJECT
from asgipipe.testing.sockets import SocketClient
from asgipipe.testing.subject import Form, Subject
from asgipipe.testing.trial import Trial, Workshop, until_ready

_APPLICATION = "asgipipe.testing.served:application"


def _uvicorn(descriptor: int) -> list[str]:
    return ["uvicorn", "--factory", _APPLICATION, "--fd", str(descriptor), "--no-server-header"]


def _gunicorn(descriptor: int) -> list[str]:
    worker = ["-k", "asgipipe.testing.worker.Worker", "--no-control-socket"]
    return ["gunicorn", f"{_APPLICATION}()", "--bind", f"fd://{descriptor}", *worker]


SERVERS: dict[str, Callable[[int], list[str]]] = {"uvicorn": _uvicorn, "gunicorn": _gunicorn}


class ServedTrial(Trial):
    """Asks a server; `port` is its own."""

    def __init__(self, subject: Subject, form: Form, workshop: Workshop, store_url: str, port: int) -> None:
        super().__init__(subject, form, workshop, store_url)
        self._port = port
        self._ready: set[str] = set()

    async def client(self, name: str = "plain", headers: Headers | None = None) -> Client:
        if name not in self._ready:
            await until_ready(SocketClient(self._port, self.form.prefix, {HEADER.decode(): name}), name)
            self._ready.add(name)
        return SocketClient(self._port, self.form.prefix, {HEADER.decode(): name, **(headers or {})})

    async def host(self, name: str = "plain") -> Client:
        return SocketClient(self._port, self.form.outer, {HEADER.decode(): name})


@contextmanager
def served(subject: type[Subject], form: Form, server: str, store_url: str) -> Iterator[int]:
    """Run a server around the block; gives its port. Its end must be clean: what it wrote is shown otherwise."""
    environment = {
        **os.environ,
        SUBJECT: f"{subject.__module__}:{subject.__qualname__}",
        FORM: form.value,
        STORE: store_url,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with tempfile.TemporaryFile() as log:
        # Bound here and handed on: a port that the kernel chose, and connections that wait until the server is ready.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port: int = listening.getsockname()[1]
            process = subprocess.Popen(
                [sys.executable, "-m", *SERVERS[server](listening.fileno())],
                env=environment,
                pass_fds=(listening.fileno(),),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _first_answer(port, form)
            yield port
            process.send_signal(signal.SIGTERM)
            status = process.wait(PATIENCE)
        except BaseException as error:
            process.kill()
            process.wait()
            error.add_note(_written(log))
            raise
        # uvicorn ends by the signal that it was sent, once it has stopped.
        assert status in {0, -signal.SIGTERM}, f"the server ended with status {status}\n{_written(log)}"


def _first_answer(port: int, form: Form) -> None:
    """Wait until the server answers; the connection waits as long as it starts, and breaks when it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3 * PATIENCE)
    try:
        connection.request("GET", f"{form.prefix}/ready", headers={HEADER.decode(): "plain"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise AssertionError("the server did not start") from error
    finally:
        connection.close()


def _written(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")
