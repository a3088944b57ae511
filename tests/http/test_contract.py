"""The HTTP contract, line by line: what is sent, what is answered."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_core import from_json

from asgipipe import pipeline
from asgipipe.settings.capture import CaptureMode
from tests.http.wire import JSON, Ask, Reply, ask, ask_one, invoke

LIMIT = 2000


@pipeline
def greet(name: str, times: int = 2, ratio: float = 0.5) -> str:
    return name * times


@pipeline
def tick(count: int = 1) -> int:
    return count


SETTINGS = {"max_request_body_size": LIMIT}
GOOD = {"parameters": {"name": "a"}}
NOT_UTF_8 = b'{"run_name":"\xff"}'


def with_parameters(**parameters: object) -> Ask:
    return invoke({"parameters": {"name": "a", **parameters}})


def typed(content_type: bytes, body: bytes = b'{"parameters":{"name":"a"}}') -> Ask:
    return Ask("POST", "/invoke", [(b"content-type", content_type)], body)


def problem(slug: str, title: str, status: int, detail: str, **more: object) -> dict[str, object]:
    return {"type": f"urn:asgipipe:{slug}", "title": title, "status": status, "detail": detail, **more}


def bad(detail: str) -> dict[str, object]:
    return problem("bad-request", "Bad Request", 400, detail)


def not_json(detail: str) -> dict[str, object]:
    return bad(f"The body is not valid JSON: {detail}.")


def words_of_pydantic(document: bytes) -> str:
    """Return how pydantic describes the mistake, where its versions differ: some count columns from 0."""
    with pytest.raises(ValueError, match="unicode") as caught:
        from_json(document)
    return str(caught.value)


def refused(*errors: tuple[list[str | int], str, str]) -> dict[str, object]:
    listed = [{"loc": loc, "msg": message, "type": kind} for loc, message, kind in errors]
    detail = "1 value was refused." if len(errors) == 1 else f"{len(errors)} values were refused."
    return problem("validation", "Unprocessable Content", 422, detail, errors=listed)


NOT_TYPED = problem(
    "unsupported-media-type", "Unsupported Media Type", 415, "Send the body with content type application/json."
)
OTHER_CHARSET = {**NOT_TYPED, "detail": "JSON is UTF-8 (RFC 8259); send the body in no other charset."}
TOO_LARGE = problem("body-too-large", "Content Too Large", 413, f"The body may have {LIMIT} bytes at most.")
NOT_FOUND = problem("not-found", "Not Found", 404, "Nothing is served at this path.")
BAD_MODE = bad("The query parameter mode can be 'sync', 'async' or 'stream'.")
NO_OBJECT = refused(([], "Input should be an object", "dict_type"))
NO_NUMBER = refused((["timeout"], "Input should be a valid number", "float_type"))
NOT_POSITIVE = refused((["timeout"], "Input should be greater than 0", "greater_than"))
MISSING = refused((["parameters", "name"], "Field required", "missing"))


def answers(method: str, *allowed: str) -> tuple[Ask, dict[str, object]]:
    asked = Ask(method, "/invoke" if allowed == ("POST",) else "/health")
    detail = f"This path answers {', '.join(allowed)}."
    return asked, problem("method-not-allowed", "Method Not Allowed", 405, detail)


REFUSALS: dict[str, tuple[Ask, dict[str, object]]] = {
    # 400: what is not JSON, and queries that mean nothing
    "malformed": (invoke(b"{"), not_json("EOF while parsing an object at line 1 column 1")),
    "only white space": (invoke(b"   "), not_json("EOF while parsing a value at line 1 column 3")),
    "more than one value": (invoke(b"{} {}"), not_json("trailing characters at line 1 column 4")),
    "not UTF-8": (invoke(NOT_UTF_8), not_json(words_of_pydantic(NOT_UTF_8))),
    "a byte order mark": (invoke(b"\xef\xbb\xbf{}"), not_json("expected value at line 1 column 1")),
    "UTF-16": (invoke(json.dumps(GOOD).encode("utf-16")), not_json("expected value at line 1 column 1")),
    "UTF-16 without a mark": (
        invoke(json.dumps(GOOD).encode("utf-16-le")),
        not_json("key must be a string at line 1 column 2"),
    ),
    "NaN": (invoke(b'{"parameters":{"ratio":NaN}}'), not_json("expected value at line 1 column 24")),
    "Infinity": (invoke(b'{"parameters":{"ratio":Infinity}}'), not_json("expected value at line 1 column 24")),
    "-Infinity": (invoke(b'{"timeout":-Infinity}'), not_json("invalid number at line 1 column 13")),
    "a lone surrogate": (
        invoke(b'{"run_name":"\\ud800"}'),
        not_json("unexpected end of hex escape at line 1 column 20"),
    ),
    "nested too deeply": (invoke(b"[" * 1000), not_json("recursion limit exceeded at line 1 column 202")),
    "nested too deeply, but whole": (
        invoke(b'{"parameters":' + b"[" * 300 + b"]" * 300 + b"}"),
        not_json("recursion limit exceeded at line 1 column 215"),
    ),
    "a bad mode": (invoke(GOOD, path="/invoke?mode=later"), BAD_MODE),
    "an empty mode": (invoke(GOOD, path="/invoke?mode="), BAD_MODE),
    "two modes": (
        invoke(GOOD, path="/invoke?mode=sync&mode=sync"),
        bad("The query parameter mode can be given once."),
    ),
    "a bad priority": (
        invoke(GOOD, path="/invoke?mode=async&priority=high"),
        bad("The query parameter priority can be a whole number from -100 to 100."),
    ),
    "a bad key": (
        invoke(GOOD, (b"idempotency-key", b"a key")),
        bad("An Idempotency-Key has 1 to 255 visible ASCII characters, and is sent once."),
    ),
    # 404 and 405
    "an unknown path": (Ask("GET", "/nothing"), NOT_FOUND),
    "a known path with a slash": (Ask("GET", "/health/"), NOT_FOUND),
    "a known path with two slashes": (Ask("GET", "//health"), NOT_FOUND),
    "GET on invoke": answers("GET", "POST"),
    "PUT on invoke": answers("PUT", "POST"),
    "OPTIONS on invoke": answers("OPTIONS", "POST"),
    "an invented method on invoke": answers("BREW", "POST"),
    "POST on health": answers("POST", "GET", "HEAD"),
    "DELETE on health": answers("DELETE", "GET", "HEAD"),
    # 413
    "too large by content-length": (
        Ask("POST", "/invoke", [JSON, (b"content-length", b"%d" % (LIMIT + 1))], b"{}"),
        TOO_LARGE,
    ),
    "absurd by content-length": (Ask("POST", "/invoke", [JSON, (b"content-length", b"9" * 40)], b"{}"), TOO_LARGE),
    "too large in chunks": (Ask("POST", "/invoke", [JSON], chunks=[b" " * LIMIT, b" "]), TOO_LARGE),
    "too large in one piece": (Ask("POST", "/invoke", [JSON], chunks=[b" " * (LIMIT + 1)]), TOO_LARGE),
    "a lying content-length": (
        Ask("POST", "/invoke", [JSON, (b"content-length", b"2")], b" " * (LIMIT + 1)),
        TOO_LARGE,
    ),
    "a content-length that is no number": (
        Ask("POST", "/invoke", [JSON, (b"content-length", b"+2")], b"{}"),
        bad("The Content-Length is not a number."),
    ),
    # 415
    "no content type": (Ask("POST", "/invoke", body=b"{}"), NOT_TYPED),
    "an empty content type": (typed(b""), NOT_TYPED),
    "text": (typed(b"text/plain"), NOT_TYPED),
    "a form": (typed(b"application/x-www-form-urlencoded", b"name=a"), NOT_TYPED),
    "a type that begins like JSON": (typed(b"application/jsonp"), NOT_TYPED),
    "a suffix without a type": (typed(b"+json"), NOT_TYPED),
    "two types": (typed(b"application/json, text/plain"), NOT_TYPED),
    "another charset": (typed(b"application/json; charset=latin-1"), OTHER_CHARSET),
    "UTF-16 by name": (typed(b'application/json;charset="utf-16"'), OTHER_CHARSET),
    # 422: the body
    "an array": (invoke(b"[]"), NO_OBJECT),
    "null": (invoke(b"null"), NO_OBJECT),
    "a string": (invoke(b'"name"'), NO_OBJECT),
    "an unknown member": (
        invoke({**GOOD, "params": 1}),
        refused((["params"], "Extra inputs are not permitted", "extra_forbidden")),
    ),
    "a timeout of nothing": (invoke({**GOOD, "timeout": 0}), NOT_POSITIVE),
    "a negative timeout": (invoke({**GOOD, "timeout": -0.5}), NOT_POSITIVE),
    "a timeout that is no number": (invoke({**GOOD, "timeout": "1"}), NO_NUMBER),
    "a timeout that is a truth": (invoke({**GOOD, "timeout": True}), NO_NUMBER),
    "a timeout beyond all numbers": (
        invoke(b'{"timeout":1e400}'),
        refused((["timeout"], "Input should be a finite number", "finite_number")),
    ),
    "a run name that is no string": (
        invoke({**GOOD, "run_name": 1}),
        refused((["run_name"], "Input should be a valid string", "string_type")),
    ),
    "an empty run name": (
        invoke({**GOOD, "run_name": ""}),
        refused((["run_name"], "String should have at least 1 character", "string_too_short")),
    ),
    "a long run name": (
        invoke({**GOOD, "run_name": "x" * 256}),
        refused((["run_name"], "String should have at most 255 characters", "string_too_long")),
    ),
    "a capture override of no known mode": (
        invoke({**GOOD, "capture_override": {"mode": "fuller"}}),
        refused((["capture_override"], f"expected an object whose mode is one of {', '.join(CaptureMode)}", "capture")),
    ),
    # 422: the parameters
    "no body, but a required parameter": (invoke(None), MISSING),
    "an empty object, but a required parameter": (invoke({}), MISSING),
    "no parameters, but a required one": (invoke({"parameters": None}), MISSING),
    "empty parameters, but a required one": (invoke({"parameters": {}}), MISSING),
    "parameters in a list": (
        invoke({"parameters": ["a"]}),
        refused((["parameters"], "Input should be an object", "dict_type")),
    ),
    "an unknown parameter": (
        with_parameters(tmies=1),
        refused((["parameters", "tmies"], "Extra inputs are not permitted", "extra_forbidden")),
    ),
    "a string for a number": (
        with_parameters(times="2"),
        refused((["parameters", "times"], "Input should be a valid integer", "int_type")),
    ),
    "a truth for a number": (
        with_parameters(times=True),
        refused((["parameters", "times"], "Input should be a valid integer", "int_type")),
    ),
    "null for what cannot be null": (
        with_parameters(ratio=None),
        refused((["parameters", "ratio"], "Input should be a valid number", "float_type")),
    ),
    "a number beyond all numbers": (
        invoke(b'{"parameters":{"name":"a","ratio":-1e999}}'),
        refused((["parameters", "ratio"], "Input should be a finite number", "finite_number")),
    ),
    "all wrong things at once": (
        invoke({"parameters": {"times": [], "more": 1}, "timeout": 0}),
        refused(
            (["parameters", "name"], "Field required", "missing"),
            (["parameters", "times"], "Input should be a valid integer", "int_type"),
            (["parameters", "more"], "Extra inputs are not permitted", "extra_forbidden"),
            (["timeout"], "Input should be greater than 0", "greater_than"),
        ),
    ),
}


@pytest.fixture(scope="module")
def refusals() -> dict[str, Reply]:
    """What one deployment answers to every row of the table, one after the other."""
    asked = [asked for asked, _ in REFUSALS.values()]
    return dict(zip(REFUSALS, ask(greet, SETTINGS, *asked), strict=True))


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(refusals: dict[str, Reply], case: str) -> None:
    """Each of these gets its status and its problem document, to the letter."""
    assert refusals[case].problem == REFUSALS[case][1]


@pytest.mark.parametrize("case", [case for case, (_, document) in REFUSALS.items() if document["status"] == 405])
def test_a_405_names_the_methods(refusals: dict[str, Reply], case: str) -> None:
    """The Allow header lists what the detail says."""
    allow = refusals[case].header(b"allow")
    assert allow is not None
    assert refusals[case].problem["detail"] == f"This path answers {allow.decode()}."


@pytest.mark.parametrize("case", [case for case, (_, document) in REFUSALS.items() if document["status"] == 413])
def test_a_413_closes_the_connection(refusals: dict[str, Reply], case: str) -> None:
    """The rest of a body that is too large is not waited for."""
    assert refusals[case].header(b"connection") == b"close"


ACCEPTED: dict[str, Ask] = {
    "a body": invoke(GOOD),
    "mode sync": invoke(GOOD, path="/invoke?mode=sync"),
    "another query": invoke(GOOD, path="/invoke?page=1"),
    "every member": invoke({**GOOD, "run_name": "x" * 255, "capture_override": None, "timeout": 5}),
    "members that are null": invoke({**GOOD, "run_name": None, "capture_override": None, "timeout": None}),
    "white space around": invoke(b' \n{"parameters":{"name":"a"}}\t '),
    "a content type with a charset": typed(b"application/json; charset=UTF-8"),
    "a content type in capitals": typed(b"Application/JSON"),
    "a suffix": typed(b"application/vnd.example.v1+json"),
    "a body of exactly the limit": invoke(json.dumps(GOOD).encode().ljust(LIMIT)),
    "chunks": Ask("POST", "/invoke", [JSON], chunks=[b'{"parameters":', b"", b'{"name":"a"}', b"}"]),
}


def test_what_is_accepted() -> None:
    """Each of these runs the pipeline."""
    for case, answer in zip(ACCEPTED, ask(greet, SETTINGS, *ACCEPTED.values()), strict=True):
        assert (case, answer.status, answer.json()["outputs"]) == (case, 200, {"output": "aa"})


@pytest.mark.parametrize("asked", [invoke(None), invoke({}), invoke({"parameters": None}), invoke({"parameters": {}})])
def test_parameters_may_be_left_out(asked: Ask) -> None:
    """When every parameter has a default, no body, no parameters and null are all an empty object."""
    answer = ask_one(tick, asked)
    assert answer.status == 200
    assert answer.json()["metadata"]["parameters_used"] == {"count": 1}


SECRET = "an-input-that-must-not-come-back"


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {"name": {"text": SECRET}}},
        {"parameters": {"name": [SECRET], "times": SECRET, "ratio": SECRET}},
        {"parameters": SECRET},
        {"parameters": {"name": "a"}, "run_name": [SECRET], "timeout": SECRET, "capture_override": SECRET},
        SECRET,
        f'{{"parameters": {SECRET}'.encode(),
    ],
)
def test_no_refusal_echoes_the_input(body: object) -> None:
    """Neither 400 nor 422 repeats a value that was sent."""
    answer = ask_one(greet, invoke(body))
    assert answer.status in {400, 422}
    assert SECRET.encode() not in answer.body


def test_the_place_of_an_error_is_bounded() -> None:
    """The name of an unknown parameter is the client's own; a long one is cut."""
    answer = ask_one(greet, with_parameters(**{"x" * 5000: 1}))
    (error,) = answer.problem["errors"]
    assert len(error["loc"][1]) == 100


