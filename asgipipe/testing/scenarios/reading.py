"""What only reads: probes, descriptions, documents and the dashboard."""

import re
from urllib.parse import urljoin

from asgipipe.testing.client import Ask
from asgipipe.testing.comparison import assert_equal_bytes, assert_same
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER
from asgipipe.testing.trial import Trial

READING = (
    *("/health", "/ready", "/info", "/metrics", "/status", "/jobs", "/runs"),
    *("/docs", "/redoc", "/openapi.json", "/"),
)
PAGE = {"accept": "text/html,application/xhtml+xml"}


@scenario(sockets=True)
async def probes_say_that_it_is_well(trial: Trial) -> None:
    """/health and /ready answer 200 with the contract's members."""
    client = await trial.client()
    health = await client.get("/health")
    assert (health.status, health.header("content-type")) == (200, "application/json")
    assert list(health.json()) == ["status", "uptime", "deployment_id", "pipeline_name"]
    assert health.json()["status"] == "healthy"
    ready = await client.get("/ready")
    assert (ready.status, ready.json()) == (200, {"status": "ready"})


@scenario()
async def info_and_status_describe_the_deployment_alike(trial: Trial) -> None:
    """/info and /status are those of the reference, but for the flavor and what a clock or counter says."""
    client, reference = await trial.client(), await trial.reference()
    info, expected = (await client.get("/info")).json(), (await reference.get("/info")).json()
    assert info["app"].pop("app_runner_flavor")
    expected["app"].pop("app_runner_flavor")
    for told in (info, expected):
        for name in ("uptime", "total_executions", "last_execution_time"):
            told.pop(name)
    assert info == expected
    status, expected = (await client.get("/status")).json(), (await reference.get("/status")).json()
    status["settings"].pop("deployment_app_runner_flavor")
    expected["settings"].pop("deployment_app_runner_flavor")
    assert status == expected


@scenario()
async def metrics_count_what_was_run(trial: Trial) -> None:
    """A run is counted once, as JSON and as Prometheus text."""
    client = await trial.client()
    before = (await client.get("/metrics")).json()["successful_executions"]
    await client.send(Ask("POST", "/invoke", {"content-type": "application/json"}, b'{"parameters":{"name":"a"}}'))
    assert (await client.get("/metrics")).json()["successful_executions"] == before + 1
    text = await client.get("/metrics", accept="text/plain")
    assert (text.header("content-type") or "").startswith("text/plain")
    assert b"asgipipe_runs_total{" in text.body


@scenario(sockets=True)
async def head_answers_wherever_get_does(trial: Trial) -> None:
    """HEAD has the status and headers of GET, content-length included, and no body."""
    client = await trial.client("full")
    for target in (*READING, "/named/x", "/class?name=x", "/function?name=x"):
        got, headed = await client.get(target), await client.send(Ask("HEAD", target))
        assert (headed.status, headed.body) == (200, b""), (target, headed)
        assert headed.header("content-type") == got.header("content-type"), target
        if target not in {"/health", "/info", "/metrics"}:  # whose clocks go on
            assert headed.header("content-length") == got.header("content-length"), target


@scenario(sockets=True)
async def documents_are_those_of_the_reference(trial: Trial) -> None:
    """The pages that show the OpenAPI document, and the dashboard, are the same to the byte."""
    client, reference = await trial.client("full"), await trial.reference("full")
    asks = [Ask("GET", target) for target in ("/docs", "/redoc", "/", "/index.html")]
    await assert_same(client, reference, *asks)


@scenario(sockets=True)
async def there_is_one_openapi_document(trial: Trial) -> None:
    """It is the reference's to the byte, but for the place of the server, which is where clients find it."""
    for name in ("full", "through"):
        client, reference = await trial.client(name), await trial.reference(name)
        found, expected = await client.get("/openapi.json"), await reference.get("/openapi.json")
        place = f"{trial.form.proxy}{client.prefix}" or "/"
        assert found.json()["servers"] == [{"url": place}]
        body = found.body.replace(f'"servers":[{{"url":"{place}"}}]'.encode(), b'"servers":[{"url":"/"}]')
        assert_equal_bytes(body, expected.body, name)


@scenario(sockets=True)
async def links_of_pages_lead_below_the_prefix(trial: Trial) -> None:
    """What the pages refer to is found where a browser looks for it, behind a proxy too."""
    client = await trial.client("keyed")
    place = f"{trial.form.proxy}{client.prefix}"
    for page in ("/docs", "/redoc", "/"):
        text = (await client.get(page)).body.decode()
        links = [link for link in re.findall(r'(?:src|href|data-[a-z-]+)="([^"#]+)"', text) if "data:" not in link]
        for link in links:
            target = urljoin(f"{place}{page}", link)
            assert target.startswith(f"{place}/"), (page, link)
            found = await client.send(Ask("GET", target.removeprefix(place), BEARER))
            assert found.status == 200, (page, link, found.status)


@scenario(sockets=True)
async def client_side_routes_get_the_dashboard(trial: Trial) -> None:
    """A browser's navigation below an unknown first segment gets index.html; anything else unknown is a 404."""
    client, reference = await trial.client("full"), await trial.reference("full")
    page = await client.send(Ask("GET", "/graph/17", PAGE))
    assert page.status == 200
    assert page.body == (await client.get("/")).body
    assets, below = Ask("GET", "/assets/x.js", PAGE), Ask("GET", "/runs/17", PAGE)
    missing = [Ask("GET", "/graph/17"), assets, below, Ask("GET", "/info/x", PAGE), Ask("POST", "/x")]
    await assert_same(client, reference, Ask("GET", "/graph/17", PAGE), *missing)
    for ask in missing:
        assert (await client.send(ask)).problem["type"] == "urn:asgipipe:not-found", ask


@scenario(sockets=True)
async def moved_paths_answer_where_they_are_moved_to(trial: Trial) -> None:
    """`root_url_path`, `api_url_path` and single paths hold, and an endpoint of the user's replaces a built-in one."""
    client, reference = await trial.client("moved"), await trial.reference("moved")
    assert (await client.get("/root/api/v1/info")).json() == "mine"
    assert (await client.get("/root/named/x?times=2")).json() == "xx"
    assert (await client.get("/root/native")).body == b"native"
    found = ("/root/manual", "/root/redoc", "/root/openapi.json", "/root/", "/root/api/v1/ready")
    unknown = ("/info", "/health", "/docs", "/root/docs", "/root/info", "/root/invoke", "/root", "/named/x", "/native")
    for target in found:
        assert (await client.get(target)).status == 200, target
    for target in unknown:
        assert (await client.get(target)).status == 404, target
    same = [target for target in (*found, *unknown) if target != "/root/openapi.json"]  # which names its place
    await assert_same(client, reference, *(Ask("GET", target) for target in same))
    ran = Ask("POST", "/root/api/v1/run", {"content-type": "application/json"}, b'{"parameters":{"name":"a"}}')
    assert (await client.send(ran)).status == 200
