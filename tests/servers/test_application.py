import asyncio
from collections.abc import Sequence

import pytest

from asgipipe import Deployment, pipeline
from asgipipe.http.types import Message
from asgipipe.servers.application import ServedApplication

events: list[str] = []


@pytest.fixture(autouse=True)
def no_events() -> None:
    events.clear()


def deployment(name: str, *, fails: bool = False, fails_at_the_end: bool = False) -> Deployment:
    async def begin() -> None:
        events.append(f"begin {name}")
        if fails:
            raise RuntimeError("no model")

    async def end() -> None:
        events.append(f"end {name}")
        if fails_at_the_end:
            raise RuntimeError("no disk")

    @pipeline(name=name, on_init=begin, on_cleanup=end)
    def served() -> int:
        return 1

    return Deployment(served, layers=())


def lifespan(application: ServedApplication) -> list[Message]:
    """What the application answers to a start and, if it started, to a stop."""

    async def run() -> list[Message]:
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)
            await inbox.put({"type": "lifespan.shutdown"})

        await inbox.put({"type": "lifespan.startup"})
        await application({"type": "lifespan", "state": {}}, inbox.get, send)
        return sent

    return asyncio.run(run())


def kinds(messages: Sequence[Message]) -> list[str]:
    return [message["type"].removeprefix("lifespan.") for message in messages]


def test_deployments_start_in_order_and_stop_in_reverse() -> None:
    """The last one that was started is the first one that is stopped."""
    application = ServedApplication([deployment("a"), deployment("b"), deployment("c")])
    assert kinds(lifespan(application)) == ["startup.complete", "shutdown.complete"]
    assert events == ["begin a", "begin b", "begin c", "end c", "end b", "end a"]
    assert not application.unclean


def test_a_start_that_fails_stops_what_was_started() -> None:
    """Those before it are stopped in reverse, those behind it are never started, and the reason is kept."""
    application = ServedApplication([deployment("a"), deployment("b"), deployment("c", fails=True), deployment("d")])
    messages = lifespan(application)
    assert kinds(messages) == ["startup.failed"]
    assert "no model" in messages[0]["message"]
    assert "no model" in str(application.failure)
    assert events == ["begin a", "begin b", "begin c", "end b", "end a"]


def test_a_server_that_reports_the_failure_itself_gets_no_message() -> None:
    """Our own server says why the start failed, so uvicorn must not say it too."""
    application = ServedApplication([deployment("a", fails=True)])
    application.reports_failure = True
    assert lifespan(application) == [{"type": "lifespan.startup.failed", "message": ""}]


def test_one_that_does_not_stop_keeps_no_other_from_stopping() -> None:
    """A failing cleanup is logged, and the others are still cleaned up."""
    application = ServedApplication([deployment("a"), deployment("b", fails_at_the_end=True)])
    assert kinds(lifespan(application)) == ["startup.complete", "shutdown.complete"]
    assert events == ["begin a", "begin b", "end b", "end a"]
