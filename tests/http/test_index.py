import asyncio
import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from asgipipe import Deployment, DeploymentSettings, pipeline
from asgipipe.errors import DefinitionError
from asgipipe.http.index import PipelineIndex, url_name, url_names
from asgipipe.http.types import Message, Scope
from tests.http.wire import SECURE_HEADERS

SECURE = set(SECURE_HEADERS)


@pipeline
def one(x: int = 1) -> int:
    """The first one."""
    return x


@pipeline
def two() -> str:
    return "two"


class Answer:
    def __init__(self, messages: Sequence[Message]) -> None:
        self.status = messages[0].get("status")
        self.headers = [(name.lower(), value) for name, value in messages[0].get("headers", [])]
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def document(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found

    def value(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)


def scope(path: str, method: str = "GET", root_path: str = "", key: str | None = None) -> Scope:
    headers = [(b"host", b"test")]
    if key is not None:
        headers.append((b"authorization", b"Bearer " + key.encode()))
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": root_path,
        "headers": headers,
        "state": {},
    }


async def ask(index: PipelineIndex, request: Scope) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await index(request, receive, send)
    return Answer(sent)


def deployments(*keys: str | None, **settings: object) -> list[Deployment]:
    return [
        Deployment(target, {**settings, **({"auth_key": key} if key else {})}, layers=())
        for target, key in zip((one, two), keys, strict=False)
    ]


