"""The host stays as it was."""

from contextlib import AsyncExitStack
from contextvars import ContextVar

from asgipipe import pipeline, step
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.testing.client import Ask, invoke
from asgipipe.testing.comparison import OF_THE_SERVER, assert_equal_bytes
from asgipipe.testing.inprocess import InProcessClient
from asgipipe.testing.lifespan import running
from asgipipe.testing.process import process_state
from asgipipe.testing.scenario import EMBEDDED, scenario
from asgipipe.testing.specimens import Counted, deployed
from asgipipe.testing.trial import Trial

OF_THE_HOST = (
    Ask("GET", "/own"),
    Ask("HEAD", "/own"),
    Ask("DELETE", "/own"),
    Ask("GET", "/own/"),
    Ask("GET", "/nowhere"),
    Ask("GET", "/"),
    Ask("GET", "/failing"),
    Ask("GET", "/mountedx"),
    Ask("GET", "/includedx/health"),
)


@scenario(forms=EMBEDDED)
async def the_hosts_own_answers_are_untouched(trial: Trial) -> None:
    """Its routes, 404, 405 and 500 are what they are without us, headers included."""
    deployments = {prefix: Counted().deployment(trial.subject) for prefix in ("/mounted", "/included")}
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(trial.hosting({}))
        host = await stack.enter_async_context(trial.hosting(deployments))
        for ask in OF_THE_HOST:
            answer, expected = await host.send(ask), await bare.send(ask)
            assert answer.status == expected.status, (ask, answer, expected)
            assert_equal_bytes(answer.body, expected.body, ask.target)
            assert _names(answer.headers) == _names(expected.headers), ask


def _names(headers: tuple[tuple[str, str], ...]) -> set[str]:
    return {name.lower() for name, _ in headers} - OF_THE_SERVER


who: ContextVar[str] = ContextVar("who", default="nobody")


class Knowing:
    """What a host's middleware does once it knows who asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who.set("the user")
        await self._app(scope, receive, send)


@step
def asked_in_a_step() -> str:
    return who.get()


@pipeline
def asks_in_a_thread() -> str:
    return f"{who.get()} {asked_in_a_step()}"


@pipeline
async def asks_on_the_loop() -> str:
    return f"{who.get()} {asked_in_a_step()}"


@scenario()
async def what_the_host_knows_of_a_request_is_visible_in_runs(trial: Trial) -> None:
    """Context variables that the host's middleware sets reach pipelines and steps, in threads too."""
    for target in (asks_in_a_thread, asks_on_the_loop):
        app = trial.assembled(deployed(trial.subject, target, name="asking"))
        async with running(app) as state:
            client = InProcessClient(Knowing(app), trial.form.prefix, state=state)
            answer = await client.send(invoke({}))
            assert answer.json()["outputs"] == {"output": "the user the user"}, answer


@scenario()
async def the_process_stays_as_it_was(trial: Trial) -> None:
    """Signal handlers, which ours pass everything on to, thread limiter, logging, time zone and environment."""
    before = process_state()
    async with trial.served(Counted().deployment(trial.subject)) as client:
        assert (await client.send(invoke({}))).status == 200
        assert process_state() == before
    assert process_state() == before
