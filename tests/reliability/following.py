"""Clients of event streams, over plain sockets: what they get, to the byte."""

import json
import re
from types import TracebackType
from typing import Any, Self

from tests.reliability import raw

ENDS = {"pipeline_completed", "pipeline_failed", "pipeline_canceled"}

_ID = re.compile(rb"id: (\d+)\n")


def streamed(parameters: object, *fields: str, path: str = "/invoke") -> bytes:
    """Return an invoke whose answer is the events of the run."""
    return raw.invoke(parameters, *fields, path=f"{path}?mode=stream")


def submit(port: int, parameters: object) -> str:
    """Return the id of a new job."""
    answer = raw.ask(port, raw.invoke(parameters, path="/invoke?mode=async"))
    assert answer.status == 202, answer
    job_id: str = answer.json()["job_id"]
    return job_id


def job(port: int, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = raw.ask(port, raw.request("GET", f"/jobs/{job_id}")).json()
    return found


def number_of(frame: bytes) -> int:
    found = _ID.match(frame)
    assert found, frame
    return int(found.group(1))


def event_of(frame: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(frame.partition(b"\ndata: ")[2])
    return event


def numbers(frames: list[bytes]) -> list[int]:
    return [number_of(frame) for frame in frames]


def kinds(frames: list[bytes]) -> list[str]:
    return [event_of(frame)["event_type"] for frame in frames]


def is_whole(frames: list[bytes]) -> bool:
    """Whether these are all events of a job: without gaps or repetitions, and with one end, which is the last."""
    ends = [kind in ENDS for kind in kinds(frames)]
    return numbers(frames) == list(range(1, len(frames) + 1)) and ends == [False] * (len(frames) - 1) + [True]


class Follower:
    """The answer to one request; `frames` are the events that came so far, `comments` what else did."""

    def __init__(self, connection: raw.Connection, request: bytes) -> None:
        self.frames: list[bytes] = []
        self.comments: list[bytes] = []
        self._connection = connection
        self._rest = b""
        connection.send(request)
        self.head = connection.head()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.socket.close()

    @property
    def last(self) -> int:
        return number_of(self.frames[-1]) if self.frames else 0

    def until(self, number: int) -> None:
        """Read as far as the event of this number. Raises EOFError when the answer is over before."""
        while self.last < number:
            if not self._read():
                raise EOFError(f"the stream ended after event {self.last}")

    def hear(self, comments: int) -> None:
        """Read until there were so many comments. Raises EOFError when the answer is over before."""
        while len(self.comments) < comments:
            if not self._read():
                raise EOFError(f"the stream ended after {self.comments}")

    def rest(self) -> list[bytes]:
        """Read to the end of the answer. Raises EOFError when it is broken off."""
        while self._read():
            pass
        assert self._rest == b""
        return self.frames

    def lose(self) -> list[bytes]:
        """Read what still comes from a server that was killed."""
        try:
            self.rest()
        except EOFError:
            return self.frames
        raise AssertionError("the answer came to its end")

    def cut(self) -> None:
        self._connection.reset()

    def _read(self) -> bool:
        chunk = self._connection.chunk()
        *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
        for block in blocks:
            kept = self.frames if block.startswith(b"id: ") else self.comments
            if not block.startswith(b"retry: "):
                kept.append(block)
        return bool(chunk)


def follow(
    port: int, job_id: str, last: int = 0, *fields: str, receive_buffer: int | None = None, prefix: str = ""
) -> Follower:
    """Follow a job from the event after `last` on."""
    return Follower(raw.Connection(port, receive_buffer=receive_buffer), _request(job_id, last, *fields, prefix=prefix))


def follow_on(connection: raw.Connection, job_id: str, last: int = 0) -> Follower:
    """Follow a job over a connection that is open, and so with the process that has it."""
    return Follower(connection, _request(job_id, last))


def _request(job_id: str, last: int, *fields: str, prefix: str = "") -> bytes:
    resumed = [f"Last-Event-ID: {last}"] if last else []
    return raw.request("GET", f"{prefix}/stream/{job_id}", "Accept: text/event-stream", *resumed, *fields)


def all_events(port: int, job_id: str) -> list[bytes]:
    """Return the events of a job, as one gets them who comes when it has ended."""
    with follow(port, job_id) as follower:
        return follower.rest()
