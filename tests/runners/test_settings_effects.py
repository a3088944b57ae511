"""Every setting changes something: one proof for each field, and no field without one.

A field of a deployment in this process has an `Effect` here: what is observed with the default, and with another value,
differs as stated. A field that a server is needed for points to the test that proves it.
"""

import ast
import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from asgipipe import Deployment, DeploymentService, pipeline
from asgipipe.errors import StartupError
from asgipipe.settings import (
    AppExtensionSpec,
    CORSConfig,
    DeploymentSettings,
    EndpointSpec,
    MiddlewareSpec,
    SecureHeadersConfig,
)
from tests.conftest import Serve
from tests.http.wire import Ask, Reply, ask_app, http_scope, invoke, reply, until
from tests.runners import extras
from tests.runners.extras import BEARER, KEY, Tagging, hello
from tests.runners.test_registry import OwnRunner

ROOT = Path(__file__).parents[2]
Observe = Callable[[Mapping[str, Any]], object]


def made(settings: Mapping[str, Any], target: object = hello) -> Deployment:
    return Deployment(target, settings, layers=())


def answers(settings: Mapping[str, Any], *asked: Ask, target: object = hello) -> list[Reply]:
    return ask_app(made(settings, target).asgi_app, *asked)


# What can be observed


def status(asked: Ask) -> Observe:
    return lambda settings: answers(settings, asked)[0].status


def header(name: bytes, asked: Ask) -> Observe:
    return lambda settings: answers(settings, asked)[0].header(name)


def member(asked: Ask, *path: str) -> Observe:
    def observe(settings: Mapping[str, Any]) -> object:
        found: Any = answers(settings, asked)[0].json()
        for name in path:
            found = found[name]
        return found

    return observe


def body(asked: Ask) -> Observe:
    return lambda settings: answers(settings, asked)[0].body


def served_at(path: str, method: str = "GET") -> Observe:
    return status(invoke({}, path=path) if method == "POST" else Ask(path=path))


def cors(name: bytes, method: str = "GET", asks_for: bytes | None = None) -> Observe:
    headers = [(b"origin", b"https://a.example")]
    if method == "OPTIONS":
        headers.append((b"access-control-request-method", b"PUT"))
    if asks_for is not None:
        headers.append((b"access-control-request-headers", asks_for))
    return lambda settings: (
        name
        in (answers(settings, Ask(method, "/info", headers))[0].header(b"access-control-" + PART[name]) or b"").lower()
    )


PART = {
    b"https://a.example": b"allow-origin",
    b"put": b"allow-methods",
    b"x-team": b"allow-headers",
    b"true": b"allow-credentials",
}


def secure(name: str) -> Observe:
    return header(name.encode(), Ask(path="/health"))


@pipeline
async def failing() -> None:
    raise ValueError("told")


@pipeline
async def endless() -> None:
    await asyncio.Event().wait()


def error_message(settings: Mapping[str, Any]) -> object:
    return answers(settings, invoke({}), target=failing)[0].json()["error"]


def of_an_endless_run(settings: Mapping[str, Any]) -> object:
    """Observe whether a deadline ends it; without one it is cancelled, which is another answer."""

    async def main() -> int:
        deployment = made(settings, endless)
        await deployment.start()
        asked = asyncio.ensure_future(reply(deployment.asgi_app, invoke({})))
        if settings.get("request_timeout", 600) > 1:
            await until(lambda: deployment.metrics.snapshot().in_flight)
            deployment.service.cancel_all("the test ends")
        answered = await asked
        await deployment.stop()
        return answered.status

    return asyncio.run(main())


def at_once(settings: Mapping[str, Any]) -> object:
    """Observe how many of three blocking runs the deployment's threads take."""
    gate = threading.Event()
    entered: list[int] = []

    def blocking() -> None:
        entered.append(1)
        gate.wait(30)

    async def main() -> int:
        deployment = made(settings, blocking)
        await deployment.start()
        expected = min(3, deployment.executor.size)
        runs = [asyncio.ensure_future(reply(deployment.asgi_app, invoke({}))) for _ in range(3)]
        await until(lambda: deployment.metrics.snapshot().in_flight == 3 and len(entered) >= expected)
        taken = len(entered)
        gate.set()
        await asyncio.gather(*runs)
        await deployment.stop()
        return taken

    try:
        return asyncio.run(main())
    finally:
        gate.set()


