"""Middleware of the user's, in one order, and extensions."""

from asgipipe.testing.client import Answer, Ask, invoke
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER
from asgipipe.testing.trial import Trial


def passed(answer: Answer) -> list[str]:
    """Return the tags of the middleware that an answer passed; some frameworks keep a repeated header as one line."""
    return ", ".join(answer.all("x-passed")).split(", ")


@scenario(sockets=True)
async def middleware_runs_in_its_order(trial: Trial) -> None:
    """A class, a function and a native one: each once, the lowest order outermost, on every endpoint."""
    client = await trial.client("through", BEARER)
    for target in ("/ready", "/named/x", "/native", "/extended", "/nowhere", "/docs", "/"):
        answer = await client.get(target)
        assert passed(answer) == ["native", "function", "class"], (target, answer)
    assert passed(await client.send(invoke({"name": "a"}))) == ["native", "function", "class"]


@scenario()
async def middleware_may_stand_inside_of_native_middleware(trial: Trial) -> None:
    """ASGI middleware with a higher order than a native one is run inside of it."""
    client = await trial.client("sandwich")
    for target in ("/ready", "/docs", "/nowhere"):
        assert passed(await client.get(target)) == ["class", "native", "function"], target


@scenario()
async def what_is_refused_early_reaches_no_middleware(trial: Trial) -> None:
    """Without the key nothing of the user's sees a request."""
    client = await trial.client("through")
    assert (await client.send(Ask("GET", "/named/x"))).all("x-passed") == []


@scenario(sockets=True)
async def an_extension_changes_the_frameworks_application(trial: Trial) -> None:
    """It receives the framework's own application; a route that it adds answers, and needs the key."""
    client = await trial.client("through")
    assert (await client.get("/extended")).status == 401
    with_key = await trial.client("through", BEARER)
    answer = await with_key.get("/extended")
    assert (answer.status, answer.body) == (200, b"extended"), answer
