"""A deployment's life: what is called when, once, in which order, also when something goes wrong."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from asgipipe import Deployment, DeploymentService, DeploymentSettings, asgi, pipeline
from asgipipe.errors import DefinitionError, StartupError
from asgipipe.logs import request_id_var
from tests.conftest import lifespan
from tests.http.wire import Ask, ask, ask_app, deployed, invoke, reply
from tests.runners.extras import BEARER, KEY, hello
from tests.running import run, started

ORDER = ["lifespan", "on_init", "startup_hook", "shutdown_hook", "on_cleanup", "end of lifespan"]


class Life:
    """Notes what is called; `fails` names what raises, `hangs` what never ends."""

    def __init__(self, is_async: bool = False, fails: str = "", hangs: str = "") -> None:
        self.calls: list[str] = []
        self._is_async = is_async
        self._fails = fails
        self._hangs = hangs
        self._gate = threading.Event()

    def hook(self, name: str) -> Callable[[], object]:
        def called() -> None:
            self.calls.append(name)
            if name == self._fails:
                raise OSError(f"{name} failed")

        def hook() -> None:
            called()
            if name == self._hangs:
                self._gate.wait(30)

        async def async_hook() -> None:
            called()
            if name == self._hangs:
                await asyncio.sleep(30)

        return async_hook if self._is_async else hook

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        self.calls.append("lifespan")
        if self._fails == "lifespan":
            raise OSError("lifespan failed")
        try:
            yield
        finally:
            self.calls.append("end of lifespan")

    def deployment(self, **settings: object) -> Deployment:
        target = pipeline(on_init=self.hook("on_init"), on_cleanup=self.hook("on_cleanup"))(tick)
        hooks = {name: self.hook(name) for name in ("startup_hook", "shutdown_hook")}
        return Deployment(target, {**hooks, "app_kwargs": {"lifespan": self.lifespan}, **settings}, layers=())

    def live(self, **settings: object) -> list[str]:
        async def main() -> None:
            deployment = self.deployment(**settings)
            await deployment.start()
            await deployment.stop()

        try:
            asyncio.run(main())
        finally:
            self._gate.set()
        return self.calls


def tick() -> int:
    return 1


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("asgipipe-tick")]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_order_of_a_life(is_async: bool) -> None:
    """Opened in order and closed in reverse, each once, sync and async hooks alike."""
    assert Life(is_async).live() == ORDER
    assert not threads()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("lifespan", ["lifespan"]),
        ("on_init", ["lifespan", "on_init", "end of lifespan"]),
        ("startup_hook", ["lifespan", "on_init", "startup_hook", "on_cleanup", "end of lifespan"]),
    ],
)
def test_a_start_that_fails_closes_what_was_opened(is_async: bool, fails: str, calls: list[str]) -> None:
    """Each once, in reverse; the error names what failed, and no thread is left."""
    life = Life(is_async, fails=fails)
    with pytest.raises(StartupError, match=f"{fails} failed"):
        life.live()
    assert life.calls == calls
    assert not threads()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("fails", ["shutdown_hook", "on_cleanup"])
def test_a_stop_that_fails_closes_the_rest(is_async: bool, fails: str, caplog: pytest.LogCaptureFixture) -> None:
    """Everything is closed once; the failure is in the log."""
    assert Life(is_async, fails=fails).live() == ORDER
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"{fails} ({'async_hook' if is_async else 'hook'}) raised OSError: {fails} failed"
    ]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("hangs", ["on_init", "startup_hook"])
def test_a_start_that_hangs_is_cut(is_async: bool, hangs: str) -> None:
    """At `hook_timeout`, which the error names; what was opened is closed."""
    life = Life(is_async, hangs=hangs)
    with pytest.raises(StartupError, match=rf"^{hangs} \(.*hook\) did not finish within 0.02 s; raise hook_timeout"):
        life.live(hook_timeout=0.02)
    opened = ORDER[: ORDER.index(hangs) + 1]
    assert life.calls == [*opened, *(["on_cleanup"] if hangs == "startup_hook" else []), "end of lifespan"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("hangs", ["shutdown_hook", "on_cleanup"])
def test_a_stop_that_hangs_is_cut(is_async: bool, hangs: str, caplog: pytest.LogCaptureFixture) -> None:
    """At `hook_timeout`; the rest is closed and the log says what was cut."""
    assert Life(is_async, hangs=hangs).live(hook_timeout=0.3) == ORDER
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage().startswith(f"{hangs} (")
    assert "did not finish within 0.3 s" in record.getMessage()


def test_a_failed_start_can_be_tried_again() -> None:
    """From the beginning: nothing of the first attempt is left open."""
    attempts: list[int] = []

    def hook() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("not yet")

    async def main() -> object:
        deployment = Deployment(hello, {"startup_hook": hook}, layers=())
        with pytest.raises(StartupError, match="not yet"):
            await deployment.start()
        await deployment.start()
        answered = await reply(deployment.asgi_app, invoke({}))
        await deployment.stop()
        return answered.json()["outputs"]

    assert asyncio.run(main()) == {"output": "Hello, World!"}


# Hooks


def test_hooks_get_their_arguments_and_the_app_runner() -> None:
    """kwargs by name, and `app_runner` when a parameter is named so."""
    seen: list[object] = []

    def begin(app_runner: Any, greeting: str) -> None:
        seen.extend([app_runner.deployment.name, app_runner.service.pipeline.name, greeting])

    async def end(*, app_runner: Any, farewell: str) -> None:
        seen.extend([app_runner.asgi_app is not None, farewell])

    made = {
        "startup_hook": begin,
        "startup_hook_kwargs": {"greeting": "hi"},
        "shutdown_hook": end,
        "shutdown_hook_kwargs": {"farewell": "bye"},
    }
    ask(hello, made, Ask(path="/info"))
    assert seen == ["hello", "hello", "hi", True, "bye"]


def test_hooks_may_be_import_strings() -> None:
    """They are imported when the deployment is built."""
    CALLED.clear()
    ask(hello, {"startup_hook": "tests.runners.test_deployment:begin", "shutdown_hook": f"{__name__}.end"}, Ask())
    assert CALLED == ["begin", "end"]


CALLED: list[str] = []


def begin() -> None:
    CALLED.append("begin")


def end() -> None:
    CALLED.append("end")


@pytest.mark.parametrize("setting", ["startup_hook", "shutdown_hook"])
@pytest.mark.parametrize(
    ("hook", "kwargs", "reason"),
    [
        (begin, {"greeting": "x"}, "got an unexpected keyword argument 'greeting'"),
        (lambda greeting: None, {}, "missing a required argument: 'greeting'"),
        (lambda app_runner: None, {"app_runner": 1}, "'app_runner' is given by us"),
        ("tests.runners.test_deployment:nothing", {}, "has no attribute 'nothing'"),
        ("tests.runners.extras:KEY", {}, "is not callable"),
    ],
)
def test_hooks_that_cannot_be_called_are_refused(
    setting: str, hook: object, kwargs: dict[str, object], reason: str
) -> None:
    """When the deployment is built, naming the setting."""
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, {setting: hook, f"{setting}_kwargs": kwargs})
    assert str(refused.value).startswith(setting)
    assert reason in str(refused.value)


def test_a_hook_runs_before_the_first_request_is_let_in() -> None:
    """What a startup hook prepares is there for every request."""

    async def prepare(app_runner: Any) -> None:
        await asyncio.sleep(0)
        app_runner.asgi_app.state.ready = "prepared"

    async def show(request: Request) -> str:
        return str(request.app.state.ready)

    endpoint = {"path": "/show", "method": "GET", "handler": show}
    (shown,) = ask(hello, {"startup_hook": prepare, "custom_endpoints": [endpoint]}, Ask(path="/show"))
    assert shown.json() == "prepared"


# Start and stop


def test_starts_and_stops_are_counted() -> None:
    """The first start opens, the last stop closes, whoever calls them; a stop too many does nothing."""
    life = Life()
    deployment = life.deployment()

    async def main() -> None:
        await asyncio.gather(*(deployment.start() for _ in range(3)))
        assert life.calls == ORDER[:3]
        await deployment.stop()
        await deployment.stop()
        assert (await run(deployment)).outputs == {"output": 1}
        assert life.calls == ORDER[:3]
        await deployment.stop()
        assert life.calls == ORDER
        await deployment.stop()
        assert life.calls == ORDER

    asyncio.run(main())


def test_a_stopped_deployment_can_be_started_again() -> None:
    """A second life is as good as the first."""
    life = Life()
    deployment = life.deployment()

    async def main() -> None:
        for _ in range(2):
            await deployment.start()
            assert (await run(deployment)).outputs == {"output": 1}
            await deployment.stop()

    asyncio.run(main())
    assert life.calls == ORDER * 2


def test_one_application_serves_one_event_loop_after_another() -> None:
    """Each with a start and stop of its own, as test clients do it."""
    life = Life()
    app = life.deployment().asgi_app
    for _ in range(2):
        (ran,) = ask_app(app, invoke({}))
        assert ran.json()["outputs"] == {"output": 1}
    assert life.calls == ORDER * 2


def test_an_event_loop_that_ends_without_a_stop_is_followed_by_another() -> None:
    """Nobody stopped the deployment, so the next loop's first request starts it anew."""
    life = Life(is_async=True)
    app = life.deployment().asgi_app
    for _ in range(2):
        ran = asyncio.run(reply(app, invoke({})))
        assert ran.json()["outputs"] == {"output": 1}
    assert life.calls.count("on_init") == 2
    assert life.calls.count("end of lifespan") == 2


