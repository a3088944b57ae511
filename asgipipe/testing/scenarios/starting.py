"""Start and stop: exactly once in a process, whoever asks for it."""

import asyncio

import pytest

from asgipipe.testing.client import JSON, Ask, invoke
from asgipipe.testing.headers import assert_once
from asgipipe.testing.lifespan import StartFailedError
from asgipipe.testing.scenario import EMBEDDED, scenario
from asgipipe.testing.specimens import Counted
from asgipipe.testing.trial import Trial

MANY = 30


@scenario()
async def it_starts_and_stops_with_the_host(trial: Trial) -> None:
    """The server's start starts it, before any request; requests start nothing more; the server's stop stops it."""
    counted = Counted()
    async with trial.served(counted.deployment(trial.subject)) as client:
        assert (counted.starts, counted.stops) == (1, 0)
        for _ in range(3):
            assert (await client.send(invoke({"number": 7}))).json()["outputs"] == {"output": 7}
        assert (counted.starts, counted.stops) == (1, 0)
    assert (counted.starts, counted.stops) == (1, 1)


@scenario()
async def it_starts_on_the_first_request(trial: Trial) -> None:
    """Where no lifespan event ever comes, the first request starts it and waits for that; there is one start."""
    counted = Counted()
    deployment = counted.deployment(trial.subject)
    async with trial.served(deployment, lifespan=False) as client:
        assert counted.starts == 0
        for _ in range(3):
            assert (await client.send(invoke({}))).status == 200
        assert (counted.starts, counted.stops) == (1, 0)
        await deployment.stop()
        assert counted.stops == 1


@scenario()
async def concurrent_first_requests_start_it_once(trial: Trial) -> None:
    """All of them wait for the one start, and all are answered."""
    counted = Counted()
    deployment = counted.deployment(trial.subject)
    async with trial.served(deployment, lifespan=False) as client:
        answers = await asyncio.gather(*(client.send(invoke({})) for _ in range(MANY)))
        assert [answer.status for answer in answers] == [200] * MANY
        assert counted.starts == 1
        await deployment.stop()


@scenario()
async def a_failing_first_start_is_tried_again(trial: Trial) -> None:
    """Who waited for it gets a 503 with Retry-After and nothing internal; the next request tries again."""
    counted = Counted(failing=1)
    deployment = counted.deployment(trial.subject)
    async with trial.served(deployment, lifespan=False) as client:
        refused = await client.send(invoke({}))
        assert refused.status == 503, refused
        assert int(refused.header("retry-after") or 0) >= 1
        assert b"no model" not in refused.body
        assert refused.problem["type"] == "urn:asgipipe:unavailable"
        assert_once(refused)
        assert (await client.send(invoke({}))).status == 200
        assert (counted.starts, counted.stops) == (2, 0)
        await deployment.stop()


@scenario()
async def a_failing_start_keeps_the_server_from_serving(trial: Trial) -> None:
    """With lifespan events a start that fails is told to the server, which then does not serve."""
    counted = Counted(failing=1)
    with pytest.raises(StartFailedError, match="no model"):
        async with trial.served(counted.deployment(trial.subject)):
            raise AssertionError("it serves")
    assert (counted.starts, counted.stops) == (1, 0)


@scenario(forms=EMBEDDED)
async def one_deployment_at_two_prefixes_starts_once(trial: Trial) -> None:
    """Both prefixes answer, with links of their own, and there is one start."""
    counted = Counted()
    deployment = counted.deployment(trial.subject)
    async with trial.hosting({"/a": deployment, "/b/c": deployment}) as client:
        for prefix in ("/a", "/b/c"):
            assert (await client.send(invoke({}, target=f"{prefix}/invoke"))).status == 200, prefix
            assert (await client.get(f"{prefix}/openapi.json")).json()["servers"] == [{"url": prefix}]
        assert (counted.starts, counted.stops) == (1, 0)
    await deployment.stop()


@scenario(forms=EMBEDDED)
async def one_deployment_at_two_prefixes_stops_once(trial: Trial) -> None:
    """Each place that holds it gives it up when the host stops, and the last one stops it."""
    counted = Counted()
    deployment = counted.deployment(trial.subject)
    async with trial.hosting({"/a": deployment, "/b/c": deployment}) as client:
        assert (await client.send(invoke({}, target="/a/invoke"))).status == 200
        assert (counted.starts, counted.stops) == (1, 0)
    try:
        assert (counted.starts, counted.stops) == (1, 1)
    finally:
        await deployment.stop()


@scenario(forms=EMBEDDED)
async def two_deployments_in_one_host_are_apart(trial: Trial) -> None:
    """Each has its own name, key and metrics; neither's key opens the other."""
    first, second = Counted(), Counted()
    deployments = {
        "/first": first.deployment(trial.subject, "first", auth_key="first-key-0123456789"),
        "/second": second.deployment(trial.subject, "second", auth_key="second-key-0123456789"),
    }
    async with trial.hosting(deployments) as client:
        for name, other in (("first", "second"), ("second", "first")):
            own = {"authorization": f"Bearer {name}-key-0123456789"}
            info = await client.get(f"/{name}/info", **own)
            assert info.json()["deployment"]["name"] == name
            assert (await client.get(f"/{other}/info", **own)).status == 401
        key = {"authorization": "Bearer first-key-0123456789"}
        for _ in range(2):
            assert (await client.send(Ask("POST", "/first/invoke", {**key, **JSON}, b"{}"))).status == 200
        assert (await client.get("/first/metrics", **key)).json()["total_executions"] == 2
        theirs = {"authorization": "Bearer second-key-0123456789"}
        assert (await client.get("/second/metrics", **theirs)).json()["total_executions"] == 0
        assert (await client.send(Ask("POST", "/second/invoke", {**theirs, **JSON}, b"{}"))).status == 200
        assert (await client.get("/first/metrics", **key)).json()["total_executions"] == 2
        assert (first.starts, second.starts) == (1, 1)
    for deployment in deployments.values():
        await deployment.stop()  # again, where the host has no lifespan
