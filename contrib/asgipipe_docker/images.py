"""Building the image of a deployment, with its progress told and its failures shown."""

import os
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress

from docker import DockerClient
from docker.errors import APIError, ImageNotFound

from asgipipe.deployers.deployer import Report
from asgipipe.deployers.image import ImageSettings, Recipe, image_context
from asgipipe.deployers.records import Workload
from asgipipe.errors import DeploymentError
from asgipipe_docker.names import DEPLOYMENT, image_name
from asgipipe_docker.settings import DockerDeployerSettings

_STEP = re.compile(r"(?:Step|STEP) (\d+)/(\d+)\s?: ?(.*)")
_SHOWN = 20
"""Last lines of a build that are shown when it fails."""
_LONGEST = 70


def image_of(client: DockerClient, workload: Workload, settings: DockerDeployerSettings, report: Report) -> str:
    """Return the name of the image that serves `workload`; the same content is built once. Raises DeploymentError."""
    report("packing the project")
    archive, digest = image_context(Recipe.of(workload), settings).archive()
    with closing(archive):
        name = image_name(workload, digest)
        if settings.pull == "missing" and _exists(client, name):
            return name
        output = client.api.build(
            fileobj=archive,
            custom_context=True,
            tag=name,
            rm=True,
            forcerm=True,
            pull=settings.pull == "always",
            buildargs=_build_args(settings),
            labels={DEPLOYMENT: workload.deployment_id},
            network_mode=settings.build_network,
            timeout=int(settings.build_timeout),
            decode=True,
        )
        _follow(output, report, time.monotonic() + settings.build_timeout)
    return name


def _exists(client: DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _build_args(settings: ImageSettings) -> dict[str, str]:
    """Return the arguments that have a value: those without one get it from the environment, if it is there."""
    found = {name: os.environ.get(name) if value is None else value for name, value in settings.build_args.items()}
    return {name: value for name, value in found.items() if value is not None}


def _follow(output: Iterable[Mapping[str, object]], report: Report, deadline: float) -> None:
    """Tell each step. Raises DeploymentError when one fails, or it takes too long."""
    step, lines, error = "", deque[str](maxlen=_SHOWN), ""
    for chunk in output:  # to its end, also after an error: the SDK closes no connection that was not read
        for line in str(chunk.get("stream") or chunk.get("status") or "").splitlines():
            found = _STEP.match(line)
            if found:
                step = f"step {found[1]} of {found[2]}: {found[3]}"
                report(f"building the image, {step if len(step) <= _LONGEST else step[: _LONGEST - 1] + '…'}")
                lines.clear()
            elif line.strip():
                lines.append(line.rstrip())
        error = error or str(chunk.get("error") or "")
        if time.monotonic() > deadline:
            raise DeploymentError(f"the image was not built in time (build_timeout), in {step}")
    if error:
        raise _failure(error, step, lines)


def _failure(error: str, step: str, lines: Iterable[str]) -> DeploymentError:
    shown = [f"    {line}" for line in lines]
    way_out = ""
    if re.search(r"pull access denied|manifest unknown|not found|no such host|timeout|i/o", error, re.IGNORECASE):
        way_out = " (base_image names another image to build on, build_network=host builds in the engine's network)"
    where = f" in {step}" if step else ""
    return DeploymentError("\n".join([f"the image was not built{where}: {' '.join(error.split())}{way_out}", *shown]))


def remove(client: DockerClient, name: str) -> None:
    """Remove an image, unless it is gone or a container of somebody else's is made of it."""
    with suppress(APIError):
        client.images.remove(name)