@pytest.mark.parametrize("by_lifespan", [True, False])
def test_jobs_have_nothing_of_the_requests_context(tmp_path: Path, by_lifespan: bool) -> None:
    """Neither the request that starts the deployment, nor the one that opens the store, lends jobs its context."""

    async def show() -> list[str | None]:
        given = request_id_var.get()
        return [mark.get(), None if given is None else given.decode()]

    mark: ContextVar[str | None] = ContextVar("mark", default=None)
    app = deployed(show, {"store_url": str(tmp_path / "store.db")})

    async def outputs_of_a_job(number: int) -> object:
        mark.set(f"request {number}")
        ask = invoke({}, (b"x-request-id", b"request-%d" % number), path="/invoke?mode=stream")
        terminal = (await reply(app, ask)).body.rstrip().rpartition(b"\ndata: ")[2]
        return json.loads(terminal)["data"]["outputs"]

    async def main() -> list[object]:
        async with AsyncExitStack() as stack:
            if by_lifespan:
                await stack.enter_async_context(lifespan(app))
            # A server gives each connection a task of its own.
            return [await asyncio.create_task(outputs_of_a_job(number)) for number in range(2)]

    assert asyncio.run(main()) == [{"output": [None, None]}] * 2


def test_two_deployments_in_one_process_share_nothing() -> None:
    """Also of one pipeline: keys, settings, threads, counts and lives are each one's own."""

    async def main() -> None:
        first = Deployment(hello, {"auth_key": KEY, "root_url_path": "/a"}, name="first", layers=())
        async with started(hello, {"app_title": "Second"}) as second:
            await first.start()
            assert (await reply(first.asgi_app, Ask(path="/a/info"))).status == 401
            info = await reply(first.asgi_app, Ask(path="/a/info", headers=[BEARER]))
            await reply(second.asgi_app, invoke({}))
            await first.stop()
            other = (await reply(second.asgi_app, Ask(path="/info"))).json()
        assert info.json()["deployment"]["name"] == "first"
        assert (info.json()["total_executions"], other["total_executions"], other["status"]) == (0, 1, "started")
        assert info.json()["deployment"]["id"] != other["deployment"]["id"]

    asyncio.run(main())


