"""What every answer carries, and that errors are the same on every framework."""

from asgipipe.testing.client import JSON, Ask, invoke
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.headers import assert_once
from asgipipe.testing.jobs import NOBODY
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, ORIGIN
from asgipipe.testing.trial import Trial

BODY = b'{"parameters":{"name":"a"}}'
WITH_KEY = {**BEARER, **JSON}

EXPOSED = "x-request-id, location, retry-after, idempotent-replayed"
"""The headers that a page of another origin may read."""

ERRORS = {
    "401": Ask("GET", "/info"),
    "401 of a native route": Ask("GET", "/native"),
    "404": Ask("GET", "/nowhere", BEARER),
    "404 below a native route": Ask("GET", "/native/x", BEARER),
    "404 of a POST": Ask("POST", "/nowhere", WITH_KEY, BODY),
    "405": Ask("PUT", "/invoke", BEARER),
    "405 of a custom endpoint": Ask("DELETE", "/named/x", BEARER),
    "405 of a handler for the framework": Ask("GET", "/request", BEARER),
    "400": Ask("POST", "/invoke", WITH_KEY, b"{"),
    "400 of a custom endpoint": Ask("POST", "/grown", WITH_KEY, b"{"),
    "415": Ask("POST", "/invoke", BEARER, b"{}"),
    "415 of a custom endpoint": Ask("POST", "/grown", {**BEARER, "content-type": "text/plain"}, b"{}"),
    "422": Ask("POST", "/invoke", WITH_KEY, b"{}"),
    "422 of a custom endpoint": Ask("POST", "/grown", WITH_KEY, b'{"name": "a"}'),
    "422 of NaN": Ask("POST", "/grown", WITH_KEY, b'{"name": "a", "population": NaN}'),
    "422 of a query": Ask("GET", "/named/x?times=much", BEARER),
    "500 of a custom endpoint": Ask("GET", "/fails", BEARER),
    "400 of a mode": Ask("POST", "/invoke?mode=later", WITH_KEY, BODY),
    "400 of a key for idempotency": Ask("POST", "/invoke", {**WITH_KEY, "idempotency-key": "a b"}, BODY),
    "400 of a list": Ask("GET", "/jobs?limit=0", BEARER),
    "404 of a job": Ask("GET", f"/jobs/{NOBODY}", BEARER),
    "404 of a stream": Ask("GET", f"/stream/{NOBODY}", BEARER),
    "404 of a run": Ask("GET", f"/runs/{NOBODY}", BEARER),
    "405 of a cancel": Ask("GET", f"/jobs/{NOBODY}/cancel", BEARER),
}
"""Requests whose answers are errors, to the specimens with a key."""

SUCCESSES = {
    "200": Ask("GET", "/ready"),
    "a document": Ask("GET", "/docs"),
    "a run": Ask("POST", "/invoke", WITH_KEY, BODY),
    "a failed run": Ask("POST", "/invoke", WITH_KEY, b'{"parameters":{"name":"a","fail":true}}'),
    "an accepted job": Ask("POST", "/invoke?mode=async", WITH_KEY, BODY),
    "a streamed run": Ask("POST", "/invoke?mode=stream", WITH_KEY, BODY),
    "a list of jobs": Ask("GET", "/jobs", BEARER),
    "a list of runs": Ask("GET", "/runs", BEARER),
    "a custom endpoint": Ask("GET", "/named/x", BEARER),
    "a handler for the framework": Ask("POST", "/request", BEARER, b"quiet"),
    "a native route": Ask("GET", "/native", BEARER),
    "an open native route": Ask("GET", "/native-open"),
    "HEAD": Ask("HEAD", "/info", BEARER),
    "an answer that is not complete": Ask("GET", "/breaks-off", BEARER),
}


@scenario(sockets=True)
async def errors_are_those_of_the_reference(trial: Trial) -> None:
    """400 to 500 have the same body and headers to the byte, answered from the dictionary and by the framework."""
    for name in ("keyed", "through"):
        client, reference = await trial.client(name), await trial.reference(name)
        await assert_same(client, reference, *ERRORS.values())


@scenario(sockets=True)
async def every_answer_has_every_header_once(trial: Trial) -> None:
    """Whatever the status and whoever answered: secure headers and the request id, none of them twice."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        for case, ask in {**ERRORS, **SUCCESSES}.items():
            answer = await client.send(ask)
            try:
                assert_once(answer)
            except AssertionError as error:
                error.add_note(f"{case}, asked of {name}")
                raise


@scenario()
async def errors_say_nothing_internal(trial: Trial) -> None:
    """Neither a message of an exception's, nor a file, nor a class of the framework's is in an answer."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        for case, ask in ERRORS.items():
            answer = await client.send(ask)
            assert answer.problem["type"].startswith("urn:asgipipe:"), (case, answer)
            for inside in (b"an internal matter", b"Traceback", b".py", b"<html", b"LookupError"):
                assert inside not in answer.body, (case, answer.body)


@scenario(sockets=True)
async def a_sane_request_id_is_kept(trial: Trial) -> None:
    """A client's `x-request-id` comes back; one that could break a log line is replaced."""
    for name in ("full", "through"):
        client = await trial.client(name, BEARER)
        for target in ("/info", "/nowhere", "/named/x", "/native", "/fails"):
            kept = await client.get(target, x_request_id="trace-1.a_B")
            assert kept.header("x-request-id") == "trace-1.a_B", target
            for insane in ("a b", "x" * 129, "é", ""):
                replaced = (await client.get(target, x_request_id=insane)).header("x-request-id")
                assert replaced not in {insane, None, ""}, (target, insane)


@scenario(sockets=True)
async def pages_of_configured_origins_can_read_everything(trial: Trial) -> None:
    """CORS headers are on errors too, and only for configured origins."""
    for name in ("keyed", "through"):
        client, reference = await trial.client(name), await trial.reference(name)
        for case, ask in {**ERRORS, **SUCCESSES}.items():
            from_page = Ask(ask.method, ask.target, {**ask.headers, "origin": ORIGIN}, ask.body)
            answer = await client.send(from_page)
            assert answer.header("access-control-allow-origin") == ORIGIN, (name, case, answer)
            assert answer.header("access-control-expose-headers") == EXPOSED, case
            assert "Origin" in (answer.header("vary") or ""), case
            other = Ask(ask.method, ask.target, {**ask.headers, "origin": "https://evil.example"}, ask.body)
            assert (await client.send(other)).header("access-control-allow-origin") is None, case
        preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
        asked = {**preflight, "access-control-request-headers": "authorization, content-type"}
        asks = [Ask("OPTIONS", target, asked) for target in ("/invoke", "/nowhere", "/native", "/request")]
        for ask in asks:
            assert (await client.send(ask)).status == 204, ask
        foreign = Ask("OPTIONS", "/invoke", {**asked, "origin": "https://evil.example"})
        await assert_same(client, reference, *asks, foreign)


@scenario()
async def repeated_requests_get_the_same_answers(trial: Trial) -> None:
    """Nothing of one request is left for the next one."""
    client = await trial.client("full")
    for _ in range(3):
        assert (await client.send(invoke({"name": "a"}))).json()["outputs"] == {"output": "a"}
        assert (await client.send(Ask("POST", "/invoke", JSON, b"{"))).status == 400
        assert (await client.get("/fails")).status == 500
