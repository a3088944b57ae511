"""What the deployer calls what it makes, and the labels by which it finds all of it again."""

import json
import re
from collections.abc import Mapping

from asgipipe.deployers.records import Instance, Workload

DEPLOYMENT = "asgipipe.deployment"
NAME = "asgipipe.name"
ROLE = "asgipipe.role"
REVISION = "asgipipe.revision"
INSTANCE = "asgipipe.instance"
"""The label with what `instances` returns, in JSON."""

SERVER = "server"
LISTENER = "listener"
"""The role of the container that holds the published address."""

_LONGEST = 40
_ID = 8


def prefix(workload: Workload) -> str:
    return f"asgipipe-{_slug(workload.name)}-{workload.deployment_id[:_ID]}"


def container_name(workload: Workload) -> str:
    return f"{prefix(workload)}-r{workload.revision}"


def listener_name(workload: Workload, port: int) -> str:
    return f"{prefix(workload)}-port-{port}"


def image_name(workload: Workload, digest: str) -> str:
    return f"asgipipe/{_slug(workload.name)}:{digest[:16]}"


def own_labels(workload: Workload) -> dict[str, str]:
    """Return the labels of everything that belongs to a deployment."""
    return {DEPLOYMENT: workload.deployment_id, NAME: workload.name}


def filters(deployment_id: str, role: str | None = None) -> dict[str, str | list[str] | bool]:
    """Return how an engine is asked for what belongs to a deployment."""
    labels = [f"{DEPLOYMENT}={deployment_id}", *([f"{ROLE}={role}"] if role else [])]
    return {"label": labels}


def instance_labels(instance: Instance) -> dict[str, str]:
    text = json.dumps({"url": instance.url, "handle": instance.handle})
    return {ROLE: SERVER, REVISION: str(instance.revision), INSTANCE: text}


def labelled_instance(labels: Mapping[str, str]) -> Instance | None:
    """Return the instance that labels tell of; None when they are not ours."""
    try:
        members = json.loads(labels[INSTANCE])
        return Instance(int(labels[REVISION]), str(members["url"]), dict(members["handle"]))
    except (KeyError, TypeError, ValueError):
        return None


def _slug(name: str) -> str:
    """Return a name in the letters that engines allow."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST].strip("-") or "deployment"