def test_many_errors_are_counted_and_the_first_are_listed() -> None:
    """A refusal lists a hundred errors at most."""
    answer = ask_one(greet, with_parameters(**{f"x{index}": 1 for index in range(150)}))
    assert len(answer.problem["errors"]) == 100
    assert answer.problem["detail"] == "150 values were refused. The first 100 are listed."


# The envelope


def test_the_envelope() -> None:
    """A finished run answers with these members, in this order, as application/json."""
    answer = ask_one(greet, invoke({"parameters": {"name": "a", "times": 3}, "run_name": "mine"}))
    assert answer.status == 200
    assert answer.header(b"content-type") == b"application/json"
    assert answer.header(b"vary") == b"Accept, Prefer"
    assert answer.header(b"content-length") == b"%d" % len(answer.body)
    envelope = answer.json()
    assert list(envelope) == ["success", "outputs", "execution_time", "metadata", "error"]
    assert list(envelope["metadata"]) == [
        "deployment_id",
        "deployment_name",
        "snapshot_id",
        "snapshot_name",
        "pipeline_name",
        "run_id",
        "run_name",
        "parameters_used",
    ]
    assert envelope["success"] is True
    assert envelope["error"] is None
    assert envelope["outputs"] == {"output": "aaa"}
    assert envelope["metadata"]["run_name"] == "mine"
    assert envelope["metadata"]["snapshot_name"] is None
    assert envelope["metadata"]["parameters_used"] == {"name": "a", "times": 3, "ratio": 0.5}