# Settings


@pytest.mark.parametrize(
    "settings",
    [{"app_title": "Mine"}, DeploymentSettings(app_title="Mine"), {"app_title": "Mine", "uvicorn_port": "8001"}],
)
def test_settings_are_a_model_or_a_mapping(settings: DeploymentSettings | Mapping[str, object]) -> None:
    """Both in the decorator, and over it."""
    decorated = pipeline(settings=settings)(tick)
    for deployment in (Deployment(tick, settings, layers=()), Deployment(decorated, layers=())):
        assert deployment.settings.app_title == "Mine"
    assert Deployment(decorated, {"app_title": "Other"}, layers=()).settings.app_title == "Other"


def test_the_environment_lies_over_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asgi` reads ASGIPIPE_*, over what Python says."""
    monkeypatch.setenv("ASGIPIPE_APP_TITLE", "From outside")
    (document,) = ask_app(asgi(hello, {"app_title": "Mine"}), Ask(path="/openapi.json"))
    assert document.json()["info"]["title"] == "From outside"


def test_a_generated_key_is_needed() -> None:
    """`generate_auth_key` makes one up; keys that were given count before it."""
    generated = Deployment(hello, {"generate_auth_key": True}, layers=())
    given = Deployment(hello, {"generate_auth_key": True}, keys=(KEY,), layers=())
    assert len(generated.auth_keys[0]) >= 32
    assert given.auth_keys == (KEY,)
    key = (b"authorization", b"Bearer " + generated.auth_keys[0].encode())
    denied, granted = ask_app(generated.asgi_app, Ask(path="/info"), Ask(path="/info", headers=[key]))
    assert (denied.status, granted.status) == (401, 200)


def test_nothing_is_opened_before_the_start() -> None:
    """A deployment that is only made has no thread and no open file, so that it may be forked."""
    before = threading.active_count(), open_files()
    deployment = Deployment(hello, {}, layers=())
    after = threading.active_count(), open_files()
    assert before == after
    assert isinstance(deployment.service, DeploymentService)


def open_files() -> int:
    """Return how many files this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