def beside_a_run(settings: Mapping[str, Any]) -> object:
    """Observe the answers to two more requests while one runs."""

    async def main() -> list[int]:
        deployment = made(settings, endless)
        await deployment.start()
        runs = [asyncio.ensure_future(reply(deployment.asgi_app, invoke({}))) for _ in range(3)]
        bounded = {"max_concurrency", "max_queue"} <= set(settings)
        active, over = (1, 2) if bounded else (3, 0)
        await until(lambda: deployment.lifecycle.active == active and sum(run.done() for run in runs) == over)
        refused = [run.result().status for run in runs if run.done()]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        await deployment.stop()
        return refused

    return asyncio.run(main())


def without_a_body(settings: Mapping[str, Any]) -> object:
    """Observe what becomes of a request whose body never comes."""

    async def main() -> int | None:
        deployment = made(settings)
        await deployment.start()
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def never() -> Any:
            await asyncio.Event().wait()

        scope = http_scope(Ask("POST", "/invoke", [(b"content-length", b"2")]))
        asked = asyncio.ensure_future(deployment.asgi_app(scope, never, send))
        if settings:
            await asked
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await deployment.stop()
        return sent[0]["status"] if sent else None

    return asyncio.run(main())


def of_a_slow_start(settings: Mapping[str, Any]) -> object:
    """Observe whether a start hook may take its time."""
    limit = settings.get("hook_timeout", 10)

    async def hook() -> None:
        if limit < 1:
            await asyncio.Event().wait()

    async def main() -> str:
        deployment = made({**settings, "startup_hook": hook})
        try:
            await deployment.start()
        except StartupError as error:
            return str(error).partition(" did not")[2]
        await deployment.stop()
        return "started"

    return asyncio.run(main())


def of_a_client_that_leaves(settings: Mapping[str, Any]) -> object:
    """Observe whether its run is cancelled."""
    outcome: list[str] = []

    async def main() -> None:
        gate, entered = asyncio.Event(), asyncio.Event()

        async def waiting() -> None:
            entered.set()
            try:
                await gate.wait()
            except asyncio.CancelledError:
                outcome.append("cancelled")
                raise
            outcome.append("finished")

        deployment = made(settings, waiting)
        await deployment.start()
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        inbox.put_nowait({"type": "http.request", "body": b"{}", "more_body": False})

        async def send(message: Any) -> None:
            return

        scope = http_scope(Ask("POST", "/invoke", [(b"content-type", b"application/json")]))
        asked = asyncio.ensure_future(deployment.asgi_app(scope, inbox.get, send))
        await entered.wait()
        inbox.put_nowait({"type": "http.disconnect"})
        if settings:
            await until(lambda: outcome)
        gate.set()
        await asked
        await deployment.stop()

    asyncio.run(main())
    return outcome


def called(*names: str) -> Observe:
    """Observe what hooks noted during a life."""

    def observe(settings: Mapping[str, Any]) -> object:
        NOTES.clear()
        answers(settings, Ask(path="/info"))
        return list(NOTES)

    return observe


NOTES: list[str] = []


def note(text: str = "called") -> None:
    NOTES.append(text)


def greeting(settings: Mapping[str, Any]) -> object:
    return getattr(made(settings).app_runner, "greeting", None)