def failing(kind: str = "error") -> int:
    raise ValueError(f"no {kind}")


async def failing_async(kind: str = "error") -> int:
    raise ValueError(f"no {kind}")


@pytest.mark.parametrize("target", [failing, failing_async, pipeline(blocking=False)(failing)])
def test_the_envelope_of_a_failed_run(target: Callable[..., object]) -> None:
    """A run that raised answers 500 with the same members, its parameters among them."""
    answer = ask_one(target, invoke({"run_name": "mine"}))
    assert answer.status == 500
    assert answer.header(b"content-type") == b"application/json"
    assert answer.header(b"vary") == b"Accept, Prefer"
    envelope = answer.json()
    assert list(envelope) == ["success", "outputs", "execution_time", "metadata", "error"]
    assert (envelope["success"], envelope["outputs"], envelope["error"]) == (False, None, "no error")
    assert envelope["metadata"]["parameters_used"] == {"kind": "error"}
    assert envelope["metadata"]["run_name"] == "mine"
    assert envelope["execution_time"] >= 0


def test_error_messages_can_be_kept_inside() -> None:
    """With `error_messages: false` the client learns that the run failed, and nothing else."""
    answer = ask_one(failing, invoke(), {"error_messages": False})
    assert answer.json()["error"] == "the pipeline failed"


NUMBERS: list[tuple[object, object]] = [
    (math.nan, None),
    (math.inf, None),
    ([1.5, -math.inf], [1.5, None]),
    ({"a": {"b": math.nan}}, {"a": {"b": None}}),
]


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_what_is_no_number_becomes_null(value: object, expected: object) -> None:
    """NaN and the infinities have no JSON form (RFC 8259)."""

    def numbers() -> Any:  # as undecided as the table
        return value

    assert ask_one(numbers, invoke()).json()["outputs"] == {"output": expected}
