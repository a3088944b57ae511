import asyncio
import threading

import pytest

from asgipipe import Deployment, OutsideRunError, RunCanceled, get_step_context, pipeline, step
from asgipipe.pipelines.context import Environment, Run, Status, current
from asgipipe.pipelines.executor import ThreadExecutor
from tests.running import run, run_once, started


def a_run() -> Run:
    return Run("id", "name", {}, Environment(ThreadExecutor(1)))


def test_a_step_sees_its_run_and_its_deployment() -> None:
    """The context holds ids, names, parameters with their defaults, the deployment, and what on_init returned."""

    @step
    def looks() -> dict[str, object]:
        context = get_step_context()
        assert context.deployment is not None
        return {
            "run": [context.run_id, context.run_name],
            "step": context.step_name,
            "parameters": dict(context.parameters),
            "deployment": [context.deployment.id, context.deployment.name],
            "state": context.pipeline_state,
            "cancelled": context.cancelled,
        }

    @pipeline(name="seen", on_init=lambda size: {"size": size}, on_init_kwargs={"size": 3})
    def target(x: int, y: int = 2) -> dict[str, object]:
        return looks.with_options(name="renamed")()

    async def main() -> tuple[Deployment, object]:
        async with started(target) as deployment:
            ended = await run(deployment, {"x": 1, "y": 2})
            return deployment, ended.outputs

    deployment, outputs = asyncio.run(main())
    assert isinstance(outputs, dict)
    seen = outputs["output"]
    assert len(seen.pop("run")[0]) == 36
    assert seen == {
        "step": "renamed",
        "parameters": {"x": 1, "y": 2},
        "deployment": [deployment.deployment.id, "seen"],
        "state": {"size": 3},
        "cancelled": False,
    }


def test_the_body_of_a_pipeline_has_a_context_without_a_step() -> None:
    """Before, between and after its steps the step's name is None again, an exception of a step's included."""

    @step
    def named() -> str | None:
        return get_step_context().step_name

    @step
    def fails() -> None:
        raise ValueError("no")

    @pipeline
    def target() -> list[object]:
        names: list[object] = [get_step_context().step_name, named(), get_step_context().step_name]
        with pytest.raises(ValueError, match="no"):
            fails()
        return [*names, get_step_context().step_name]

    assert run_once(target).outputs == {"output": [None, "named", None, None]}


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_progress_is_a_fraction(fraction: float) -> None:
    """What lies outside 0 to 1 is an error of the step's, whether anybody listens or not."""

    @pipeline
    def target() -> None:
        get_step_context().progress(fraction)

    for listen in (False, True):
        outcome = run_once(target, listen=listen).outcome
        assert (outcome.status, type(outcome.error)) == (Status.FAILED, ValueError)


def test_without_a_listener_telling_is_free() -> None:
    """progress() and emit() of a run that nobody follows do nothing."""

    @pipeline
    def target() -> str:
        get_step_context().progress(1)
        get_step_context().emit(object())
        return "told nobody"

    assert run_once(target).outputs == {"output": "told nobody"}


def test_a_step_sees_that_its_run_was_cancelled() -> None:
    """`cancelled` turns true in a running step, which may then return early."""
    gate, seen = threading.Event(), list[bool]()

    @step
    def loops() -> None:
        context = get_step_context()
        seen.append(context.cancelled)
        gate.wait(30)
        seen.append(context.cancelled)

    @pipeline
    def target() -> None:
        loops()

    async def main() -> None:
        async with started(target) as deployment:
            assert (await run(deployment, timeout=0.02)).outcome.status is Status.TIMED_OUT
            gate.set()

    asyncio.run(main())
    assert seen == [False, True]


def test_the_first_reason_to_cancel_stays() -> None:
    """Cancelling again changes nothing, and tells nobody twice."""
    told: list[str] = []
    cancelled = a_run()
    cancelled.on_cancel = lambda: told.append("cancelled")
    cancelled.cancel("first")
    cancelled.cancel("second")
    with pytest.raises(RunCanceled, match="first"):
        cancelled.checkpoint()
    assert told == ["cancelled"]


def test_a_sleep_of_a_cancelled_run_is_over_at_once() -> None:
    """Whichever comes first: a run that was cancelled does not sleep, one that sleeps is woken, in every thread."""
    cancelled = a_run()
    woken = threading.Barrier(4, timeout=30)

    def sleep() -> None:
        woken.wait()
        with pytest.raises(RunCanceled):
            cancelled.sleep(3600)

    threads = [threading.Thread(target=sleep) for _ in range(3)]
    for thread in threads:
        thread.start()
    woken.wait()
    cancelled.cancel("enough")
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_the_context_is_gone_when_the_run_is() -> None:
    """Neither the caller of invoke() nor the next call in the same thread sees a run that has ended."""

    @pipeline
    def target() -> None: ...

    async def main() -> None:
        async with started(target, {"thread_pool_size": 1}) as deployment:
            await run(deployment)
            assert current.get() is None
            assert await deployment.executor.run(current.get) is None

    asyncio.run(main())
    with pytest.raises(OutsideRunError):
        get_step_context()