def answers(index: PipelineIndex, served: Sequence[Deployment], *requests: Scope) -> list[Answer]:
    """Start the deployments, ask, stop them."""

    async def run() -> list[Answer]:
        for deployment in served:
            await deployment.start()
        try:
            return [await ask(index, request) for request in requests]
        finally:
            for deployment in served:
                await deployment.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("root_path", ["", "/api", "/api/v1"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole path", "bare path"])
def test_each_deployment_answers_under_its_name(root_path: str, whole: bool) -> None:
    """Requests below /<name> reach that deployment, whether the server puts the root path into the path or not."""
    served = deployments(None, None)
    prefix = root_path if whole else ""
    invoked = answers(
        PipelineIndex(served),
        served,
        scope(f"{prefix}/one/invoke", "POST", root_path),
        scope(f"{prefix}/two/invoke", "POST", root_path),
    )
    assert [answer.document["outputs"] for answer in invoked] == [{"output": 1}, {"output": "two"}]


def test_its_document_describes_its_own_paths() -> None:
    """`/openapi.json` of the index is valid, open, and names what the index itself answers, as it answers it."""
    served = deployments(None, "secret")
    document, *replies = [
        answer.document
        for answer in answers(
            PipelineIndex(served),
            served,
            scope("/api/openapi.json", root_path="/api"),
            *(scope(f"/{name}", key="secret") for name in ("pipelines", "health", "ready")),
        )
    ]
    OpenAPIV31SpecValidator(document).validate()  # type: ignore[arg-type]
    paths: Any = document["paths"]
    assert set(paths) == {"/pipelines", "/health", "/ready", "/openapi.json"}
    assert document["servers"] == [{"url": "/api"}]
    for name, reply in zip(("pipelines", "health", "ready"), replies, strict=True):
        schema = paths[f"/{name}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(reply, schema)


def test_the_list_has_urls_below_the_root_path() -> None:
    """`/pipelines` says what is where, relative to the host, and what was switched off is null."""
    served = deployments(None, "secret", include_default_endpoints="INVOKE")
    (answer,) = answers(PipelineIndex(served), served, scope("/api/pipelines", root_path="/api", key="secret"))
    assert answer.document["pipelines"] == [
        {
            "name": "one",
            "deployment_id": served[0].deployment.id,
            "url": "/api/one/",
            "invoke_url": "/api/one/invoke",
            "docs_url": None,
            "auth_enabled": False,
            "description": "The first one.",
        },
        {
            "name": "two",
            "deployment_id": served[1].deployment.id,
            "url": "/api/two/",
            "invoke_url": "/api/two/invoke",
            "docs_url": None,
            "auth_enabled": True,
            "description": "",
        },
    ]


def test_a_single_deployment_stands_at_the_root() -> None:
    """One deployment keeps its own paths, with the list beside them."""
    served = deployments(None)
    listed, invoked, health = answers(
        PipelineIndex(served), served, scope("/pipelines"), scope("/invoke", "POST"), scope("/health")
    )
    entries = listed.document["pipelines"]
    assert isinstance(entries, list)
    assert entries[0]["invoke_url"] == "/invoke"
    assert invoked.document["outputs"] == {"output": 1}
    assert health.document["pipeline_name"] == "one"


def test_an_endpoint_of_the_users_replaces_the_list() -> None:
    """A custom endpoint at /pipelines of a single deployment is not hidden."""
    served = [
        Deployment(one, {"custom_endpoints": [{"path": "/pipelines", "method": "GET", "handler": own}]}, layers=())
    ]
    (answer,) = answers(PipelineIndex(served), served, scope("/pipelines"))
    assert json.loads(answer.body) == {"mine": True}


def own() -> dict[str, bool]:
    return {"mine": True}


def test_the_list_needs_a_key_when_a_deployment_does() -> None:
    """Any key of any deployment opens the list; the probes and nothing else are open."""
    served = deployments("first", "second")
    index = PipelineIndex(served)
    requests = [
        scope("/pipelines"),
        scope("/pipelines", key="wrong"),
        scope("/pipelines", key="first"),
        scope("/pipelines", key="second"),
        scope("/nothing"),
        scope("/nothing", key="first"),
        scope("/health"),
        scope("/ready"),
        scope("/two/invoke", "POST", key="first"),
    ]
    found = [answer.status for answer in answers(index, served, *requests)]
    assert found == [401, 401, 200, 200, 401, 404, 200, 200, 401]


def test_the_index_answers_like_everything_else() -> None:
    """Its answers and refusals carry the security headers and a request id once each; refusals are problems."""
    served = deployments(None, None)
    found = answers(
        PipelineIndex(served),
        served,
        scope("/pipelines"),
        scope("/ready"),
        scope("/nothing"),
        scope("/"),
        scope("/pipelines", "POST"),
        scope("/pipelines/"),
        scope("//pipelines"),
    )
    assert [answer.status for answer in found] == [200, 200, 404, 404, 405, 404, 404]
    for answer in found:
        names = [name for name, _ in answer.headers]
        assert all(names.count(name) == 1 for name in SECURE)
    assert all(answer.value(b"content-type") == b"application/problem+json" for answer in found[2:])
    assert found[4].value(b"allow") == b"GET, HEAD"


def test_ready_and_healthy_mean_all_of_them() -> None:
    """One deployment that is not ready, or not healthy, makes the probes 503 with a Retry-After."""
    served = deployments(None, None)
    index = PipelineIndex(served)

    async def run() -> list[Answer]:
        found = [await ask(index, scope("/ready"))]
        for deployment in served:
            await deployment.start()
        found.append(await ask(index, scope("/ready")))
        served[1].lifecycle.begin_drain()
        found.append(await ask(index, scope("/ready")))
        served[0].service.health_checks.append(lambda: "no disk")
        found.append(await ask(index, scope("/health")))
        for deployment in served:
            await deployment.stop()
        return found

    found = asyncio.run(run())
    assert [answer.status for answer in found] == [503, 200, 503, 503]
    assert found[2].document["detail"] == "1 of 2 pipelines are not ready."
    assert found[2].value(b"retry-after") == b"1"


def test_a_websocket_to_nowhere_is_refused() -> None:
    """A handshake for an unknown path is closed before it is accepted."""
    served = deployments(None, None)
    (answer,) = answers(PipelineIndex(served), served, {**scope("/nothing"), "type": "websocket"})
    assert answer.status is None


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("weather", "weather"),
        ("Weather agent", "Weather-agent"),
        ("a/b/../c", "a-b-..-c"),
        ("größe", "gr-e"),
        ("..x", "x"),
    ],
)
def test_names_become_url_segments(name: str, safe: str) -> None:
    """A URL name holds letters, digits, `_`, `.` and `-` only, and never begins with a dot."""
    assert url_name(name) == safe


def test_a_name_without_a_safe_character_is_refused() -> None:
    """A name of which nothing can stand in a URL is an error that names it."""
    with pytest.raises(DefinitionError, match="天気"):
        url_name("天気")


@pytest.mark.parametrize("names", [("a b", "a-b"), ("x", "pipelines"), ("health", "x"), ("ready", "x")])
def test_names_that_clash_are_refused(names: tuple[str, str]) -> None:
    """Two names that share a URL, or one that the index needs, are an error that names the targets."""
    with pytest.raises(DefinitionError, match=r"(one\.py|two\.py)"):
        url_names(names, ("one.py", "two.py"))


def test_security_headers_follow_the_deployments() -> None:
    """Where all deployments agree on their headers the index has the same, else the defaults."""
    same = [Deployment(target, {"secure_headers": {"server": "mine"}}, layers=()) for target in (one, two)]
    mixed = [same[0], Deployment(two, DeploymentSettings(), layers=())]
    for served, expected in ((same, b"mine"), (mixed, b"asgipipe")):
        (answer,) = answers(PipelineIndex(served), served, scope("/pipelines"))
        assert answer.value(b"server") == expected
