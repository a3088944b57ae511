"""The OpenAPI document says exactly what is answered: schemathesis tries it with all its checks."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from enum import Enum
from io import BytesIO
from typing import Annotated, Any, Literal, cast
from urllib.parse import unquote, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel, Field, FiniteFloat
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok

from asgipipe import Deployment, EndpointSpec, step
from asgipipe.http.types import ASGIApp
from asgipipe.identifiers import uuid7
from asgipipe.settings import EndpointMethod
from asgipipe.testing.lifespan import running
from asgipipe.testing.subject import Form, assembled
from tests.http.wire import Ask, deployed, reply
from tests.reliability.served.guarded import natives
from tests.reliability.sites import FLAVORS, subject_of

KEY = "a-key"
URL = "http://testserver"
IDEMPOTENCY = "Idempotency-Key"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Street(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=20)]
    number: Annotated[int, Field(ge=1, le=999)] = 1


class Address(BaseModel):
    model_config = {"extra": "forbid"}

    street: Street
    tags: list[str] = []
    other: "Address | None" = None


class Scored(BaseModel):
    score: Annotated[float, Field(ge=0, le=1)]
    label: str


def required(name: str, times: int) -> str:
    """Repeat a name.

    It takes two parameters.
    """
    return name[:10] * (times % 3)


def defaults(x: int = 1, ratio: float = 0.5, flag: bool = False, text: str | None = None) -> float:
    return x if abs(x) < 10**9 and flag else ratio


def nothing() -> None:
    return None


async def models(address: Address, colour: Colour = Colour.RED, kind: Literal["a", "b"] = "a") -> Scored:
    return Scored(score=0.5, label=address.street.name)


def many(
    items: Annotated[list[int], Field(max_length=5)],
    table: dict[str, FiniteFloat],
    pair: tuple[int, str],
    day: date,
    choice: int | str | None = None,
    anything: Any = None,
) -> dict[str, Any]:
    return {"anything": anything, "day": day}


@step
def split(x: int) -> tuple[Annotated[int, "half"], Annotated[float, "ratio"]]:
    return x // 2, float("nan")


def several(x: int = 8) -> tuple[Annotated[int, "half"], Annotated[float, "ratio"]]:
    return split(x)


def failing(x: int = 1) -> int:
    raise ValueError("as documented")


def custom(address: Address, name: str, limit: Annotated[int, Field(ge=1, le=10)] = 5) -> Street:
    return address.street


CUSTOM = EndpointSpec(path="/items/{name}", method=EndpointMethod.POST, handler=custom)
DEPLOYMENTS: dict[str, tuple[Any, dict[str, object]]] = {
    "required parameters": (required, {}),
    "defaults": (defaults, {}),
    "no parameters": (nothing, {}),
    "nested models and enums": (models, {}),
    "containers": (many, {}),
    "several outputs": (several, {}),
    "a key": (required, {"auth_key": KEY}),
    "a key and models": (models, {"auth_key": [KEY, "second"], "root_url_path": "/r", "api_url_path": "/v1"}),
    "a pipeline that fails": (failing, {"error_messages": False}),
    "a custom endpoint": (defaults, {"custom_endpoints": [CUSTOM], "auth_key": KEY}),
}


EMBEDDED = {"starlette": Form.INCLUDE, "fastapi": Form.INCLUDE, "django": Form.MOUNT, "quart": Form.INCLUDE}
"""How each host has one; among the URLs of a Django project its protection against forgery answers first."""
PLACES = [
    *(pytest.param("starlette", Form.STANDALONE, case, id=f"starlette-{case}") for case in DEPLOYMENTS),
    *(
        pytest.param(flavor, Form.STANDALONE, case, id=f"{flavor}-{case}")
        for flavor in FLAVORS[1:]
        for case in ("a key and models", "a custom endpoint")
    ),
    *(pytest.param(flavor, form, "a custom endpoint", id=f"{flavor}-{form}") for flavor, form in EMBEDDED.items()),
]
"""Every deployment on the reference runner; with each runner those that ask most of the framework, and in a host."""


def placed(flavor: str, form: Form, target: Any, given_settings: Mapping[str, object]) -> ASGIApp:
    """Return a deployment in its place; native middleware makes the other frameworks see every request."""
    pytest.importorskip(flavor)
    own: dict[str, object] = {"deployment_app_runner_flavor": flavor, "store_url": "memory:"}
    if flavor != "starlette":
        own["custom_middlewares"] = [{"middleware": natives(flavor).MIDDLEWARE, "native": True}]
    return assembled(subject_of(flavor), form, Deployment(target, {**given_settings, **own}, layers=()))


class InProcess:
    """Sends what `requests` would send to an ASGI application in this process."""

    def __init__(self, runner: asyncio.Runner, app: ASGIApp) -> None:
        self._runner = runner
        self._app = app

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        url = urlsplit(str(request.url))
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        assert isinstance(raw, bytes)
        headers = [
            (_bytes(name).lower(), _bytes(value)) for name, value in request.headers.items() if name.lower() != "host"
        ]
        scope = {"query_string": url.query.encode(), "raw_path": url.path.encode()}
        asked = Ask(str(request.method), "", headers, raw, scope={**scope, "path": unquote(url.path)})
        answered = self._runner.run(reply(self._app, asked))
        response = requests.Response()
        response.status_code = answered.status
        response._content = answered.body
        response.request = request
        response.url = str(request.url)
        response.headers.update({name.decode("latin-1"): value.decode("latin-1") for name, value in answered.headers})
        response.raw = _Raw(answered.headers, answered.body)
        return response


class _Raw:
    """The part of a urllib3 response that schemathesis looks at."""

    version = 11

    def __init__(self, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        from urllib3 import HTTPHeaderDict

        self._body = BytesIO(body)

        self.headers = HTTPHeaderDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])

    def read1(self, size: int, *, decode_content: bool) -> bytes:
        return self._body.read1(size)

    def close(self) -> None:
        return

    def release_conn(self) -> None:
        return


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


@contextmanager
def answering(app: ASGIApp) -> Iterator[None]:
    """Let `app` answer whatever `requests` is used for; some checks of schemathesis open sessions of their own."""
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
        context = running(app)
        runner.run(context.__aenter__())
        patch.setattr("requests.adapters.HTTPAdapter.send", InProcess(runner, app).send)
        yield
        runner.run(context.__aexit__(None, None, None))


def document_at(root: str = "") -> dict[str, Any]:
    document: dict[str, Any] = requests.get(f"{URL}{root}/openapi.json", timeout=1).json()
    return document


@pytest.mark.filterwarnings("ignore::DeprecationWarning:schemathesis", "ignore::DeprecationWarning:jsonschema")
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("flavor", "form", "case"), PLACES)
def test_the_document_is_true(flavor: str, form: Form, case: str, mode: GenerationMode) -> None:
    """For every operation: what the document allows is accepted, what it forbids is refused, and each answer has a
    documented status, content type, schema and headers.
    """
    target, given_settings = DEPLOYMENTS[case]
    app = placed(flavor, form, target, given_settings)
    with answering(app):
        schema = schemathesis.openapi.from_dict(document_at(f"{form.prefix}{given_settings.get('root_url_path', '')}"))
        headers = {"Authorization": f"Bearer {KEY}"} if "auth_key" in given_settings else {}
        for result in schema.get_all_operations():
            operation = cast("Ok[Any]", result).ok()

            @settings(
                max_examples=15,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case[Any]) -> None:
                assume(not _has_whole_float(case.body))
                # The hosts' own routers refuse a line break before the deployment is asked.
                assume(form is Form.STANDALONE or not any(map(_has_line_break, case.path_parameters.values())))
                _give_own_key(case)
                key = {} if _is_negated(case, ParameterLocation.HEADER) else headers  # called in this turn
                answer = case.call_and_validate(
                    base_url=URL + form.prefix, headers=key, excluded_checks=[not_a_server_error]
                )
                # A failed run is no failure of the server's: the document says so, and what it answers.
                assert answer.status_code < 500 or answer.json()["success"] is False

            with suppress(Unsatisfiable):  # nothing can be sent there that the document forbids
                check()


def _give_own_key(case: schemathesis.Case[Any]) -> None:
    """A key that was used for another request is refused, and nothing in the document could say which those are."""
    if IDEMPOTENCY in case.headers and not _is_negated(case, ParameterLocation.HEADER):
        case.headers[IDEMPOTENCY] = uuid7()


def _has_line_break(value: object) -> bool:
    return isinstance(value, str) and "\n" in unquote(value)


def _is_negated(case: schemathesis.Case[Any], location: ParameterLocation) -> bool:
    """Tell whether what makes a request wrong is there: a key of ours must not make it right again."""
    component = case.meta.components.get(location) if case.meta else None
    return component is not None and component.mode.is_negative


def _has_whole_float(value: object) -> bool:
    """To JSON Schema 2.0 is an integer; pydantic's strict mode tells it from 2, as languages with types do."""
    if isinstance(value, dict):
        return any(map(_has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_whole_float, value))
    return isinstance(value, float) and value.is_integer()


def test_the_document_covers_what_is_served() -> None:
    """Every built-in endpoint stands in it, with the bearer scheme where a key is needed."""
    with answering(deployed(required, {"auth_key": KEY})):
        document = document_at()
    fixed = {"/invoke", "/health", "/ready", "/info", "/metrics", "/status", "/openapi.json", "/jobs", "/runs"}
    below = {"/jobs/{job_id}", "/jobs/{job_id}/cancel", "/stream/{job_id}", "/runs/{run_id}"}
    assert fixed | below <= document["paths"].keys()
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["security"] == [{"bearer": []}]
    request = document["components"]["schemas"]["InvokeRequest"]
    assert request["properties"]["run_name"]["maxLength"] == 255
    assert request["properties"]["run_name"]["minLength"] == 1
    assert json.dumps(document).count(KEY) == 0
