"""Requests that are sent again: the header Idempotency-Key."""

import asyncio
from uuid import uuid4

from asgipipe.testing.client import Answer, Ask, patience
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.headers import assert_once
from asgipipe.testing.jobs import (
    alike,
    canceled,
    counted,
    ended,
    event_text,
    first_event,
    known,
    submission,
    submitted,
    until,
    until_counted,
)
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, LIFETIME, OTHER_BEARER
from asgipipe.testing.trial import Trial

REPLAYED = "idempotent-replayed"

STRANGE = ("", "a b", "é", "x" * 256, "a\tb")


def keyed(key: str, parameters: dict[str, object], query: str = "", **members: object) -> Ask:
    return submission(parameters, query, {"idempotency-key": key}, **members)


def assert_replayed(answer: Answer, first: Answer) -> None:
    """The answer is the first one once more, to the byte, and says so."""
    assert first.header(REPLAYED) is None, first
    assert answer.header(REPLAYED) == "true", answer
    assert (answer.status, answer.body) == (first.status, first.body)
    assert sorted(answer.names) == sorted([*first.names, REPLAYED])
    assert_once(answer)


@scenario(sockets=True, stores=True)
async def a_repeated_request_gets_the_first_answer(trial: Trial) -> None:
    """Whatever came of the run, 200, 500 and 504 alike: it is not run again, and the replay is no execution."""
    for name in ("keyed", "through"):
        client, reference = await trial.client(name, BEARER), await trial.reference(name, BEARER)
        for status, ask in (
            (200, keyed(str(uuid4()), {"name": "a"})),
            (500, keyed(str(uuid4()), {"name": "a", "fail": True})),
            (504, keyed(str(uuid4()), {"name": "a", "pause": 60.0}, timeout=0.05)),
        ):
            before = await counted(client)
            first, again = await client.send(ask), await client.send(ask)
            assert first.status == status, first
            assert_replayed(again, first)
            after = await counted(client)
            assert after["total_executions"] == before["total_executions"] + 1, ask
            assert alike(again) == alike(await reference.send(ask))


@scenario(sockets=True, stores=True)
async def a_repeated_job_is_the_first_one(trial: Trial) -> None:
    """A second `mode=async` answers with the job of the first; a second `mode=stream` follows it, from the start."""
    for name in ("keyed", "through"):
        client = await trial.client(name, BEARER)
        accepting = keyed(str(uuid4()), {"name": "a"}, "mode=async")
        first, again = await client.send(accepting), await client.send(accepting)
        assert first.status == 202, first
        assert_replayed(again, first)
        streaming = keyed(str(uuid4()), {"name": "a"}, "mode=stream")
        first, again = await client.send(streaming), await client.send(streaming)
        assert event_text(first.body).types[-1] == "pipeline_completed"
        assert_replayed(again, first)


@scenario(sockets=True, stores=True)
async def a_repeated_stream_follows_what_still_runs(trial: Trial) -> None:
    """Whoever asks again while the first streamed run goes on follows it too, and by leaving cancels nothing."""
    client = await trial.client("keyed", BEARER)
    ask = keyed(str(uuid4()), {"name": "a", "pause": 60.0}, "mode=stream")
    async with client.stream(ask) as first:
        job_id = (await first_event(first))["job_id"]
        async with client.stream(ask) as second:
            assert (REPLAYED, "true") in [(name.lower(), value) for name, value in second.headers]
            assert (await first_event(second))["job_id"] == job_id
        await asyncio.sleep(0.05)  # for what leaving may do
        assert (await known(client, job_id))["status"] == "running"
    assert (await until(client, job_id, "canceled"))["cancel_reason"] is not None


@scenario(sockets=True, stores=True)
async def a_key_stands_for_one_request(trial: Trial) -> None:
    """The same JSON in other words is the same request; another body or mode is a 422, as on the reference."""
    client, reference = await trial.client("keyed", BEARER), await trial.reference("keyed", BEARER)
    key = str(uuid4())
    headers = {"content-type": "application/json", "idempotency-key": key}
    first = await client.send(Ask("POST", "/invoke", headers, b'{"parameters":{"name":"\xc3\xa4","ratio":1.0}}'))
    await reference.send(Ask("POST", "/invoke", headers, b'{"parameters":{"name":"\xc3\xa4","ratio":1.0}}'))
    for same in (
        b' {"parameters" : {"ratio": 1e0, "name": "\\u00e4"}} ',
        b'{"parameters":{"ratio":1,"name":"\xc3\xa4"}}',
    ):
        assert_replayed(await client.send(Ask("POST", "/invoke", headers, same)), first)
    others = [
        keyed(key, {"name": "ä"}),
        keyed(key, {"name": "ä", "ratio": 2.0}),
        keyed(key, {"name": "ä"}, run_name="b"),
    ]
    modes = [keyed(key, {"name": "ä", "ratio": 1.0}, f"mode={mode}") for mode in ("async", "stream")]
    for ask in (*others, *modes):
        refused = await client.send(ask)
        assert (refused.status, refused.problem["errors"][0]["loc"]) == (422, ["header", "idempotency-key"]), refused
    await assert_same(client, reference, *others, *modes)


