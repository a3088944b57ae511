"""What a deployer of flavor `kubernetes` is registered with."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from asgipipe.deployers.deployer import DeployerSettings
from asgipipe.deployers.image import ImageSettings
from asgipipe.deployers.image.dockerfile import APP, USER

OWN = "asgipipe.dev/"
"""How the labels and annotations begin that are the deployer's own."""

_STANDARD = "app.kubernetes.io/"
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def _foreign(values: Mapping[str, str]) -> Mapping[str, str]:
    for name in values:
        if name.startswith(OWN):
            raise PydanticCustomError("label", "names that begin with 'asgipipe.dev/' are the deployer's own")
    return values


def _labels(values: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in values.items():
        if name.startswith(_STANDARD):
            raise PydanticCustomError("label", "labels that begin with 'app.kubernetes.io/' are the deployer's own")
        if not _LABEL.fullmatch(value):
            raise PydanticCustomError("label", "a label has 63 letters, digits, '-', '_' and '.' at most")
    return _foreign(values)


def _variables(values: Mapping[str, str]) -> Mapping[str, str]:
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise PydanticCustomError("variable", "{name} is not the name of a variable", {"name": repr(name)})
    return values


def _whole(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url):
        raise PydanticCustomError("url", "expected a URL such as https://weather.example, without a query")
    return url.rstrip("/")


# RFC 1123, as the API server checks the names of objects.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?$", max_length=32)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Resources(DeployerSettings):
    """What a pod asks for, and what it may take; Null leaves it to the namespace."""

    cpu_request: Quantity | None = Field(default=None, description="CPUs that a pod is given, such as 500m or 2.")
    cpu_limit: Quantity | None = Field(default=None, description="CPUs that a pod may take.")
    memory_request: Quantity | None = Field(default=None, description="Memory that a pod is given, such as 512Mi.")
    memory_limit: Quantity | None = Field(default=None, description="Memory that a pod may take before it is killed.")


class Autoscaling(DeployerSettings):
    """How many pods there are, by what they do."""

    min_replicas: int = Field(default=2, ge=1, description="Pods that there are at least.")
    max_replicas: int = Field(ge=1, description="Pods that there are at most.")
    cpu_utilization: int = Field(
        default=70, ge=1, le=1000, description="Percent of cpu_request that the pods are to use on average."
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise PydanticCustomError("replicas", "min_replicas is above max_replicas")
        return self


class Toleration(DeployerSettings):
    """A taint that the pods put up with, as Kubernetes has it."""

    key: str | None = Field(default=None, description="The taint's key. Null is every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How value is compared.")
    value: str | None = Field(default=None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect. Null is every effect."
    )
    seconds: int | None = Field(default=None, ge=0, description="Seconds that NoExecute is put up with. Null is ever.")


class KubernetesDeployerSettings(ImageSettings):
    """`image` or `registry` has to be given; every other field may be left out."""

    kubeconfig: Path | None = Field(
        default=None,
        description="The file that says where the cluster is and who asks. By default the account of the pod that this "
        "runs in, else what KUBECONFIG names, else ~/.kube/config.",
    )
    context: str | None = Field(
        default=None, min_length=1, description="The context of that file; by default its current one."
    )
    namespace: Namespace | None = Field(
        default=None, description="The namespace of all that is made; by default that of the context, else default."
    )
    force_conflicts: bool = Field(
        default=False, description="Take over fields of the deployer's objects that something else has set."
    )

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="A ready image with asgipipe and python3 on its PATH, and the project in project_folder.",
    )
    registry: str | None = Field(
        default=None,
        min_length=1,
        max_length=400,
        description="Where an image that is built from the project is pushed to, such as ghcr.io/acme.",
    )
    builder: str = Field(
        default="docker", min_length=1, description="The command that builds and pushes: docker or podman."
    )
    build_timeout: float = Field(default=1800.0, gt=0, description="Seconds that an image may take to build.")
    project_folder: str = Field(
        default=APP, pattern=r"^/[^:]*$", description="Where the project is in the image; targets are found from there."
    )
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When a node fetches the image."
    )
    image_pull_secrets: tuple[Name, ...] = Field(
        default=(), description="Secrets of the namespace with which the image is fetched."
    )

    replicas: int = Field(default=1, ge=1, description="Pods that there are, where there is no autoscaling.")
    autoscaling: Autoscaling | None = Field(
        default=None, description="How many pods there are, by the CPU they use; it needs resources.cpu_request."
    )
    separate_stores: bool = Field(
        default=False,
        description="Let there be several pods though each has a store of its own: jobs and runs are then known to the "
        "pod alone that took them.",
    )
    disruption_budget: bool = Field(
        default=True, description="Of several pods, let a node that is emptied end one at a time alone."
    )
    resources: Resources = Field(default=Resources(), description="CPU and memory of a pod.")
    tmp_size: Quantity = Field(default="256Mi", description="What /tmp of a pod may hold.")
    state_size: Quantity = Field(default="1Gi", description="What .asgipipe of a pod may hold; it ends with the pod.")

    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Who reaches the Service: the cluster, its nodes' ports, a load balancer."
    )
    port: Port | None = Field(
        default=None, description="The port of the Service; by default uvicorn_port of the deployment."
    )
    external_url: Annotated[str, AfterValidator(_whole)] | None = Field(
        default=None,
        description="The URL at which an ingress or gateway makes the Service known, as far as the service's own root. "
        "This machine must reach it: it is asked there whether it is ready.",
    )

    labels: Annotated[Mapping[str, str], AfterValidator(_labels)] = Field(
        default_factory=dict, description="Labels of all objects, besides the deployer's own."
    )
    annotations: Annotated[Mapping[str, str], AfterValidator(_foreign)] = Field(
        default_factory=dict, description="Annotations of the objects that all revisions share."
    )
    pod_annotations: Annotated[Mapping[str, str], AfterValidator(_foreign)] = Field(
        default_factory=dict, description="Annotations of the pods."
    )
    environment: Annotated[Mapping[str, str], AfterValidator(_variables)] = Field(
        default_factory=dict, description="Variables of the pods, besides those of the deployment. No secrets."
    )
    service_account: Name | None = Field(
        default=None,
        description="The account of the pods, whose token they get. Null is the namespace's default, without a token.",
    )
    node_selector: Mapping[str, str] = Field(default_factory=dict, description="Labels of the nodes for the pods.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that the pods put up with.")

    run_as_user: int | None = Field(
        default=USER, ge=1, description="The user and group in the pods, by number. Null takes the image's own."
    )
    read_only: bool = Field(default=True, description="Let nothing but /tmp and .asgipipe be written to.")

    start_timeout: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Seconds in which a pod must have started up, imports and hooks included.",
    )
    pre_stop: int = Field(
        default=5,
        ge=0,
        le=600,
        description="Seconds that a pod still takes new connections when it is to end, until none are sent to it any "
        "more; it closes those it has after their next answer then. 0 has it drain at once.",
    )
    additional_resources: tuple[Path, ...] = Field(
        default=(),
        description="YAML files, from the project's folder, of objects that belong to the deployment. Variables: "
        "${name}, ${deployment}, ${deployment_id}, ${namespace}, ${image}, ${port}, ${revision}; $$ is a dollar.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.image is None) is (self.registry is None):
            raise PydanticCustomError("image", "give image, a ready one, or registry, to which one is pushed")
        if self.autoscaling is not None and self.resources.cpu_request is None:
            raise PydanticCustomError("autoscaling", "autoscaling is by percent of resources.cpu_request: give that")
        return self

    @property
    def fewest(self) -> int:
        """Pods that there are at least."""
        return self.replicas if self.autoscaling is None else self.autoscaling.min_replicas

    @property
    def most(self) -> int:
        """Pods that there are at most, but for those of an update."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas
