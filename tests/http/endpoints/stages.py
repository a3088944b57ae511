"""A deployment whose jobs a test moves on itself, and clients that can leave at any moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp, Message
from asgipipe.jobs.jobs import IdempotencyKey, Replay, Submission
from asgipipe.jobs.records import Job
from tests.conftest import PATIENCE, lifespan
from tests.http.held import HeldJobs
from tests.http.wire import Ask, Reply, http_scope, reply, until
from tests.running import Settings


async def echo(number: int = 1, text: str = "") -> int:
    if text == "fail":
        raise ValueError("no")
    if text == "wait":
        await asyncio.Event().wait()
    return number


class KeyedJobs(HeldJobs):
    """Remembers keys as the store does, but for their time; `keys` are those in use, with their answer."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[tuple[str, str], tuple[str, Replay]] = {}
        self.slow: asyncio.Event | None = None

    async def submit(self, submission: Submission, key: IdempotencyKey | None = None) -> Job | Replay:
        if key is not None and (key.caller, key.key) in self.keys:
            return self.keys[key.caller, key.key][1]
        job = await super().submit(submission)
        assert isinstance(job, Job)
        if key is not None:
            self.keys[key.caller, key.key] = key.fingerprint, Replay(job.id, 202, None)
        return job

    async def reserve(self, key: IdempotencyKey, run_id: str) -> Replay | None:
        if self.slow is not None:
            await self.slow.wait()
        if self.refusal is not None:
            raise self.refusal
        found = self.keys.get((key.caller, key.key))
        if found is not None:
            return found[1]
        self.keys[key.caller, key.key] = key.fingerprint, Replay(run_id, None, None)
        return None

    async def answer(self, key: IdempotencyKey, run_id: str, status: int, body: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        fingerprint, replay = self.keys[key.caller, key.key]
        self.keys[key.caller, key.key] = fingerprint, Replay(replay.run_id, status, body)

    async def release(self, key: IdempotencyKey, run_id: str) -> None:
        self.keys.pop((key.caller, key.key), None)


@dataclass
class Client:
    """A client of one request; `body` is what it has got so far."""

    app: ASGIApp
    asked: Ask
    sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.inbox.put_nowait({"type": "http.request", "body": self.asked.body, "more_body": False})
        self.task = asyncio.ensure_future(self.app(http_scope(self.asked), self.inbox.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def reply(self) -> Reply:
        return Reply(tuple(self.sent))

    async def hears(self, text: bytes) -> None:
        await until(lambda: text in self.body)

    async def done(self) -> Reply:
        await asyncio.wait_for(self.task, PATIENCE)
        return self.reply

    async def leave(self) -> Reply:
        self.inbox.put_nowait({"type": "http.disconnect"})
        return await self.done()


@dataclass
class Stage:
    jobs: KeyedJobs
    deployment: Deployment

    def client(self, asked: Ask) -> Client:
        return Client(self.deployment.asgi_app, asked)

    async def ask(self, asked: Ask) -> Reply:
        return await reply(self.deployment.asgi_app, asked)


@asynccontextmanager
async def staged(settings: Settings | None = None) -> AsyncIterator[Stage]:
    deployment = Deployment(echo, settings, layers=())
    jobs = deployment.service.jobs = KeyedJobs()
    async with lifespan(deployment.asgi_app):
        before = asyncio.all_tasks()
        yield Stage(jobs, deployment)
        await until(lambda: asyncio.all_tasks() == before)
        assert not jobs.following
    assert deployment.lifecycle.active == 0


def on_stage(scene: Callable[[Stage], Awaitable[None]], settings: Settings | None = None) -> None:
    async def main() -> None:
        async with staged(settings) as stage:
            await scene(stage)

    asyncio.run(main())