@scenario(sockets=True, stores=True)
async def a_key_in_use_is_409(trial: Trial) -> None:
    """While its run goes on a repeated request is refused with the run's id; a run that was left gives its key back."""
    client = await trial.client("telling", BEARER)
    key = str(uuid4())
    ask = keyed(key, {"name": "a", "pause": 60.0})
    before = await counted(client)
    running = asyncio.create_task(client.send(ask))
    await until_counted(client, lambda now: now["in_flight"] > before["in_flight"])
    refused = await client.send(ask)
    assert (refused.status, refused.problem["type"]) == (409, "urn:asgipipe:conflict"), refused
    assert int(refused.header("retry-after") or 0) >= 1
    assert refused.problem["run_id"], refused
    running.cancel()
    async with patience():
        while (answer := await client.send(keyed(key, {"name": "a"}))).status == 422:  # noqa: ASYNC110  # it is being given back
            await asyncio.sleep(0.01)
    assert (answer.status, answer.header(REPLAYED)) == (200, None), answer


@scenario(sockets=True, stores=True)
async def a_refusal_leaves_its_key_free(trial: Trial) -> None:
    """Neither a 4xx nor a 429 is replayed: the next request with the key is run."""
    client = await trial.client("limited")
    for query, status in (("", 200), ("mode=async", 202)):
        key = str(uuid4())
        wrong = await client.send(keyed(key, {"name": 1}, query))
        assert (wrong.status, wrong.header(REPLAYED)) == (422, None), wrong
        right = await client.send(keyed(key, {"name": "a"}, query))
        assert (right.status, right.header(REPLAYED)) == (status, None), right
        if status == 202:
            await ended(client, right.json()["job_id"])
    running = await submitted(client, {"name": "a", "pause": 60.0})
    await until(client, running, "running")
    waiting = await submitted(client, {"name": "a"})
    ask = keyed(str(uuid4()), {"name": "a"}, "mode=async")
    assert (await client.send(ask)).status == 429
    await canceled(client, waiting, running)
    accepted = await client.send(ask)
    assert (accepted.status, accepted.header(REPLAYED)) == (202, None), accepted
    await ended(client, accepted.json()["job_id"])


@scenario(sockets=True, stores=True)
async def keys_are_of_one_caller_and_deployment(trial: Trial) -> None:
    """Another auth key, or another deployment over the same store, has never seen the key."""
    mine, others = await trial.client("telling", BEARER), await trial.client("telling", OTHER_BEARER)
    elsewhere = await trial.client("through", BEARER)
    ask = keyed(str(uuid4()), {"name": "a"})
    answers = [await client.send(ask) for client in (mine, others, elsewhere)]
    assert [(answer.status, answer.header(REPLAYED)) for answer in answers] == [(200, None)] * 3, answers
    assert len({answer.json()["metadata"]["run_id"] for answer in answers}) == 3
    for client, first in ((mine, answers[0]), (others, answers[1])):
        assert_replayed(await client.send(ask), first)


@scenario(sockets=True, stores=True)
async def a_key_is_forgotten_after_its_lifetime(trial: Trial) -> None:
    """`idempotency_ttl` after its request the key stands for a new one, whatever its body."""
    client = await trial.client("limited")
    key = str(uuid4())
    assert (await client.send(keyed(key, {"name": "a"}))).status == 200
    await asyncio.sleep(LIFETIME * 1.1)
    other = await client.send(keyed(key, {"name": "b"}))
    assert (other.status, other.header(REPLAYED)) == (200, None), other


@scenario(sockets=True)
async def what_is_no_key_is_400(trial: Trial) -> None:
    """Empty, too long, or with anything but visible ASCII: the same problem as on the reference."""
    client, reference = await trial.client("keyed", BEARER), await trial.reference("keyed", BEARER)
    asks = [keyed(strange, {"name": "a"}) for strange in STRANGE]
    for ask in asks:
        assert (await client.send(ask)).status == 400, ask
    await assert_same(client, reference, *asks)
    longest = keyed(f"{uuid4()}".ljust(255, "~"), {"name": "a"})
    first = await client.send(longest)
    assert_replayed(await client.send(longest), first)
