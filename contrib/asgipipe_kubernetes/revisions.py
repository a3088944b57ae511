"""The records of revisions, which stay in the cluster: what was applied, and how it ended."""

import base64
import json
from dataclasses import dataclass, replace

from lightkube import Client
from lightkube.resources.core_v1 import Secret
from lightkube.types import PatchType

from asgipipe.deployers.records import Condition, Instance, Status
from asgipipe_kubernetes.manifests import MANIFESTS, Manifest
from asgipipe_kubernetes.names import DEPLOYMENT, RECORD, REVISION, URL, record_name
from asgipipe_kubernetes.objects import annotations_of, find, labels_of, listed

_END = "end"
"""The member of a record with how the revision was when it was ended, in JSON."""

MOST_LINES = 1000
"""Lines that are kept of the log of a revision that was ended."""
_MOST_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class End:
    """Why a revision that is no more had failed, if it had, and the last lines of its log."""

    reason: str | None
    log: tuple[str, ...]

    @property
    def condition(self) -> Condition | None:
        return None if self.reason is None else Condition(Status.ERROR, self.reason, self.log[-20:])


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision by its record."""

    instance: Instance
    manifests: tuple[Manifest, ...]
    end: End | None

    @property
    def key(self) -> str:
        return str(self.instance.handle["deployment"])


def instance(name: str, namespace: str, deployment_id: str, revision: int, url: str) -> Instance:
    return Instance(revision, url, {"deployment": deployment_id, "name": name, "namespace": namespace})


def revisions(client: Client, deployment_id: str) -> list[Revision]:
    """Return the recorded revisions of a deployment, the oldest first."""
    found = (_read(secret) for secret in listed(client, Secret, {DEPLOYMENT: deployment_id, RECORD: "true"}, None))
    return sorted((each for each in found if each is not None), key=lambda each: each.instance.revision)


def revision(client: Client, found: Instance) -> Revision | None:
    """Return the record of one instance; None when there is none."""
    handle = found.handle
    name = record_name(str(handle["name"]), found.revision)
    secret = find(client, Secret, name, str(handle["namespace"]))
    recorded = None if secret is None else _read(secret)
    return recorded if recorded is not None and recorded.key == handle["deployment"] else None


def record_end(client: Client, found: Instance, end: End) -> None:
    """Keep how a revision was when it was ended; the next start of the same revision forgets it."""
    bounded = replace(end, log=_bounded(end.log))
    text = json.dumps({"reason": bounded.reason, "log": bounded.log})
    name = record_name(str(found.handle["name"]), found.revision)
    change = {"data": {_END: base64.b64encode(text.encode()).decode()}}
    client.patch(Secret, name, change, namespace=str(found.handle["namespace"]), patch_type=PatchType.MERGE)


def _bounded(lines: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    size = 0
    for line in reversed(lines[-MOST_LINES:]):
        size += len(line.encode()) + 1
        if size > _MOST_BYTES:
            break
        kept.append(line)
    return tuple(reversed(kept))


def _read(secret: Secret) -> Revision | None:
    """Return what a record says; None for a Secret that is none of ours, though it is labelled so."""
    labels, annotations, data = labels_of(secret), annotations_of(secret), secret.data or {}
    metadata = secret.metadata
    try:
        assert metadata is not None
        number = int(labels[REVISION])
        manifests = json.loads(base64.b64decode(data[MANIFESTS]))
        said = json.loads(base64.b64decode(data[_END])) if _END in data else None
        end = None if said is None else End(said["reason"], tuple(said["log"]))
        name = str(metadata.name).removesuffix(f"-r{number}-record")
        return Revision(
            instance(name, str(metadata.namespace), labels[DEPLOYMENT], number, annotations[URL]),
            tuple(manifests),
            end,
        )
    except (KeyError, TypeError, ValueError):
        return None
