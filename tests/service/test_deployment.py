"""The deployment service: the pipeline's hooks and state, health, and services of the user's."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from asgipipe import BaseDeploymentService, Deployment, DeploymentService, get_step_context, pipeline
from asgipipe.errors import DefinitionError, StartupError
from tests.conftest import PATIENCE
from tests.http.wire import Ask, ask, ask_one, deployed, invoke
from tests.runners.extras import hello
from tests.running import run, started

RUN = invoke({})


# State


@pytest.mark.parametrize("is_async", [False, True])
def test_the_state_is_what_on_init_returned(is_async: bool) -> None:
    """Once per process, with its kwargs; every run sees the same object, and on_cleanup gets it with its own kwargs."""
    calls: list[object] = []

    def load(size: int) -> dict[str, int]:
        calls.append("load")
        return {"size": size}

    def close(state: dict[str, int], reason: str) -> None:
        calls.append((state, reason))

    async def load_async(size: int) -> dict[str, int]:
        return load(size)

    async def close_async(state: dict[str, int], reason: str) -> None:
        close(state, reason)

    @pipeline(
        on_init=load_async if is_async else load,
        on_init_kwargs={"size": 3},
        on_cleanup=close_async if is_async else close,
        on_cleanup_kwargs={"reason": "done"},
    )
    def counting() -> int:
        state: dict[str, int] = get_step_context().pipeline_state  # type: ignore[assignment]  # what on_init returned
        state["size"] += 1
        return state["size"]

    async def main() -> list[object]:
        async with started(counting) as deployment:
            return [(await run(deployment)).outputs for _ in range(3)]

    assert asyncio.run(main()) == [{"output": 4}, {"output": 5}, {"output": 6}]
    assert calls == ["load", ({"size": 6}, "done")]


def test_a_cleanup_without_a_parameter_is_called_without_the_state() -> None:
    """on_cleanup takes the state only when it asks for an argument."""
    calls: list[object] = []
    made = pipeline(on_init=lambda: 7, on_cleanup=lambda: calls.append("closed"))(tick)

    async def main() -> None:
        async with started(made):
            pass

    asyncio.run(main())
    assert calls == ["closed"]


def tick() -> int:
    return 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_init": lambda: 1, "on_init_kwargs": {"size": 1}}, "on_init: "),
        ({"on_init_kwargs": {"size": 1}}, "on_init_kwargs: arguments without a hook"),
        ({"on_cleanup_kwargs": {"size": 1}}, "on_cleanup_kwargs: arguments without a hook"),
        ({"on_cleanup": lambda a, b: 1}, "on_cleanup: "),
        ({"on_init": "no.such:hook"}, "on_init: 'no.such:hook'"),
    ],
)
def test_pipeline_hooks_that_cannot_be_called_are_refused(options: dict[str, Any], message: str) -> None:
    """When the deployment is built, not at its start."""
    with pytest.raises(DefinitionError) as refused:
        deployed(pipeline(**options)(tick))
    assert str(refused.value).startswith(message)


def test_a_cleanup_follows_only_a_finished_init() -> None:
    """Where on_init failed there is nothing to clean up; each start that succeeds has its one cleanup."""
    calls: list[str] = []

    def load() -> None:
        calls.append("load")
        if calls.count("load") == 1:
            raise OSError("no file")

    deployment = Deployment(pipeline(on_init=load, on_cleanup=lambda: calls.append("close"))(tick), layers=())

    async def main() -> None:
        with pytest.raises(StartupError, match=r"on_init \(load\) raised OSError: no file"):
            await deployment.start()
        await deployment.start()
        await deployment.stop()
        await deployment.stop()

    asyncio.run(main())
    assert calls == ["load", "load", "close"]


def test_a_failing_cleanup_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The rest is closed all the same, and the stop succeeds."""
    calls: list[str] = []

    def close() -> None:
        raise OSError("disk gone")

    @pipeline(on_cleanup=close, settings={"shutdown_hook": lambda: calls.append("shutdown")})
    def failing() -> int:
        return 1

    async def main() -> None:
        async with started(failing):
            pass

    asyncio.run(main())
    assert calls == ["shutdown"]
    assert [record.getMessage() for record in caplog.records] == ["on_cleanup (close) raised OSError: disk gone"]


# Health


async def not_well() -> str:
    return "no GPU"


