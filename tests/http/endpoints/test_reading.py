import asyncio
import json
from typing import Any

import jsonschema
import pytest

from asgipipe import pipeline, step
from asgipipe.http.types import ASGIApp
from tests.http.wire import Ask, Reply, ask, ask_one, invoke, reply
from tests.running import started

TEXT = (b"accept", b"text/plain")
OPENMETRICS = (b"accept", b"application/openmetrics-text; version=1.0.0")


@step
def doubled(x: int) -> int:
    return 2 * x


@pipeline
def double(x: int, label: str = "none") -> int:
    """Double a number."""
    return doubled(x)


def schema_of(document: dict[str, Any], path: str, method: str = "get") -> dict[str, Any]:
    content = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
    return {**content, "components": document["components"]}


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics", "/status", "/openapi.json"])
def test_answers_are_what_the_openapi_document_says(path: str) -> None:
    """Each reading endpoint answers 200 with JSON of its documented schema."""
    answer, document = ask(double, {}, Ask("GET", path), Ask("GET", "/openapi.json"))
    assert (answer.status, answer.header(b"content-type")) == (200, b"application/json")
    jsonschema.validate(answer.json(), schema_of(document.json(), path))


# /health and /ready


def test_health() -> None:
    """It says that all is well, for how long, and whose pipeline this is."""
    body = ask_one(double, Ask("GET", "/health")).json()
    assert list(body) == ["status", "uptime", "deployment_id", "pipeline_name"]
    assert (body["status"], body["pipeline_name"]) == ("healthy", "double")
    assert body["uptime"] >= 0


async def async_check(verdict: object) -> object:
    return verdict


@pytest.mark.parametrize(
    ("verdict", "detail"),
    [
        (None, None),
        (True, None),
        ("the disk is full", "Not healthy: the disk is full."),
        (False, "Not healthy: a health check failed."),
        (0, "Not healthy: a health check failed."),
        (ValueError("/srv/secret"), "Not healthy: a health check failed."),
    ],
)
@pytest.mark.parametrize("is_async", [True, False])
def test_health_checks(is_async: bool, verdict: object, detail: str | None) -> None:
    """A check that complains makes it a 503 with the reason; one that raises, without."""

    def check() -> object:
        if isinstance(verdict, Exception):
            raise verdict
        return async_check(verdict) if is_async else verdict

    async def main() -> Reply:
        async with started(double) as deployment:
            deployment.service.health_checks += [lambda: None, check]
            return await reply(deployment.asgi_app, Ask("GET", "/health"))

    answer = asyncio.run(main())
    if detail is None:
        assert answer.status == 200
    else:
        assert answer.status == 503
        assert answer.problem["detail"] == detail
        assert int(answer.header(b"retry-after") or 0) >= 1


def test_ready() -> None:
    """It says nothing else."""
    assert ask_one(double, Ask("GET", "/ready")).body == b'{"status":"ready"}'


# /info


def test_info() -> None:
    """What is served, with schemas and graph, where, and how often it ran."""
    before, _, after = ask(
        double,
        {"auth_key": "k"},
        *(_with_key(each) for each in (Ask("GET", "/info"), invoke({"parameters": {"x": 1}}), Ask("GET", "/info"))),
    )
    info = before.json()
    assert list(info) == [
        "deployment",
        "snapshot",
        "pipeline",
        "app",
        "total_executions",
        "last_execution_time",
        "status",
        "uptime",
    ]
    assert list(info["deployment"]) == ["id", "name", "auth_enabled"]
    assert (info["deployment"]["name"], info["deployment"]["auth_enabled"]) == ("double", True)
    assert info["snapshot"]["name"] is None
    described = info["pipeline"]
    assert list(described) == ["name", "description", "steps", "graph", "parameters", "input_schema", "output_schema"]
    assert (described["name"], described["description"]) == ("double", "Double a number.")
    assert described["steps"] == ["doubled"]
    assert described["input_schema"]["required"] == ["x"]
    assert described["input_schema"]["additionalProperties"] is False
    assert described["output_schema"]["properties"] == {"output": {"title": "Output", "type": "integer"}}
    assert set(described["parameters"]) == {"x", "label"}
    assert (info["total_executions"], info["last_execution_time"], info["status"]) == (0, None, "started")
    assert after.json()["total_executions"] == 1
    assert after.json()["last_execution_time"].endswith("Z")


def _with_key(asked: Ask) -> Ask:
    return Ask(asked.method, asked.path, [*asked.headers, (b"authorization", b"Bearer k")], asked.body)


def test_info_tells_where_everything_is() -> None:
    """Paths are complete; what is switched off is null."""
    settings = {
        "root_url_path": "/r",
        "api_url_path": "/v1",
        "invoke_url_path": "/go",
        "include_default_endpoints": ["DOCS", "API"],
    }
    app = ask_one(double, Ask("GET", "/r/v1/info"), settings).json()["app"]
    assert app == {
        "app_runner_flavor": "starlette",
        "docs_url_path": "/r/docs",
        "redoc_url_path": None,
        "openapi_url_path": "/r/openapi.json",
        "invoke_url_path": "/r/v1/go",
        "health_url_path": "/r/v1/health",
        "ready_url_path": "/r/v1/ready",
        "info_url_path": "/r/v1/info",
        "metrics_url_path": "/r/v1/metrics",
        "status_url_path": "/r/v1/status",
        "jobs_url_path": "/r/v1/jobs",
        "stream_url_path": "/r/v1/stream",
        "runs_url_path": "/r/v1/runs",
    }


# /metrics


def sometimes(x: int = 0) -> int:
    if x:
        raise ValueError("x")
    return x


def test_metrics_count_runs_and_nothing_else() -> None:
    """Runs that finished or failed are counted; refusals are no runs."""
    asked = [
        invoke(),
        invoke(),
        invoke({"parameters": {"x": 1}}),
        invoke(b"{"),
        invoke({"parameters": {"y": 1}}),
        Ask("GET", "/invoke"),
    ]
    *_, answer = ask(sometimes, {}, *asked, Ask("GET", "/metrics"))
    counted = answer.json()
    assert list(counted) == [
        "total_executions",
        "successful_executions",
        "failed_executions",
        "canceled_executions",
        "in_flight",
        "average_execution_time",
        "execution_time_quantiles",
        "last_execution_time",
    ]
    assert list(counted.values())[:5] == [3, 2, 1, 0, 0]
    assert counted["average_execution_time"] > 0
    assert list(counted["execution_time_quantiles"]) == ["0.5", "0.95", "0.99"]


def test_metrics_before_the_first_run() -> None:
    """What is not known yet is null."""
    counted = ask_one(sometimes, Ask("GET", "/metrics")).json()
    assert (counted["total_executions"], counted["average_execution_time"], counted["last_execution_time"]) == (
        0,
        None,
        None,
    )
    assert counted["execution_time_quantiles"] == {"0.5": None, "0.95": None, "0.99": None}


