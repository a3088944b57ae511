"""The image of a deployment: a ready one, or one that is built from the project and pushed."""

import os
import re
import shutil
import subprocess
from contextlib import closing
from typing import IO

from asgipipe.deployers.deployer import Report
from asgipipe.deployers.image import Context, Recipe, image_context
from asgipipe.deployers.records import Workload
from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.settings import KubernetesDeployerSettings

_SHOWN = 20
"""Last lines of a command that are shown when it fails."""


def image_of(workload: Workload, settings: KubernetesDeployerSettings) -> str:
    """Return the name of the image; it need not be there yet. Raises DeploymentError."""
    return settings.image or _context(workload, settings)[1]


def push(workload: Workload, settings: KubernetesDeployerSettings, report: Report) -> str:
    """Return the name of the image, which is built and pushed unless it is a ready one. Raises DeploymentError."""
    if settings.image is not None:
        return settings.image
    report("packing the project")
    context, name = _context(workload, settings)
    builder = shutil.which(settings.builder)
    if builder is None:
        raise DeploymentError(
            f"there is no command {settings.builder!r} here to build an image with: install it, name another one with "
            "builder, or give a ready image"
        )
    report("building the image")
    variables = [f"--build-arg={name}" for name in _given(settings)]
    with closing(context.archive()[0]) as archive:
        _run([builder, "build", "--tag", name, *variables, "-"], settings, archive)
    report(f"pushing {name}")
    _run([builder, "push", name], settings, None)
    return name


def _context(workload: Workload, settings: KubernetesDeployerSettings) -> tuple[Context, str]:
    context = image_context(Recipe.of(workload), settings)
    archive, digest = context.archive()
    archive.close()
    slug = re.sub(r"[^a-z0-9]+", "-", workload.name.lower())[:40].strip("-") or "deployment"
    return context, f"{(settings.registry or '').rstrip('/')}/{slug}:{digest[:16]}"


def _given(settings: KubernetesDeployerSettings) -> dict[str, str]:
    """Return the build arguments that have a value; those of no value have that of the environment, if it has one."""
    found = {name: os.environ.get(name) if value is None else value for name, value in settings.build_args.items()}
    return {name: value for name, value in found.items() if value is not None}


def _run(command: list[str], settings: KubernetesDeployerSettings, source: IO[bytes] | None) -> None:
    """Run a command of the builder; what the build is given goes by its environment, which nobody else sees."""
    what = " ".join([settings.builder, command[1]])
    try:
        done = subprocess.run(  # noqa: S603  # the builder that the settings name
            command,
            stdin=subprocess.DEVNULL if source is None else source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_given(settings)},
            timeout=settings.build_timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(f"'{what}' took more than {settings.build_timeout:g} s (build_timeout)") from error
    except OSError as error:
        raise DeploymentError(f"'{what}' cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stdout.decode("utf-8", "replace").splitlines()[-_SHOWN:]
        raise DeploymentError("\n".join([f"'{what}' failed:", *(f"    {line}" for line in lines)]))
