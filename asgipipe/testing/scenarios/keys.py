"""The key: deny by default, on every route, whoever registered it."""

import base64

from asgipipe.testing.client import Ask, Client
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.jobs import NOBODY
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, KEY
from asgipipe.testing.trial import Trial

CLOSED = (
    "/invoke",
    "/info",
    "/metrics",
    "/status",
    "/jobs",
    f"/jobs/{NOBODY}",
    f"/jobs/{NOBODY}/cancel",
    "/stream",
    f"/stream/{NOBODY}",
    "/runs",
    f"/runs/{NOBODY}",
    "/named/x",
    "/below/x",
    "/grown",
    "/class",
    "/function",
    "/fails",
    "/ticks",
    "/request",
    "/native",
    "/native/",
    "/native/x",
    "/echo",
    "/nowhere",
    "/own",
    "//health",
    "/health/",
    "/%2Fhealth",
    "/health%2F",
    "/native-open/..%2Fnative",
)
OPEN = ("/health", "/ready", "/docs", "/redoc", "/openapi.json", "/", "/open", "/native-open")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
WRONG = {
    "wrong": "Bearer canary-012345678",
    "longer": f"Bearer {KEY}0",
    "not ASCII": "Bearer \xfc\xff",
    "basic": f"Basic {base64.b64encode(KEY.encode()).decode()}",
    "bare": KEY,
    "empty": "",
}


@scenario(sockets=True)
async def nothing_is_open_but_the_open_list(trial: Trial) -> None:
    """Without the key every path is a 401 with every method, native routes and unknown paths included."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        extended = ("/extended",) if name == "through" else ()
        for target in (*CLOSED, *extended):
            for method in METHODS:
                await _assert_closed(client, Ask(method, target))
        for target in OPEN:
            assert (await client.get(target)).status == 200, (name, target)
            for method in ("POST", "PUT", "DELETE", "OPTIONS"):
                status = (await client.send(Ask(method, target))).status
                assert status in {401, 405}, (name, method, target, status)


async def _assert_closed(client: Client, ask: Ask) -> None:
    answer = await client.send(ask)
    assert answer.status == 401, (ask, answer)
    assert answer.header("www-authenticate") == "Bearer", ask
    if ask.method != "HEAD":
        assert answer.problem["type"] == "urn:asgipipe:unauthorized", ask


@scenario(sockets=True)
async def a_wrong_key_is_no_key(trial: Trial) -> None:
    """Wrong, longer, not ASCII, or in the wrong scheme or place: each is a 401."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        for target in ("/info", "/named/x", "/native", "/nowhere"):
            for value in WRONG.values():
                await _assert_closed(client, Ask("GET", target, {"authorization": value}))
            await _assert_closed(client, Ask("GET", f"{target}?key={KEY}", {"x-api-key": KEY, "cookie": f"key={KEY}"}))


@scenario(sockets=True)
async def the_key_opens_what_is_there(trial: Trial) -> None:
    """With the key every route answers, what is not there is a 404."""
    for name in ("keyed", "through"):
        client = await trial.client(name, BEARER)
        reading = ("/info", "/metrics", "/status", "/jobs", "/runs")
        for target in (*reading, "/named/x", "/native", "/open", "/native-open"):
            assert (await client.get(target)).status == 200, (name, target)
        assert (await client.get("/nowhere")).status == 404
        lower = await client.get("/info", authorization=f"bearer   {KEY}")
        assert lower.status == 200
    through = await trial.client("through", BEARER)
    assert (await through.get("/extended")).body == b"extended"


@scenario(sockets=True)
async def native_routes_know_their_methods(trial: Trial) -> None:
    """Another method on a native route is a 405 problem with Allow, as on the reference, with the key."""
    for name in ("keyed", "through"):
        client = await trial.client(name, BEARER)
        answer = await client.send(Ask("DELETE", "/native"))
        assert answer.status == 405, (name, answer)
        assert "GET" in (answer.header("allow") or ""), name
        assert answer.problem["type"] == "urn:asgipipe:method-not-allowed"
        head = await client.send(Ask("HEAD", "/native"))
        assert head.status in {200, 405}, (name, head)


@scenario()
async def a_401_tells_nothing_of_what_is_there(trial: Trial) -> None:
    """Paths that are there and paths that are not get the same answer without the key."""
    client, reference = await trial.client("keyed"), await trial.reference("keyed")
    await assert_same(client, reference, *(Ask(method, "/info") for method in METHODS))
    bodies = {(await client.get(target)).body for target in CLOSED}
    assert len(bodies) == 1, bodies
