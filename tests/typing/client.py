"""What a type checker says of clients of a running deployment, and of what they return."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from typing_extensions import TypedDict

from asgipipe import pipeline
from asgipipe.client import (
    AsyncDeploymentClient,
    Client,
    DeploymentClient,
    DeploymentHandle,
    Event,
    Invocation,
    Job,
    JobHandle,
)
from asgipipe.client.models import JSONObject
from asgipipe.jobs.states import JobState


class Outputs(TypedDict):
    forecast: str


@pipeline
def sync(value: int) -> tuple[float, str]:
    return float(value), ""


@pipeline
async def asynchronous(value: int) -> float:
    return value


@pipeline
def text(value: int) -> Iterator[str]:
    yield str(value)


@pipeline
async def items(value: int) -> AsyncIterator[int]:
    yield value


# The type of a client is that of its pipeline's values


assert_type(DeploymentClient("url"), DeploymentClient[JSONObject])
assert_type(DeploymentClient("url", output_type=Outputs), DeploymentClient[Outputs])
assert_type(DeploymentClient("url", pipeline=sync, auth_key="key"), DeploymentClient[tuple[float, str]])
assert_type(DeploymentClient("url", pipeline=asynchronous), DeploymentClient[float])
assert_type(DeploymentClient("url", pipeline=text), DeploymentClient[str])
assert_type(DeploymentClient("url", pipeline=items), DeploymentClient[list[int]])
assert_type(AsyncDeploymentClient("url", pipeline=items), AsyncDeploymentClient[list[int]])
DeploymentClient("url", tiemout=3)  # type: ignore[call-overload]
DeploymentClient("url", pipeline=sync, output_type=Outputs)  # type: ignore[call-overload]
DeploymentClient("url", pipeline="sync")  # type: ignore[call-overload]


# So is that of all that it returns


def waits(client: DeploymentClient[str]) -> None:
    assert_type(client.invoke(value=1), Invocation[str])
    assert_type(client.invoke({"value": 1}).value, str)
    assert_type(client.submit(value=1), JobHandle[str])
    assert_type(client.submit(value=1).result().value, str)
    assert_type(client.job("id").status(), JobState)
    assert_type(list(client.jobs()), list[Job[str]])
    assert_type(next(client.stream(value=1)), Event)
    assert_type(client.stream(value=1).result().value, str)
    client.submit(priority="high")  # type: ignore[arg-type]


async def awaits(client: AsyncDeploymentClient[str]) -> None:
    assert_type((await client.invoke(value=1)).value, str)
    assert_type((await (await client.submit(value=1)).wait()).result, Invocation[str] | None)
    assert_type([job async for job in client.jobs()], list[Job[str]])
    assert_type([event async for event in client.stream(value=1)], list[Event])


# Deploying


def deploys(client: Client) -> None:
    assert_type(sync.deploy("name", update=True), DeploymentHandle)
    assert_type(sync.create_snapshot(tags=["a"]).target, str)
    assert_type(client.deploy(sync).auth_key, str | None)
    assert_type(client.deployments.connect("name"), DeploymentClient[JSONObject])
    assert_type(client.deployments.connect("name", output_type=Outputs, timeout=3), DeploymentClient[Outputs])
    sync.deploy(deployer=3)  # type: ignore[arg-type]
