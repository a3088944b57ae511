"""Running the pipeline: every status of the contract, to the letter."""

import json
from typing import Any

from asgipipe.testing.client import JSON, Answer, Ask, invoke
from asgipipe.testing.headers import assert_once
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import LIMIT, MIB
from asgipipe.testing.trial import Trial

DEEP = b'{"parameters":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NOT_JSON = {
    "malformed": b'{"parameters": ',
    "only white space": b"  ",
    "not UTF-8": b'{"run_name":"\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": json.dumps({"parameters": {"name": "a"}}).encode("utf-16"),
    "NaN": b'{"parameters":{"name":"a","ratio":NaN}}',
    "Infinity": b'{"parameters":{"name":"a","ratio":-Infinity}}',
    "a lone surrogate": b'{"run_name":"\\ud800"}',
    "nested too deeply": DEEP,
}
REFUSED: dict[str, dict[str, Any]] = {
    "missing": {"parameters": {}},
    "unknown parameter": {"parameters": {"name": "a", "tmies": 1}},
    "unknown member": {"parameters": {"name": "a"}, "params": 1},
    "text for a number": {"parameters": {"name": "a", "times": "1"}},
    "a truth for a number": {"parameters": {"name": "a", "times": True}},
    "no time": {"parameters": {"name": "a"}, "timeout": 0},
}


@scenario(sockets=True)
async def a_run_answers_with_the_envelope(trial: Trial) -> None:
    """A finished run is a 200 with outputs, metadata and every parameter used."""
    answer = await (await trial.client()).send(invoke({"name": "ab", "times": 2}, run_name="mine"))
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("vary") == "Accept, Prefer"
    envelope = answer.json()
    assert list(envelope) == ["success", "outputs", "execution_time", "metadata", "error"]
    assert (envelope["success"], envelope["outputs"], envelope["error"]) == (True, {"output": "abab"}, None)
    used = {"name": "ab", "times": 2, "ratio": None, "pause": 0.0, "fail": False}
    assert envelope["metadata"]["parameters_used"] == used
    assert envelope["metadata"]["run_name"] == "mine"


@scenario()
async def a_failed_run_answers_500_with_the_envelope(trial: Trial) -> None:
    """A pipeline that raises is a 500 envelope with its message, never a 200."""
    answer = await (await trial.client()).send(invoke({"name": "a", "fail": True}))
    assert answer.status == 500
    assert answer.header("content-type") == "application/json"
    envelope = answer.json()
    assert (envelope["success"], envelope["outputs"]) == (False, None)
    assert "told to fail" in envelope["error"]
    assert b"Traceback" not in answer.body


@scenario()
async def a_run_past_its_deadline_answers_504_with_the_envelope(trial: Trial) -> None:
    """`timeout` in the body ends a run with a 504 envelope."""
    answer = await (await trial.client()).send(invoke({"name": "a", "pause": 60.0}, timeout=0.05))
    assert answer.status == 504
    assert answer.header("content-type") == "application/json"
    assert answer.json()["success"] is False


@scenario()
async def a_body_that_is_not_json_is_400(trial: Trial) -> None:
    """Malformed, UTF-16, NaN, and nested without end: each is a 400 problem, as on the reference."""
    client, reference = await trial.client(), await trial.reference()
    for case, body in NOT_JSON.items():
        ask = Ask("POST", "/invoke", JSON, body)
        answer = await client.send(ask)
        assert answer.status == 400, (case, answer)
        assert answer.problem == (await reference.send(ask)).problem, case


@scenario()
async def parameters_that_do_not_fit_are_422(trial: Trial) -> None:
    """Missing, unknown and wrongly typed values are a 422 problem that lists them, as on the reference."""
    client, reference = await trial.client(), await trial.reference()
    for case, body in REFUSED.items():
        ask = Ask("POST", "/invoke", JSON, json.dumps(body).encode())
        answer = await client.send(ask)
        assert answer.status == 422, (case, answer)
        assert answer.problem["errors"], case
        assert answer.body == (await reference.send(ask)).body, case


@scenario()
async def a_body_of_another_type_is_415(trial: Trial) -> None:
    """Only JSON is taken: forms, text and bodies without a type are refused."""
    client = await trial.client()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = await client.send(Ask("POST", "/invoke", {"content-type": kind} if kind else {}, b"{}"))
        assert (answer.status, answer.problem["type"]) == (415, "urn:asgipipe:unsupported-media-type"), kind


@scenario(sockets=True)
async def other_methods_are_405_with_allow(trial: Trial) -> None:
    """A method that a path does not answer is a 405 problem whose Allow lists all that it does."""
    client = await trial.client()
    allowed = {"/invoke": "POST", "/health": "GET, HEAD", "/info": "GET, HEAD", "/docs": "GET, HEAD"}
    for target, allow in allowed.items():
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            answer = await client.send(Ask(method, target))
            assert answer.status == 405, (method, target, answer)
            assert answer.header("allow") == allow, (method, target)
            assert answer.problem["detail"] == f"This path answers {allow}."
    assert (await client.get("/invoke")).header("allow") == "POST"


@scenario(sockets=True)
async def a_body_beyond_the_limit_is_413(trial: Trial) -> None:
    """With a length or in chunks, at the run and at a custom endpoint: the limit is that of the settings."""
    client = await trial.client("limited")
    body = json.dumps({"parameters": {"name": "a"}}).encode().ljust(LIMIT)
    assert (await client.send(Ask("POST", "/invoke", JSON, body))).status == 200
    for target in ("/invoke", "/grown"):
        for ask in (
            Ask("POST", target, JSON, body + b" "),
            Ask("POST", target, JSON, chunks=[body, b" "]),
        ):
            answer = await client.send(ask)
            assert answer.status == 413, (target, answer)
            assert answer.problem["detail"] == f"The body may have {LIMIT} bytes at most."
            assert answer.header("connection") == "close"
            assert_once(answer)


@scenario(sockets=True)
async def a_large_body_is_taken(trial: Trial) -> None:
    """3 MiB, which is more than some frameworks take by themselves, with a length and in chunks."""
    client = await trial.client("full")
    text = "x" * (3 * MIB)
    body = json.dumps({"parameters": {"name": text, "times": 1}}).encode()
    chunks = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    for ask in (Ask("POST", "/invoke", JSON, body), Ask("POST", "/invoke", JSON, chunks=chunks)):
        answer = await client.send(ask)
        assert answer.status == 200, answer
        assert answer.json()["outputs"] == {"output": text}


@scenario(sockets=True)
async def more_runs_than_the_limit_are_429(trial: Trial) -> None:
    """While a stream has the only place, a run is refused with Retry-After, and probes still answer."""
    client = await trial.client("limited")
    async with client.stream(Ask("GET", "/ticks")) as stream:
        assert stream.status == 200
        refused = await client.send(invoke({"name": "a"}))
        assert refused.status == 429, refused
        assert int(refused.header("retry-after") or 0) >= 1
        assert refused.problem["type"] == "urn:asgipipe:too-many-requests"
        assert_once(refused)
        assert [(await client.get(path)).status for path in ("/health", "/ready", "/info")] == [200] * 3
    answer: Answer = refused
    for _ in range(2000):  # the place is free as soon as the server has seen that the client went
        answer = await client.send(invoke({"name": "a"}))
        if answer.status == 200:
            break
    assert answer.status == 200, answer
