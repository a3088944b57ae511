"""Talking to a cluster, with its errors as ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import yaml
from lightkube import ApiError, Client, ConfigError, KubeConfig, SingleConfig
from lightkube.config.models import User

from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.names import MANAGER
from asgipipe_kubernetes.settings import KubernetesDeployerSettings

_PATIENCE = 15.0
"""Seconds that the API may take to answer one request."""
_LONGEST = 600
_DEFAULT_FILE = "~/.kube/config"


class UnreachableError(DeploymentError):
    """No cluster answers, or nothing says where it is."""

    def __init__(self, reason: str, way_out: str) -> None:
        super().__init__(f"{reason}: {way_out}")
        self.reason = reason


def configuration(settings: KubernetesDeployerSettings) -> SingleConfig:
    """Return where the cluster is and who asks. Raises UnreachableError."""
    place = settings.kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_FILE
    try:
        found = _read(settings).get(settings.context)
    except (ConfigError, KeyError, OSError, TypeError, yaml.YAMLError, msgspec.MsgspecError) as error:
        raise UnreachableError(
            f"there is no cluster to be found in {place} ({_line(error)})",
            "say with kubeconfig and context where it is; 'kubectl config get-contexts' lists them",
        ) from error
    assert found is not None  # there is no default that could be returned
    return found if found.user is not None else found._replace(user=User())


def _read(settings: KubernetesDeployerSettings) -> KubeConfig:
    if settings.kubeconfig is not None:
        return KubeConfig.from_file(settings.kubeconfig)
    if settings.context is not None:
        return KubeConfig.from_file(os.environ.get("KUBECONFIG") or _DEFAULT_FILE)
    return KubeConfig.from_env()


def namespace_of(settings: KubernetesDeployerSettings) -> str:
    """Return the namespace of what is made. Raises UnreachableError."""
    return settings.namespace or configuration(settings).namespace


@contextmanager
def connected(settings: KubernetesDeployerSettings) -> Iterator[Client]:
    """A connection to the cluster. Raises UnreachableError, and DeploymentError for what the cluster refuses."""
    found = configuration(settings)
    server = found.cluster.server
    try:
        with Client(
            config=found,
            namespace=settings.namespace or found.namespace,
            field_manager=MANAGER,
            timeout=httpx2.Timeout(_PATIENCE),
        ) as client:
            yield client
    except ApiError as error:
        if error.status.code is not None and (error.status.code >= 500 or error.status.code == 429):
            raise UnreachableError(f"the cluster at {server} is in trouble ({_line(error)})", "try again") from error
        raise refusal(error) from error
    except (httpx2.HTTPError, ConfigError, OSError) as error:
        raise UnreachableError(
            f"the cluster at {server} cannot be asked ({_line(error)})",
            f"try 'kubectl {_options(found, settings)}version'",
        ) from error
    except msgspec.MsgspecError as error:
        raise UnreachableError(
            f"what answers at {server} is no cluster ({_line(error)})", "correct the server of the context"
        ) from error


def refusal(error: ApiError) -> DeploymentError:
    """Return what the API says, with the way out of what it refuses often."""
    said = " ".join((error.status.message or str(error)).split())[:_LONGEST]
    match error.status.code:
        case 401:
            return DeploymentError(f"the cluster does not know who asks ({said}): log in to it again")
        case 403 if "exceeded quota" in said:
            return DeploymentError(f"the namespace is full: {said}")
        case 403:
            return DeploymentError(f"{said}: have the account be given a Role with this right")
        case 404 if said.startswith("namespaces "):
            return DeploymentError(f"{said}: kubectl create namespace {said.split(chr(34))[1]}")
        case 409 if said.startswith("Apply failed"):
            return DeploymentError(
                f"{said}: what is named there has set the fields; let it leave them alone, or take them over with "
                "force_conflicts"
            )
    return DeploymentError(f"the cluster refused: {said}")


def is_missing(error: ApiError) -> bool:
    return error.status.code == httpx2.codes.NOT_FOUND


def kubectl(settings: KubernetesDeployerSettings) -> str:
    """Return how kubectl is called for the same cluster, without a namespace."""
    options = [
        *([f"--kubeconfig {settings.kubeconfig}"] if settings.kubeconfig else []),
        *([f"--context {settings.context}"] if settings.context else []),
    ]
    return " ".join(["kubectl", *options])


def _options(found: SingleConfig, settings: KubernetesDeployerSettings) -> str:
    file: Path | None = settings.kubeconfig
    place = f"--kubeconfig {file} " if file else ""
    return f"{place}--context {found.context_name} " if file or found.fname else ""


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
