import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from asgipipe import Deployment, pipeline
from asgipipe.errors import StartupError
from tests.reliability import raw
from tests.reliability.conftest import SERVED
from tests.reliability.served.raising import INTERNAL, KINDS, throw
from tests.servers.command import Command, serving

PIPELINES = ("sync", "in_place", "asynchronous", "generator", "async_generator", "gathered", "submitted")
MAX_LINE = 8 * 1024


def leaks(answer: raw.Answer) -> list[str]:
    text = answer.body.decode() + repr(answer.headers)
    return [word for word in (INTERNAL, "Traceback", ".py", "asgipipe/", "/etc/") if word in text]


def unharmed(running: Command) -> bool:
    answer = raw.ask(running.port, raw.request("GET", "/custom/process"))
    pid: int = answer.json()
    return pid == running.process.pid


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    targets = [f"{SERVED / 'raising.py'}:{name}" for name in ("custom", *PIPELINES)]
    with serving(*targets, folder=tmp_path_factory.mktemp("raising")) as running:
        yield running
        assert unharmed(running)
        assert running.stop() == 0, running.output[-3000:]
        assert max(len(line.encode()) for line in running.output.splitlines()) <= MAX_LINE


def test_pipelines(running: Command) -> None:
    """Row 31: whatever a pipeline raises, sync, async or as a generator, is a 500 envelope, and the process goes on."""
    for name in PIPELINES:
        for kind in KINDS:
            answer = raw.ask(running.port, raw.invoke({"kind": kind}, path=f"/{name}/invoke"))
            assert answer.status == 500, (name, kind)
            if (name, kind) == ("gathered", "GeneratorExit"):
                continue  # Python closes a coroutine that awaits a task whose exception this is
            assert answer.json()["success"] is False, (name, kind)
            assert len(answer.body) < MAX_LINE
            assert not {"Traceback", ".py"} & set(leaks(answer)), (name, kind)
        assert raw.ask(running.port, raw.request("GET", f"/{name}/metrics")).json()["in_flight"] == 0
    assert unharmed(running)


@pytest.mark.parametrize("path", ["/sync", "/async", "/generator", "/async-generator", "/native"])
def test_endpoints(running: Command, path: str) -> None:
    """Row 31: whatever an endpoint raises before it answers is a 500 problem that says nothing about the inside."""
    for kind in KINDS:
        answer = raw.ask(running.port, raw.request("GET", f"/custom{path}?kind={quote(kind)}"))
        if (path, kind) == ("/generator", "GeneratorExit"):
            continue
        assert answer.status == 500, kind
        assert answer.is_problem()
        assert answer.is_secured()
        assert not leaks(answer), kind
    assert unharmed(running)


def test_streams_that_break(running: Command) -> None:
    """Row 31: a stream that fails in its middle is cut, so that nobody takes it for complete."""
    for path in ("/middle", "/middle-async"):
        for kind in KINDS:
            with raw.Connection(running.port) as connection:
                connection.send(raw.request("GET", f"/custom{path}?kind={quote(kind)}"))
                said = connection.rest()
                assert not said.endswith(b"0\r\n\r\n"), (path, kind)
                assert INTERNAL.encode() not in said
    assert unharmed(running)


@pytest.mark.parametrize("where", ["X-Before", "X-After"])
def test_middleware(running: Command, where: str) -> None:
    """Row 31: whatever middleware raises is a 500 problem before the answer, and changes nothing after it."""
    for kind in KINDS:
        answer = raw.ask(running.port, raw.request("POST", "/custom/invoke", f"{where}: {kind}"))
        assert answer.status == (500 if where == "X-Before" else 200), kind
        assert not leaks(answer), kind
    assert unharmed(running)


@pytest.mark.parametrize("path", ["/background", "/task", "/callback"])
def test_what_nobody_waits_for(running: Command, path: str) -> None:
    """Row 31: background tasks, tasks and callbacks of the user's own may raise anything; the server goes on."""
    for kind in KINDS:
        answer = raw.ask(running.port, raw.request("GET", f"/custom{path}?kind={quote(kind)}"))
        assert answer.status == 200, kind
        assert unharmed(running), kind


@pytest.mark.parametrize("kind", KINDS)
def test_hooks(kind: str) -> None:
    """Row 31: whatever a hook raises at the start is a StartupError with a short message."""

    def hook() -> None:
        throw(kind)

    @pipeline(on_init=hook)
    def hooked() -> int:
        return 1

    async def start() -> None:
        with pytest.raises(StartupError, match="on_init") as caught:
            await Deployment(hooked, layers=()).start()
        assert len(str(caught.value)) < 1024

    asyncio.run(start())
