"""Which kinds of objects there are, and what the client calls them."""

from collections.abc import Mapping

from lightkube import Client
from lightkube.codecs import resource_registry
from lightkube.core.exceptions import LoadResourceError
from lightkube.core.resource import GlobalResource, NamespacedResource
from lightkube.generic_resource import load_in_cluster_generic_resources

from asgipipe.errors import DeploymentError

Kind = type[NamespacedResource] | type[GlobalResource]


def is_namespaced(manifest: Mapping[str, object]) -> bool:
    """Say whether an object is known to be in a namespace; of a kind that is the cluster's own, nothing is known."""
    kind = _known(manifest)
    return kind is not None and issubclass(kind, NamespacedResource)


def find_kind(manifest: Mapping[str, object], client: Client) -> Kind | None:
    """Return the kind of an object, one of the cluster's own too."""
    found = _known(manifest)
    if found is None:
        load_in_cluster_generic_resources(client)
        found = _known(manifest)
    return found


def kind_of(manifest: Mapping[str, object], client: Client) -> Kind:
    """Return the kind of an object. Raises DeploymentError when the cluster has none of that name."""
    found = find_kind(manifest, client)
    if found is None:
        raise DeploymentError(
            f"the cluster knows no {manifest.get('kind')} of {manifest.get('apiVersion')}: "
            "install what defines it, or correct apiVersion and kind"
        )
    return found


def _known(manifest: Mapping[str, object]) -> Kind | None:
    try:
        return resource_registry.load(str(manifest.get("apiVersion")), str(manifest.get("kind")))
    except (LoadResourceError, ValueError):
        return None
