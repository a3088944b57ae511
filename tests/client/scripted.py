"""Servers that answer by a script: over raw sockets where connections break, else in place of a network."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from asgipipe.client import Retry
from tests.conftest import PATIENCE

JOB = "01a1fc4d-c9bb-7000-a025-05c39bab794e"

AT_ONCE = Retry(first=0.0, patience=PATIENCE)
"""Retries without pauses."""

Act = bytes | Callable[[socket.socket], None]


@dataclass
class Scripted:
    """A server at `url`; `asked` are the requests it was sent, head and body, one for each connection."""

    url: str
    asked: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(*acts: Act) -> Iterator[Scripted]:
    """Run a server that does one thing after the other: what it sends as an answer to a connection, which it closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        server = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def serve() -> None:
            for act in acts:
                try:
                    connection, _ = listener.accept()
                except OSError:  # the test is over
                    return
                with connection:
                    connection.settimeout(PATIENCE)
                    server.asked.append(_request(connection))
                    connection.sendall(act) if isinstance(act, bytes) else act(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def reset(connection: socket.socket) -> None:
    """Break a connection off so that its other side gets an error."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def after(piece: bytes, then: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.sendall(piece)
        then(connection)

    return act


def until_left(connection: socket.socket) -> None:
    """Send nothing until the client goes away."""
    connection.recv(1)


def _request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _received(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _received(connection)
    return head + b"\r\n\r\n" + body


def _received(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the client left before its request was sent")
    return piece


def header(request: bytes, name: str) -> str | None:
    for line in request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None


def answer(
    status: int, body: object, *, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return an answer as it is sent."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content-type": content_type, "content-length": str(len(content)), "connection": "close"}
    lines = [f"{name}: {value}" for name, value in {**fields, **(headers or {})}.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode() + content


def problem(status: int, detail: str = "No.", **headers: str) -> bytes:
    document = {"type": "urn:asgipipe:x", "title": "X", "status": status, "detail": detail}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(status, document, content_type="application/problem+json", headers=given)


def envelope(success: bool = True, **outputs: object) -> dict[str, object]:
    metadata = {
        "deployment_id": "d",
        "deployment_name": "flow",
        "snapshot_id": "s",
        "snapshot_name": None,
        "pipeline_name": "flow",
        "run_id": JOB,
        "run_name": "one",
        "parameters_used": {},
    }
    return {
        "success": success,
        "outputs": outputs if success else None,
        "execution_time": 0.5,
        "metadata": metadata,
        "error": None if success else "it broke",
    }


def event(number: int, kind: str = "log", data: Mapping[str, object] | None = None) -> bytes:
    members = {
        "id": number,
        "event_type": kind,
        "job_id": JOB,
        "run_id": JOB,
        "timestamp": "2026-01-02T03:04:05Z",
        "step_name": None,
        "data": data or {},
    }
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(members)}\n\n".encode()


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def stream(*frames: bytes) -> bytes:
    return b"".join([STREAM_HEAD, b"retry: 1000\n\n", *frames])


def job(status: str = "completed", **members: object) -> dict[str, object]:
    return {
        "job_id": JOB,
        "run_id": JOB,
        "run_name": "one",
        "pipeline_name": "flow",
        "status": status,
        "parameters": {},
        "created_at": "2026-01-02T03:04:05Z",
        "attempt": 1,
        **members,
    }


class Played:
    """Answers in place of a network; `asked` are the requests."""

    def __init__(self, answers: Callable[[httpx.Request], httpx.Response]) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = answers

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answers(request)

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self._handle))


def in_turn(*answers: httpx.Response | Exception) -> Played:
    """Return what gives one answer after the other."""
    left = list(answers)

    def give(request: httpx.Request) -> httpx.Response:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return Played(give)