def of_the_dashboard(settings: Mapping[str, Any]) -> object:
    """Observe whether the page is the one in the source root's folder `dashboard`."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "dashboard").mkdir()
        (Path(folder) / "dashboard" / "index.html").write_text("<p>mine</p>")
        app = Deployment(hello, settings, layers=(), source_root=Path(folder)).asgi_app
        return ask_app(app, Ask(path="/"))[0].body == b"<p>mine</p>"


class Service(DeploymentService):
    def __init__(self, *args: Any, reason: str = "ours", **options: Any) -> None:
        super().__init__(*args, **options)
        self.reason = reason

    async def health(self) -> str | None:
        return self.reason


INFO = Ask(path="/info")
OPENAPI = Ask(path="/openapi.json")
ENDPOINT = {"path": "/mine", "method": "GET", "handler": lambda: "mine"}


@dataclass(frozen=True)
class Effect:
    """`settings` make `observe` return `then` instead of `before`; `beside` is set both times."""

    settings: Mapping[str, object]
    observe: Observe
    before: object
    then: object
    beside: Mapping[str, object] = field(default_factory=dict)


def moved(name: str, path: str, method: str = "GET") -> Effect:
    return Effect({name: path}, served_at(path, method), 404, 200)


EFFECTS: dict[str, Effect] = {
    "app_title": Effect({"app_title": "Mine"}, member(OPENAPI, "info", "title"), "hello", "Mine"),
    "app_description": Effect(
        {"app_description": "Mine."}, member(OPENAPI, "info", "description"), "Greet somebody.", "Mine."
    ),
    "app_version": Effect({"app_version": "2.0"}, member(OPENAPI, "info", "version"), "0.1.0", "2.0"),
    "app_kwargs": Effect({"app_kwargs": {"routes": [extras.route]}}, status(Ask(path="/n")), 404, 200),
    "root_url_path": Effect({"root_url_path": "/w"}, served_at("/w/info"), 404, 200),
    "api_url_path": Effect({"api_url_path": "/v1"}, served_at("/v1/info"), 404, 200),
    "docs_url_path": moved("docs_url_path", "/a"),
    "redoc_url_path": moved("redoc_url_path", "/a"),
    "openapi_url_path": moved("openapi_url_path", "/a"),
    "invoke_url_path": moved("invoke_url_path", "/a", "POST"),
    "health_url_path": moved("health_url_path", "/a"),
    "ready_url_path": moved("ready_url_path", "/a"),
    "info_url_path": moved("info_url_path", "/a"),
    "metrics_url_path": moved("metrics_url_path", "/a"),
    "status_url_path": moved("status_url_path", "/a"),
    "jobs_url_path": moved("jobs_url_path", "/a"),
    "runs_url_path": moved("runs_url_path", "/a"),
    "include_default_endpoints": Effect({"include_default_endpoints": ["INVOKE"]}, status(INFO), 200, 404),
    "include_default_middleware": Effect(
        {"include_default_middleware": False}, secure("x-frame-options"), b"DENY", None
    ),
    "dashboard_files_path": Effect({"dashboard_files_path": "dashboard"}, of_the_dashboard, False, True),
    "custom_endpoints": Effect({"custom_endpoints": [ENDPOINT]}, served_at("/mine"), 404, 200),
    "custom_middlewares": Effect(
        {"custom_middlewares": [{"middleware": Tagging}]}, header(b"x-passed", INFO), None, b"class"
    ),
    "app_extensions": Effect({"app_extensions": [{"extension": extras.add_route}]}, served_at("/added"), 404, 200),
    "auth_key": Effect({"auth_key": KEY}, status(INFO), 200, 401),
    "generate_auth_key": Effect({"generate_auth_key": True}, status(INFO), 200, 401),
    "cors": Effect({"cors": {"allow_origins": ["https://a.example"]}}, cors(b"https://a.example"), False, True),
    "secure_headers": Effect({"secure_headers": {"xfo": False}}, secure("x-frame-options"), b"DENY", None),
    "error_messages": Effect({"error_messages": False}, error_message, "told", "the pipeline failed"),
    "thread_pool_size": Effect({"thread_pool_size": 1}, at_once, 3, 1),
    "max_request_body_size": Effect({"max_request_body_size": 1}, status(invoke({})), 200, 413),
    "max_header_size": Effect(
        {"max_header_size": 256}, status(Ask(path="/info", headers=[(b"x-long", b"x" * 300)])), 200, 431
    ),
    "max_header_count": Effect(
        {"max_header_count": 1}, status(Ask(path="/info", headers=[(b"x-more", b"1")])), 200, 431
    ),
    "max_concurrency": Effect({"max_concurrency": 1}, beside_a_run, [], [429, 429], {"max_queue": 0}),
    "max_queue": Effect({"max_queue": 0}, beside_a_run, [], [429, 429], {"max_concurrency": 1}),
    "request_timeout": Effect({"request_timeout": 0.02}, of_an_endless_run, 503, 504),
    "receive_timeout": Effect({"receive_timeout": 0.02}, without_a_body, None, 408),
    "hook_timeout": Effect(
        {"hook_timeout": 0.02},
        of_a_slow_start,
        "started",
        " finish within 0.02 s; raise hook_timeout if it needs longer",
    ),
    "on_disconnect": Effect({"on_disconnect": "cancel"}, of_a_client_that_leaves, ["finished"], ["cancelled"]),
    "startup_hook": Effect({"startup_hook": note}, called(), [], ["called"]),
    "startup_hook_kwargs": Effect(
        {"startup_hook_kwargs": {"text": "other"}}, called(), ["called"], ["other"], {"startup_hook": note}
    ),
    "shutdown_hook": Effect({"shutdown_hook": note}, called(), [], ["called"]),
    "shutdown_hook_kwargs": Effect(
        {"shutdown_hook_kwargs": {"text": "other"}}, called(), ["called"], ["other"], {"shutdown_hook": note}
    ),
    "deployment_app_runner_flavor": Effect(
        {"deployment_app_runner_flavor": OwnRunner}, member(INFO, "app", "app_runner_flavor"), "starlette", "own"
    ),
    "deployment_app_runner_kwargs": Effect(
        {"deployment_app_runner_kwargs": {"greeting": "Ave"}},
        greeting,
        "none",
        "Ave",
        {"deployment_app_runner_flavor": OwnRunner},
    ),
    "deployment_service_class": Effect({"deployment_service_class": Service}, status(Ask(path="/health")), 200, 503),
    "deployment_service_kwargs": Effect(
        {"deployment_service_kwargs": {"reason": "theirs"}},
        member(Ask(path="/health"), "detail"),
        "Not healthy: ours.",
        "Not healthy: theirs.",
        {"deployment_service_class": Service},
    ),
}

ALLOWED = {"allow_origins": ["https://a.example"]}
PARTS: dict[str, Effect] = {
    "cors.allow_origins": EFFECTS["cors"],
    "cors.allow_methods": Effect(
        {"cors": {**ALLOWED, "allow_methods": ["GET"]}}, cors(b"put", "OPTIONS"), True, False, {"cors": ALLOWED}
    ),
    "cors.allow_headers": Effect(
        {"cors": {**ALLOWED, "allow_headers": ["x-team"]}},
        cors(b"x-team", "OPTIONS", b"x-team"),
        False,
        True,
        {"cors": ALLOWED},
    ),
    "cors.allow_credentials": Effect(
        {"cors": {**ALLOWED, "allow_credentials": True}}, cors(b"true"), False, True, {"cors": ALLOWED}
    ),
    "secure_headers.server": Effect({"secure_headers": {"server": "mine"}}, secure("server"), b"asgipipe", b"mine"),
    "secure_headers.hsts": Effect(
        {"secure_headers": {"hsts": False}}, secure("strict-transport-security"), b"max-age=31536000", None
    ),
    "secure_headers.xfo": EFFECTS["secure_headers"],
    "secure_headers.content": Effect(
        {"secure_headers": {"content": False}}, secure("x-content-type-options"), b"nosniff", None
    ),
    "secure_headers.csp": Effect(
        {"secure_headers": {"csp": "default-src *"}},
        lambda settings: secure("content-security-policy")(settings) == b"default-src *",
        False,
        True,
    ),
    "secure_headers.referrer": Effect(
        {"secure_headers": {"referrer": "origin"}}, secure("referrer-policy"), b"no-referrer", b"origin"
    ),
    "secure_headers.cache": Effect(
        {"secure_headers": {"cache": "private"}}, secure("cache-control"), b"no-store", b"private"
    ),
    "secure_headers.permissions": Effect(
        {"secure_headers": {"permissions": "usb=()"}},
        lambda settings: secure("permissions-policy")(settings) == b"usb=()",
        False,
        True,
    ),
    "endpoint.path": Effect({"custom_endpoints": [{**ENDPOINT, "path": "/other"}]}, served_at("/other"), 404, 200),
    "endpoint.method": Effect(
        {"custom_endpoints": [{**ENDPOINT, "method": "PUT"}]},
        served_at("/mine"),
        200,
        405,
        {"custom_endpoints": [ENDPOINT]},
    ),
    "endpoint.handler": Effect(
        {"custom_endpoints": [{**ENDPOINT, "handler": lambda: "other"}]},
        body(Ask(path="/mine")),
        b'"mine"',
        b'"other"',
        {"custom_endpoints": [ENDPOINT]},
    ),
    "endpoint.native": Effect(
        {"custom_endpoints": [{"path": "/mine", "handler": extras.plain_app, "native": True}]},
        served_at("/mine/below"),
        404,
        200,
    ),
    "endpoint.auth_required": Effect(
        {"custom_endpoints": [{**ENDPOINT, "auth_required": False}]},
        served_at("/mine"),
        401,
        200,
        {"custom_endpoints": [ENDPOINT], "auth_key": KEY},
    ),
    "endpoint.init_kwargs": Effect(
        {"custom_endpoints": [{**ENDPOINT, "handler": extras.Greeter, "init_kwargs": {"greeting": "Ave"}}]},
        body(Ask(path="/mine?name=x")),
        b'"Hi x from hello"',
        b'"Ave x from hello"',
        {"custom_endpoints": [{**ENDPOINT, "handler": extras.Greeter}]},
    ),
    "endpoint.extra_kwargs": Effect(
        {"custom_endpoints": [{**ENDPOINT, "extra_kwargs": {"include_in_schema": False}}]},
        lambda settings: "/mine" in answers(settings, OPENAPI)[0].json()["paths"],
        True,
        False,
        {"custom_endpoints": [ENDPOINT]},
    ),
    "middleware.middleware": EFFECTS["custom_middlewares"],
    "middleware.native": Effect(
        {"custom_middlewares": [{"middleware": extras.dispatching, "native": True}]},
        header(b"x-passed", INFO),
        None,
        b"native",
    ),
    "middleware.order": Effect(
        {"custom_middlewares": [{"middleware": Tagging, "order": 1}, {"middleware": extras.tagging}]},
        lambda settings: answers(settings, INFO)[0].all(b"x-passed"),
        [b"function", b"class"],
        [b"class", b"function"],
        {"custom_middlewares": [{"middleware": Tagging}, {"middleware": extras.tagging}]},
    ),
    "middleware.init_kwargs": Effect(
        {"custom_middlewares": [{"middleware": Tagging, "init_kwargs": {"tag": "x"}}]},
        header(b"x-passed", INFO),
        None,
        b"x",
    ),
    "middleware.extra_kwargs": Effect(
        {"custom_middlewares": [{"middleware": Tagging, "native": True, "extra_kwargs": {"tag": "x"}}]},
        header(b"x-passed", INFO),
        None,
        b"x",
    ),
    "extension.extension": EFFECTS["app_extensions"],
    "extension.extension_kwargs": Effect(
        {"app_extensions": [{"extension": extras.add_route, "extension_kwargs": {"path": "/other"}}]},
        served_at("/other"),
        404,
        200,
    ),
}

SOCKET = "tests/http/endpoints/test_websocket.py"
JOBS = "tests/jobs/test_local.py"
RECORDER = "tests/tracking/test_recorder.py"

# Fields that only a server, or a process, gives an effect.
ELSEWHERE = {
    "send_timeout": "tests/reliability/test_slow_clients.py::test_an_answer_that_nobody_takes_is_given_up",
    "store_url": f"{JOBS}::test_memory_needs_no_file",
    "job_queue": "tests/jobs/test_queue.py::test_one_that_stands_on_a_library",
    "job_queue_kwargs": f"{JOBS}::test_a_wrong_queue_is_refused_when_the_deployment_is_built",
    "run_jobs": f"{JOBS}::test_a_replica_that_runs_no_jobs",
    "job_concurrency": f"{JOBS}::test_concurrency_and_priorities",
    "max_pending_jobs": f"{JOBS}::test_the_limit_of_pending_jobs",
    "job_max_attempts": "tests/runners/test_jobs.py::test_the_last_attempt",
    "job_retries": f"{JOBS}::test_retries_come_to_an_end",
    "job_retry_delay": f"{JOBS}::test_retries",
    "job_timeout": f"{JOBS}::test_a_deadline",
    "job_resume": f"{JOBS}::test_resuming",
    "job_retention": f"{JOBS}::test_retention",
    "max_job_events": f"{JOBS}::test_the_events_that_are_kept",
    "idempotency_ttl": f"{JOBS}::test_the_lifetime_of_a_key",
    "subscriber_queue": f"{JOBS}::test_the_events_that_are_held",
    "stream_heartbeat": "tests/http/endpoints/test_stream.py::test_silence",
    "stream_url_path": f"{SOCKET}::test_it_moves_with_its_setting",
    "max_message_size": f"{SOCKET}::test_a_message_that_is_too_large_ends_the_connection",
    "max_subscriptions": f"{SOCKET}::test_subscriptions_are_bounded",
    "capture": f"{RECORDER}::test_what_each_mode_keeps",
    "allow_capture_override": f"{RECORDER}::test_overrides_can_be_forbidden",
    "capture_retention": f"{RECORDER}::test_retention",
    "artifact_url": f"{RECORDER}::test_files_elsewhere",
    "drain_timeout": "tests/cli/test_serve.py::test_what_does_not_finish_in_time_is_cut_and_the_status_says_so",
    "uvicorn_host": "tests/cli/test_serve.py::test_an_address_for_others_without_a_key_is_warned_about",
    "uvicorn_port": "tests/cli/test_serve.py::test_a_taken_port_is_one_message",
    "uvicorn_workers": "tests/cli/test_serve.py::test_a_generated_key_is_printed_once_and_works_in_every_worker",
    "uvicorn_reload": "tests/cli/test_serve.py::test_an_edited_file_is_served_anew",
    "uvicorn_kwargs": "tests/cli/test_serve.py::test_a_unix_socket",
    "metrics_directory": "tests/reliability/test_plain_servers.py::test_workers_count_together",
    "server": "tests/cli/test_serve.py::test_a_unix_socket",
    "gunicorn_kwargs": "tests/reliability/test_fork.py::test_gunicorn_makes_the_application_before_the_fork",
    "log_format": "tests/cli/test_serve.py::test_json_logs_are_json_from_the_first_line_to_the_last",
    "log_level": "tests/runners/test_settings_effects.py::test_the_log_level_decides_what_is_logged",
}


@pytest.mark.parametrize("name", sorted({**EFFECTS, **PARTS}))
def test_a_setting_has_its_effect(name: str) -> None:
    """What is observed with the default, and with another value, differs as stated."""
    effect = {**EFFECTS, **PARTS}[name]
    assert effect.observe(effect.beside) == effect.before
    assert effect.observe({**effect.beside, **effect.settings}) == effect.then


def test_every_field_has_a_proof() -> None:
    """A new field of DeploymentSettings, or of one of its sections, needs an entry above."""
    assert {*EFFECTS, *ELSEWHERE} == set(DeploymentSettings.model_fields)
    sections = {
        "cors": CORSConfig,
        "secure_headers": SecureHeadersConfig,
        "endpoint": EndpointSpec,
        "middleware": MiddlewareSpec,
        "extension": AppExtensionSpec,
    }
    assert set(PARTS) == {f"{section}.{name}" for section, model in sections.items() for name in model.model_fields}


def test_an_effect_is_that_of_its_field() -> None:
    """Each proof sets the field it is for, and beside it nothing but what is set both times."""
    for name, effect in EFFECTS.items():
        assert set(effect.settings) == {name}
        assert effect.before != effect.then


@pytest.mark.parametrize("name", ELSEWHERE)
def test_proofs_elsewhere_exist(name: str) -> None:
    """The test is there, and speaks of the setting or its option."""
    path, _, function = ELSEWHERE[name].partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    found = [node for node in functions(source) if node.name == function]
    assert len(found) == 1
    text = ast.get_source_segment(source, found[0]) or ""
    option = name.removeprefix("uvicorn_").replace("_", "-")
    assert name in text or f"--{option}" in text or f"--uvicorn-{option}" in text


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_the_log_level_decides_what_is_logged(serve: Serve, tmp_path: Path) -> None:
    """With log_level at its default the start of the deployment is logged, from `warning` on it is not."""
    (tmp_path / "app.py").write_text("def hello():\n    return 1\n")
    default, quiet = (serve("app.py", *arguments, cwd=tmp_path) for arguments in ((), ("--log-level", "warning")))
    assert default.stop() == quiet.stop() == 0
    assert "deployment hello started" in default.stderr()
    assert "deployment hello started" not in quiet.stderr()


def test_the_key_lets_in() -> None:
    """The counterpart of `auth_key` above: with the key there is an answer."""
    (granted,) = answers({"auth_key": KEY}, Ask(path="/info", headers=[BEARER]))
    assert json.loads(granted.body)["deployment"]["auth_enabled"] is True
