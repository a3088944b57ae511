"""Running a snapshot once, in this process."""

import asyncio
import json
import os
import tempfile
from pathlib import Path

import pydantic
from pydantic_core import to_json

from asgipipe.deployers.records import Snapshot
from asgipipe.errors import DeploymentError
from asgipipe.runners.deployment import Deployment
from asgipipe.servers.application import Plan, plan
from asgipipe.servers.specification import Specification


class ParametersError(DeploymentError):
    """Parameters that the pipeline does not take."""

    exit_code = 2


def run_once(snapshot: Snapshot, parameters: dict[str, object]) -> bytes:
    """Run a snapshot with its settings, from its project's folder, and return the envelope.

    Raises ParametersError, and the UserErrors of a target or setting that is not as it was.
    """
    project = Path(snapshot.project)
    if not project.is_dir():
        raise DeploymentError(f"the project of snapshot {snapshot.name!r} is not here: there is no folder {project}")
    os.chdir(project)  # what the settings name, and the target, is found from there
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:  # JSON is YAML; readable by this user only
        json.dump(snapshot.settings, file)
        file.flush()
        (planned,) = plan(Specification((snapshot.target,), config_file=file.name))
    return asyncio.run(_run(planned, parameters))


async def _run(planned: Plan, parameters: dict[str, object]) -> bytes:
    contract = planned.loaded.pipeline.contract
    try:
        validated = contract.parameters_adapter.validator.validate_json(to_json(parameters), strict=True)
    except pydantic.ValidationError as error:
        lines = [
            f"{'.'.join(map(str, found['loc'])) or 'parameters'}: {found['msg']}"
            for found in error.errors(include_url=False, include_input=False)
        ]
        raise ParametersError("\n".join(lines)) from None
    deployment = Deployment(
        planned.loaded.pipeline, name=planned.name, layers=planned.layers, source_root=planned.loaded.source_root
    )
    await deployment.start()
    try:
        run = await deployment.service.invoke(contract.arguments(validated))
        return deployment.service.envelopes.write(run)
    finally:
        await deployment.stop()
