"""Applying, finding and deleting objects."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from lightkube import ApiError, Client
from lightkube.core.resource import NamespacedResource
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import ConfigMap, Secret
from lightkube.resources.policy_v1 import PodDisruptionBudget
from lightkube.types import CascadeType, PatchType

from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.cluster import is_missing
from asgipipe_kubernetes.kinds import Kind, find_kind, kind_of
from asgipipe_kubernetes.manifests import Manifest, key_of
from asgipipe_kubernetes.names import DEPLOYMENT

T = TypeVar("T", bound=NamespacedResource)

SCALED = (HorizontalPodAutoscaler, Deployment, PodDisruptionBudget)
"""Kinds that make pods, or say how many there are."""
OF_REVISIONS = (ConfigMap, Secret)
"""Kinds that the deployer makes for each revision."""

_NOT_SERVED = "the server could not find the requested resource"
"""What the API says of a kind that it does not have, rather than of an object."""
_AT_ONCE = 200
"""Objects that are listed with one request."""


def apply(client: Client, manifests: Iterable[Manifest], *, deployment_id: str, force: bool) -> None:
    """Make each object what its manifest says. Raises DeploymentError for one that is there and somebody else's."""
    for manifest, resource in [(manifest, kind_of(manifest, client)) for manifest in manifests]:
        try:
            _apply(client, manifest, resource, deployment_id=deployment_id, force=force)
        except ApiError as error:
            if error.status.message != _NOT_SERVED:
                raise
            api, kind, *_ = key_of(manifest)
            raise DeploymentError(
                f"the cluster has no {kind} of {api}, and is too old for it: do without (autoscaling, "
                "disruption_budget, additional_resources), or update it"
            ) from error


def _apply(client: Client, manifest: Manifest, resource: Kind, *, deployment_id: str, force: bool) -> None:
    _, kind, name, namespace = key_of(manifest)
    if issubclass(resource, NamespacedResource):
        found = find(client, resource, name, namespace or None)
        _check_owner(found, f"{kind} {name}", deployment_id)
        client.patch(resource, name, manifest, namespace=namespace or None, patch_type=PatchType.APPLY, force=force)
    else:
        client.patch(resource, name, manifest, patch_type=PatchType.APPLY, force=force)


def find(client: Client, resource: type[T], name: str, namespace: str | None) -> T | None:
    try:
        return client.get(resource, name, namespace=namespace)
    except ApiError as error:
        if is_missing(error):
            return None
        raise


def listed(client: Client, resource: type[T], labels: dict[str, str], namespace: str | None) -> Iterator[T]:
    """Yield the objects with some labels; of a kind that the cluster does not have, there are none."""
    try:
        yield from client.list(resource, namespace=namespace, labels=dict(labels), chunk_size=_AT_ONCE)
    except ApiError as error:
        if not is_missing(error):
            raise


def delete(
    client: Client, resource: type[NamespacedResource], name: str, namespace: str | None, *, grace: int | None = None
) -> None:
    """Delete an object and what it made; one that is gone is no error."""
    try:
        client.delete(resource, name, namespace=namespace, grace_period=grace, cascade=CascadeType.BACKGROUND)
    except ApiError as error:
        if not is_missing(error):
            raise


def delete_labelled(
    client: Client, resource: type[NamespacedResource], labels: dict[str, str], namespace: str | None
) -> int:
    """Delete the objects with some labels; return how many there were."""
    found = list(listed(client, resource, labels, namespace))
    for each in found:
        delete(client, resource, name_of(each), namespace)
    return len(found)


def delete_manifest(client: Client, manifest: Manifest, deployment_id: str) -> None:
    """Delete the object that a manifest tells of, if it is there and belongs to the deployment."""
    _, _, name, namespace = key_of(manifest)
    resource = find_kind(manifest, client)
    if resource is None:
        return  # with its kind, whoever removed that has removed the object
    try:
        if issubclass(resource, NamespacedResource):
            found = client.get(resource, name, namespace=namespace or None)
            if _owner(found) == deployment_id:
                delete(client, resource, name, namespace or None)
        elif _owner(client.get(resource, name)) == deployment_id:
            client.delete(resource, name)
    except ApiError as error:
        if not is_missing(error):
            raise


def labels_of(found: object) -> dict[str, str]:
    metadata = getattr(found, "metadata", None)
    return dict(getattr(metadata, "labels", None) or {})


def annotations_of(found: object) -> dict[str, str]:
    metadata = getattr(found, "metadata", None)
    return dict(getattr(metadata, "annotations", None) or {})


def name_of(found: object) -> str:
    return str(getattr(getattr(found, "metadata", None), "name", None) or "")


def _owner(found: object) -> str | None:
    return labels_of(found).get(DEPLOYMENT)


def _check_owner(found: object | None, what: str, deployment_id: str) -> None:
    if found is not None and _owner(found) != deployment_id:
        raise DeploymentError(
            f"there is a {what} in the namespace that is not of this deployment: rename or remove it, or deploy under "
            "another name"
        )
