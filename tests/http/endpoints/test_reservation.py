import asyncio
import json

import pytest

from asgipipe.errors import UnavailableError
from asgipipe.jobs.jobs import IdempotencyKey, Replay
from tests.http.endpoints.stages import Stage, on_stage
from tests.http.wire import Ask, invoke, until

KEY = (b"idempotency-key", b"k1")


def keyed(parameters: object = None, key: tuple[bytes, bytes] = KEY, *headers: tuple[bytes, bytes]) -> Ask:
    return invoke({"parameters": parameters}, key, *headers)


@pytest.mark.parametrize(("parameters", "status"), [({"number": 4}, 200), ({"text": "fail"}, 500)])
def test_an_answer_again(parameters: dict[str, object], status: int) -> None:
    """What was executed is answered again byte for byte, says so, and is not executed: failures too."""

    async def scene(stage: Stage) -> None:
        first = await stage.ask(keyed(parameters))
        again = await stage.ask(invoke(b' { "parameters" :' + json.dumps(parameters).encode() + b"}", KEY))
        assert (first.status, again.status) == (status, status)
        assert first.body == again.body
        assert first.header(b"idempotent-replayed") is None
        assert again.header(b"idempotent-replayed") == b"true"
        assert again.header(b"content-type") == b"application/json"
        assert stage.deployment.metrics.snapshot().total_executions == 1

    on_stage(scene)


def test_what_is_not_kept() -> None:
    """A refusal takes no key: the mended request may use it."""

    async def scene(stage: Stage) -> None:
        assert (await stage.ask(keyed({"other": 1}))).status == 422
        assert (await stage.ask(invoke(b"{", KEY))).status == 400
        assert stage.jobs.keys == {}
        assert (await stage.ask(keyed({"number": 1}))).header(b"idempotent-replayed") is None

    on_stage(scene)


def test_one_of_two_at_once() -> None:
    """While the first one runs the second is refused; afterwards it is answered."""

    async def scene(stage: Stage) -> None:
        stage.jobs.slow = asyncio.Event()
        clients = [stage.client(keyed()) for _ in range(2)]
        await asyncio.sleep(0)
        stage.jobs.slow.set()
        answers = [await client.done() for client in clients]
        assert sorted(answer.status for answer in answers) in ([200, 200], [200, 409])
        assert stage.deployment.metrics.snapshot().total_executions == 1

    on_stage(scene)


def test_callers_have_keys_of_their_own() -> None:
    """The same key of another caller is another one."""

    async def scene(stage: Stage) -> None:
        for caller in (b"Bearer one", b"Bearer two"):
            answer = await stage.ask(keyed(None, KEY, (b"authorization", caller)))
            assert (answer.status, answer.header(b"idempotent-replayed")) == (200, None)
        assert stage.deployment.metrics.snapshot().total_executions == 2

    on_stage(scene, {"auth_key": ["one", "two"]})


def test_a_request_that_is_cancelled() -> None:
    """Some servers cancel the request of a client that left: there is no answer, and the key is free again."""

    async def scene(stage: Stage) -> None:
        client = stage.client(keyed({"text": "wait"}))
        await until(lambda: stage.jobs.keys)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.task
        await until(lambda: not stage.jobs.keys)

    on_stage(scene)


def test_a_run_that_is_cancelled() -> None:
    """A run that ends with its client has no answer, and the key is free again."""

    async def scene(stage: Stage) -> None:
        client = stage.client(keyed({"text": "wait"}))
        await until(lambda: stage.jobs.keys)
        assert (await client.leave()).status == 503
        await until(lambda: not stage.jobs.keys)

    on_stage(scene, {"on_disconnect": "cancel"})


def test_a_request_that_is_cancelled_while_it_takes_its_key() -> None:
    """The key is given back as soon as it has been taken."""

    async def scene(stage: Stage) -> None:
        stage.jobs.slow = asyncio.Event()
        client = stage.client(keyed())
        await asyncio.sleep(0.01)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.task
        stage.jobs.slow.set()
        stage.jobs.slow = None
        await until(lambda: not stage.jobs.keys)
        assert stage.deployment.metrics.snapshot().total_executions == 0

    on_stage(scene)


def test_a_key_that_cannot_be_taken() -> None:
    """Without the store there is no promise, so nothing is run."""

    async def scene(stage: Stage) -> None:
        stage.jobs.refusal = UnavailableError("The store cannot be reached.")
        assert (await stage.ask(keyed())).status == 503
        assert stage.deployment.metrics.snapshot().total_executions == 0

    on_stage(scene)


def test_an_answer_that_cannot_be_kept_at_once() -> None:
    """The run has happened, so the client gets its answer; the key has it as soon as the store is there again."""

    async def scene(stage: Stage) -> None:
        usual, failures = stage.jobs.answer, iter((True, True))

        async def fail(key: IdempotencyKey, run_id: str, status: int, body: bytes) -> None:
            if next(failures, False):
                raise UnavailableError("The store cannot be reached.")
            await usual(key, run_id, status, body)

        stage.jobs.answer = fail  # type: ignore[method-assign]
        answer = await stage.ask(keyed())
        assert answer.status == 200
        await until(lambda: [replay.status for _, replay in stage.jobs.keys.values()] == [200])
        assert (await stage.ask(keyed())).body == answer.body

    on_stage(scene)


def test_a_key_whose_taking_has_no_known_outcome_is_given_back() -> None:
    """When the store breaks off while a key is taken, the request is refused and the next one may have the key."""

    async def scene(stage: Stage) -> None:
        usual = stage.jobs.reserve

        async def break_off(key: IdempotencyKey, run_id: str) -> Replay | None:
            await usual(key, run_id)
            stage.jobs.reserve = usual  # type: ignore[method-assign]
            raise UnavailableError("The store cannot be reached.")

        stage.jobs.reserve = break_off  # type: ignore[method-assign]
        assert (await stage.ask(keyed())).status == 503
        await until(lambda: not stage.jobs.keys)
        assert (await stage.ask(keyed())).status == 200

    on_stage(scene)