def test_what_is_running_is_in_flight() -> None:
    """A run that is still at work is counted as such."""
    gate = asyncio.Event()

    async def gated(x: int = 0) -> int:
        entered.set()
        await gate.wait()
        return x

    entered = asyncio.Event()

    async def in_flight(app: ASGIApp) -> object:
        return (await reply(app, Ask("GET", "/metrics"))).json()["in_flight"]

    async def main() -> None:
        async with started(gated) as deployment:
            app: ASGIApp = deployment.asgi_app
            working = asyncio.create_task(reply(app, invoke()))
            await entered.wait()
            assert await in_flight(app) == 1
            gate.set()
            await working
            assert await in_flight(app) == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, b"application/json"),
        (b"*/*", b"application/json"),
        (b"application/json", b"application/json"),
        (b"text/html, */*;q=0.1", b"application/json"),
        (b"text/plain", b"text/plain; version=0.0.4; charset=utf-8"),
        (b"text/plain;version=0.0.4;q=0.5,*/*;q=0.1", b"text/plain; version=0.0.4; charset=utf-8"),
        (
            b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            b"application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_metrics_in_the_form_that_is_asked_for(accept: bytes | None, content_type: bytes) -> None:
    """JSON by default, the text formats for scrapers; the answer says that it depends on Accept."""
    answer = ask_one(sometimes, Ask("GET", "/metrics", [] if accept is None else [(b"accept", accept)]))
    assert answer.header(b"content-type") == content_type
    assert answer.header(b"vary") == b"Accept"


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
def test_metrics_as_text(accept: tuple[bytes, bytes]) -> None:
    """The names of the contract, with the deployment and the pipeline as labels."""
    *_, answer = ask(sometimes, {}, invoke(), invoke({"parameters": {"x": 1}}), Ask("GET", "/metrics", [accept]))
    text = answer.body.decode()
    labels = 'deployment="sometimes",pipeline="sometimes"'
    assert f'asgipipe_runs_total{{{labels},status="completed"}} 1.0' in text
    assert f'asgipipe_runs_total{{{labels},status="failed"}} 1.0' in text
    assert f"asgipipe_runs_in_flight{{{labels}}} 0.0" in text
    assert f"asgipipe_run_duration_seconds_count{{{labels}}} 2.0" in text
    assert "asgipipe_http_requests_total{" in text


# All of them


def test_reading_needs_no_start() -> None:
    """What only reads answers under a host that sends no lifespan events, before anything was started."""

    async def main() -> list[int]:
        from asgipipe import Deployment

        deployment = Deployment(double, layers=())
        paths = ("/health", "/info", "/metrics", "/status", "/openapi.json", "/docs")
        statuses = [(await reply(deployment.asgi_app, Ask("GET", path))).status for path in paths]
        assert not deployment.lifecycle.started
        return statuses

    assert asyncio.run(main()) == [200] * 6


SWITCHES: dict[str, tuple[str, ...]] = {
    "INVOKE": ("/invoke",),
    "HEALTH": ("/health", "/ready"),
    "INFO": ("/info",),
    "METRICS": ("/metrics",),
    "STATUS": ("/status",),
    "DOCS": ("/docs", "/openapi.json"),
    "REDOC": ("/redoc", "/openapi.json"),
    "DASHBOARD": ("/",),
    "NONE": (),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_endpoint_can_be_switched(switch: str) -> None:
    """What is switched off is not found, and stands in no document."""
    paths = sorted({path for served in SWITCHES.values() for path in served})
    asked = [Ask("POST" if path == "/invoke" else "GET", path) for path in paths]
    statuses = dict(
        zip(
            paths,
            (each.status for each in ask(sometimes, {"include_default_endpoints": [switch]}, *asked)),
            strict=True,
        )
    )
    assert {path for path, status in statuses.items() if status == 200} == set(SWITCHES[switch])
    assert set(statuses.values()) <= {200, 404}


@pytest.mark.parametrize("name", ["docs", "redoc", "openapi", "invoke", "health", "ready", "info", "metrics", "status"])
def test_each_path_can_be_moved(name: str) -> None:
    """It answers at its new place and no longer at the old one."""
    old = "/openapi.json" if name == "openapi" else f"/{name}"
    method = "POST" if name == "invoke" else "GET"
    moved, gone = ask(sometimes, {f"{name}_url_path": "/moved/here"}, Ask(method, "/moved/here"), Ask(method, old))
    assert (moved.status, gone.status) == (200, 404)


def test_a_clock_that_jumps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps back makes no uptime negative."""
    moments = iter([1000.0, *[10.0] * 1000])
    monkeypatch.setattr("asgipipe.service.deployment.time", lambda: next(moments))
    monkeypatch.setattr("asgipipe.http.endpoints.reading.time", lambda: 10.0)

    async def main() -> float:
        app: ASGIApp
        async with started(double) as deployment:
            app = deployment.asgi_app
            uptime: float = json.loads((await reply(app, Ask("GET", "/health"))).body)["uptime"]
            return uptime

    assert asyncio.run(main()) >= 0
