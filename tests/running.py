"""Deployments started inside a test, without a server."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from asgipipe import Deployment
from asgipipe.pipelines.context import Environment, Run
from asgipipe.settings import DeploymentSettings

Settings = DeploymentSettings | Mapping[str, object]
Event = tuple[str, str | None, Mapping[str, object]]


@dataclass
class Result:
    """What one run came to: `outputs` and `parameters` are read back from the JSON that the client would get."""

    outcome: Run
    events: list[Event] = field(default_factory=list)

    @property
    def outputs(self) -> object:
        return None if self.outcome.outputs_json is None else json.loads(self.outcome.outputs_json)

    @property
    def parameters(self) -> object:
        return json.loads(self.outcome.parameters_json)

    def types(self) -> list[str]:
        return [event for event, _, _ in self.events]

    def deltas(self) -> list[object]:
        return [data["delta"] for event, _, data in self.events if event == "output_delta"]


@asynccontextmanager
async def started(target: object, settings: Settings | None = None) -> AsyncIterator[Deployment]:
    """A deployment that reads no environment."""
    deployment = Deployment(target, settings, layers=())
    await deployment.start()
    try:
        yield deployment
    finally:
        await deployment.stop()


async def run(
    deployment: Deployment,
    parameters: dict[str, object] | None = None,
    *,
    timeout: float | None = None,
    listen: bool = False,
) -> Result:
    """Run the pipeline once; with `listen`, its events are collected."""
    result = Result(Run("", "", {}, Environment(deployment.executor)))

    def listener(event: str, step: str | None, data: Mapping[str, object]) -> None:
        result.events.append((event, step, data))

    result.outcome = await deployment.service.invoke(
        parameters or {}, timeout=timeout, listener=listener if listen else None
    )
    return result


def run_once(
    target: object,
    parameters: dict[str, object] | None = None,
    *,
    settings: Settings | None = None,
    timeout: float | None = None,
    listen: bool = False,
) -> Result:
    """Start a deployment, run its pipeline once, stop it."""

    async def main() -> Result:
        async with started(target, settings) as deployment:
            return await run(deployment, parameters, timeout=timeout, listen=listen)

    return asyncio.run(main())
