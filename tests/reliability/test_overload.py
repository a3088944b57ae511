import asyncio
from contextlib import ExitStack

import pytest

from tests.reliability import raw
from tests.reliability.conftest import Notes, Serve
from tests.reliability.memory import MEBIBYTE, resident
from tests.servers.command import until

PLACES, QUEUE, TOO_MANY = 4, 6, 50


@pytest.mark.parametrize("target", ["gates.py:sync_gate", "gates.py:async_gate"])
def test_exactly_what_is_too_much_is_refused_at_once(serve: Serve, notes: Notes, target: str) -> None:
    """Rows 1 and 3: of N + Q + 50 clients exactly 50 get a 429 at once, probes are answered, N + Q succeed."""
    limits = ("--max-concurrency", PLACES, "--max-queue", QUEUE)
    with serve(target, *limits) as running, ExitStack() as open_connections:
        port = running.port
        clients = [open_connections.enter_context(raw.Connection(port)) for _ in range(PLACES + QUEUE + TOO_MANY)]
        for number, client in enumerate(clients):
            client.send(raw.invoke({"number": number}))
        refused, waiting = raw.first_answered(clients, TOO_MANY)
        for probe in ("/health", "/ready"):
            assert raw.ask(port, raw.request("GET", probe)).status == 200
            assert raw.ask(port, raw.request("HEAD", probe), head=True).status == 200
        for answer in [client.answer() for client in refused]:
            assert answer.status == 429
            assert answer.retry_after >= 1
            assert answer.is_problem()
            assert answer.is_secured()
        notes.until("waiting", PLACES)
        assert notes.words() == ["waiting"] * PLACES
        notes.open_gate()
        outputs = [client.answer().json()["outputs"] for client in waiting]
        assert outputs == [{"output": clients.index(client)} for client in waiting]
        assert raw.ask(port, raw.invoke()).status == 200


def test_overload_leaves_no_memory_behind(serve: Serve) -> None:
    """Row 2: ten times more clients than places cost memory only as long as they are there."""
    places = queue = 8
    limits = ("--max-concurrency", places, "--max-queue", queue)
    body = raw.invoke({"text": "x" * 16_000})
    with serve("load.py:brief", *limits) as running:
        port, pid = running.port, running.process.pid
        asyncio.run(raw.Load(port).run(200, places, lambda _: body))
        before = resident(pid)
        load = raw.Load(port)
        asyncio.run(load.run(15_000, 10 * (places + queue), lambda _: body))
        assert load.statuses.keys() == {200, 429}
        assert load.statuses[429] > load.statuses[200]
        until(lambda: resident(pid) < before + 20 * MEBIBYTE, "the memory to be given back")
        assert raw.ask(port, raw.request("GET", "/metrics")).json()["in_flight"] == 0
        assert raw.ask(port, body).status == 200
