"""What the deployer calls what it makes, and the labels by which it finds all of it again."""

import hashlib
import re

from asgipipe.deployers.records import Workload
from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.settings import OWN

MANAGER = "asgipipe"
"""Who the fields are that server-side apply sets."""

DEPLOYMENT = f"{OWN}deployment"
REVISION = f"{OWN}revision"
RECORD = f"{OWN}record"
"""Labels: the deployment's id, the revision, and which objects are records of revisions."""

NAME = f"{OWN}name"
URL = f"{OWN}url"
"""Annotations: the deployment's name as it was given, and where it is reached."""

_LONGEST = 40
_PLAIN = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def object_name(name: str, deployment_id: str) -> str:
    """Return a name for the objects of a deployment: a label as RFC 1035 has it, which a Service needs.

    It is the deployment's own if that is one already. Any other is told from it, and from those that look like it, by a
    digest of the id.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if name == slug and len(name) <= _LONGEST and _PLAIN.fullmatch(name):
        return name
    start = slug[:_LONGEST].strip("-")
    if not start[:1].isalpha():
        start = f"deployment-{start}".strip("-")
    return f"{start}-{hashlib.sha256(deployment_id.encode()).hexdigest()[:8]}"


def revision_name(name: str, revision: int) -> str:
    """Return what the objects are called that belong to one revision alone."""
    return f"{name}-r{revision}"


def record_name(name: str, revision: int) -> str:
    return f"{revision_name(name, revision)}-record"


def own_labels(workload: Workload) -> dict[str, str]:
    """Return the labels of everything that belongs to a deployment. Raises DeploymentError for an id that is none."""
    if not _LABEL.fullmatch(workload.deployment_id):
        raise DeploymentError(f"{workload.deployment_id!r} is no deployment's id")
    name = object_name(workload.name, workload.deployment_id)
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/managed-by": MANAGER,
        DEPLOYMENT: workload.deployment_id,
    }


def selector(deployment_id: str) -> dict[str, str]:
    """Return the labels by which the pods of a deployment are found; they never change."""
    return {DEPLOYMENT: deployment_id}