def failing_check() -> None:
    raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (lambda: None, None),
        (lambda: True, None),
        (lambda: False, "a health check failed"),
        (lambda: "no GPU", "no GPU"),
        (not_well, "no GPU"),
        (failing_check, "a health check failed"),
    ],
)
def test_health_checks_decide(check: Callable[[], object], reason: str | None) -> None:
    """A hook may add checks; what they complain of is a 503 with the reason, and nothing of an exception."""

    def add(app_runner: Any) -> None:
        app_runner.service.health_checks += [lambda: None, check]

    health = ask_one(hello, Ask(path="/health"), {"startup_hook": add})
    if reason is None:
        assert health.json()["status"] == "healthy"
    else:
        assert health.status == 503
        assert health.problem["detail"] == f"Not healthy: {reason}."


# A service of the user's


class OwnService(DeploymentService):
    """Changes a part of what ours does."""

    def __init__(self, *args: Any, model: str = "none", **options: Any) -> None:
        super().__init__(*args, **options)
        self.model = model
        self.calls: list[str] = []

    async def start(self) -> None:
        await super().start()
        self.calls.append("start")

    async def stop(self) -> None:
        await super().stop()
        self.calls.append("stop")

    async def health(self) -> str | None:
        return None if self.model == "large" else f"the model is {self.model}"

    async def invoke(self, parameters: dict[str, object], **more: Any) -> Any:
        self.calls.append("invoke")
        return await super().invoke(parameters, **more)


@pytest.mark.parametrize(
    "given", [OwnService, "tests.service.test_deployment:OwnService", "tests.service.test_deployment.OwnService"]
)
def test_a_service_of_the_users(given: object) -> None:
    """A class or an import string, with its arguments; it starts, runs, tells its health and stops."""
    made: Mapping[str, object] = {"deployment_service_class": given, "deployment_service_kwargs": {"model": "large"}}
    healthy, ran = ask(hello, made, Ask(path="/health"), RUN)
    assert (healthy.status, ran.json()["outputs"]) == (200, {"output": "Hello, World!"})
    deployment = Deployment(hello, made, layers=())

    async def main() -> None:
        await deployment.start()
        await run(deployment)
        await deployment.stop()

    asyncio.run(main())
    assert deployment.service.calls == ["start", "invoke", "stop"]  # type: ignore[attr-defined]  # a class of this module


def test_a_service_that_is_not_well() -> None:
    """Its no is a 503 of /health; requests are still answered."""
    health, ran = ask(hello, {"deployment_service_class": OwnService}, Ask(path="/health"), RUN)
    assert health.problem["detail"] == "Not healthy: the model is none."
    assert (health.status, health.header(b"retry-after"), ran.status) == (503, b"1", 200)


class Unmakable(DeploymentService):
    def __init__(self, *args: Any, **options: Any) -> None:
        raise OSError("no such model")


class Abstract(BaseDeploymentService):
    pass


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"deployment_service_class": dict}, "deployment_service_class: builtins:dict is not a subclass"),
        ({"deployment_service_class": "os.path:join"}, "deployment_service_class: os.path:join is not a subclass"),
        (
            {"deployment_service_class": "no.such:Service"},
            "deployment_service_class: 'no.such:Service': there is no module",
        ),
        ({"deployment_service_class": Unmakable}, "deployment_service_class Unmakable raised OSError: no such model"),
        ({"deployment_service_class": Abstract}, "deployment_service_class Abstract raised TypeError"),
        ({"deployment_service_kwargs": {"modle": "x"}}, "DeploymentService takes no option 'modle'"),
    ],
)
def test_what_is_no_service_is_refused(made: Mapping[str, object], message: str) -> None:
    """When the deployment is built, with the setting and what is wrong."""
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, made)
    assert message in str(refused.value)


class BadStart(DeploymentService):
    async def start(self) -> None:
        raise ValueError("no licence")


class BadStop(DeploymentService):
    async def stop(self) -> None:
        await super().stop()
        raise ValueError("no licence")


def test_a_service_that_does_not_start() -> None:
    """Whatever it raises is the one error of a failed start."""

    async def main() -> None:
        with pytest.raises(StartupError, match="the deployment hello did not start: ValueError: no licence"):
            await Deployment(hello, {"deployment_service_class": BadStart}, layers=()).start()

    asyncio.run(main())


def test_a_service_that_does_not_stop_keeps_nothing_open() -> None:
    """The rest is closed; `stop` raises what it raised."""
    others = set(threading.enumerate())
    deployment = Deployment(hello, {"deployment_service_class": BadStop}, layers=())

    async def main() -> None:
        await deployment.start()
        await deployment.executor.run(lambda: None)
        with pytest.raises(ValueError, match="no licence"):
            await deployment.stop()

    asyncio.run(main())
    for thread in set(threading.enumerate()) - others:  # on a busy machine it may be about to end
        thread.join(PATIENCE)
        assert not thread.is_alive()
