"""The template of the pods: one container that may do no more than it must."""

import math

from lightkube.models.core_v1 import (
    Capabilities,
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvVar,
    ExecAction,
    HTTPGetAction,
    KeyToPath,
    Lifecycle,
    LifecycleHandler,
    LocalObjectReference,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    Probe,
    ResourceRequirements,
    SeccompProfile,
    SecretEnvSource,
    SecurityContext,
    TCPSocketAction,
    Toleration,
    TopologySpreadConstraint,
    Volume,
    VolumeMount,
)
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta

from asgipipe.deployers.image.dockerfile import SETTINGS_FILE
from asgipipe.deployers.image.recipe import STATE
from asgipipe_kubernetes.names import REVISION, selector
from asgipipe_kubernetes.plan import Plan

CONTAINER = "service"
"""The name of the container in each pod."""
SETTINGS_KEY = "settings.yaml"

_HTTP = "http"
_SETTINGS, _TMP, _STATE = "settings", "tmp", "state"
"""Names of volumes."""
_START_PERIOD, _READY_PERIOD, _LIVE_PERIOD = 2, 3, 10
"""Seconds between two probes."""
_PROBE_TIMEOUT = 5
_RETIREMENT = """\
import os, signal, socket, time
try:
    socket.create_connection(("127.0.0.1", {port}), 2).close()
except OSError:
    raise SystemExit(0)
time.sleep({seconds})
os.kill(1, signal.SIGUSR2)
time.sleep(86400)
"""
_DEAD = 6
"""Failures until a container is started anew: a minute, in which one that is merely busy has answered."""


def pod_template(plan: Plan) -> PodTemplateSpec:
    settings = plan.settings
    return PodTemplateSpec(
        metadata=ObjectMeta(labels=plan.revision_labels, annotations=dict(settings.pod_annotations) or None),
        spec=PodSpec(
            containers=[_container(plan)],
            volumes=_volumes(plan),
            securityContext=_pod_security(plan),
            serviceAccountName=settings.service_account,
            automountServiceAccountToken=settings.service_account is not None,
            enableServiceLinks=False,  # a Service called asgipipe would set ASGIPIPE_PORT, which is read as a setting
            imagePullSecrets=[LocalObjectReference(name=name) for name in settings.image_pull_secrets] or None,
            nodeSelector=dict(settings.node_selector) or None,
            terminationGracePeriodSeconds=plan.termination_grace,
            tolerations=_tolerations(plan) or None,
            topologySpreadConstraints=[_spread(plan)],
        ),
    )


def _container(plan: Plan) -> Container:
    workload, settings = plan.workload, plan.settings
    return Container(
        name=CONTAINER,
        image=plan.image,
        imagePullPolicy=settings.image_pull_policy,
        command=["asgipipe", "serve", workload.target, "--name", workload.name, "-c", SETTINGS_FILE],
        workingDir=settings.project_folder,
        env=_variables(plan),
        envFrom=[EnvFromSource(secretRef=SecretEnvSource(name=plan.revision_name))],
        ports=[ContainerPort(containerPort=plan.container_port, name=_HTTP, protocol="TCP")],
        startupProbe=_probe(plan, period=_START_PERIOD, failures=math.ceil(settings.start_timeout / _START_PERIOD)),
        livenessProbe=_probe(plan, period=_LIVE_PERIOD, failures=_DEAD),
        readinessProbe=_probe(plan, period=_READY_PERIOD, failures=2, ready=True),
        lifecycle=_lifecycle(plan),
        resources=_resources(plan),
        securityContext=SecurityContext(
            allowPrivilegeEscalation=False,
            capabilities=Capabilities(drop=["ALL"]),
            readOnlyRootFilesystem=settings.read_only,
        ),
        terminationMessagePolicy="FallbackToLogsOnError",  # the pod's status tells then why it ended
        volumeMounts=[
            VolumeMount(name=_SETTINGS, mountPath=SETTINGS_FILE.rpartition("/")[0], readOnly=True),
            VolumeMount(name=_STATE, mountPath=f"{settings.project_folder.rstrip('/')}/{STATE}"),
            VolumeMount(name=_TMP, mountPath="/tmp"),  # noqa: S108  # inside of the container
        ],
    )


def _variables(plan: Plan) -> list[EnvVar]:
    """Return what is no secret; it would hide what the Secret says of the same name."""
    found = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1", **plan.settings.environment}  # noqa: S108
    own = {"ASGIPIPE_UVICORN_HOST": "0.0.0.0", "ASGIPIPE_UVICORN_PORT": str(plan.container_port)}
    shown = {name: value for name, value in found.items() if name not in plan.workload.environment}
    return [EnvVar(name=name, value=value) for name, value in sorted({**shown, **own}.items())]


def _probe(plan: Plan, *, period: int, failures: int, ready: bool = False) -> Probe:
    workload, health = plan.workload, plan.workload.health_path
    path = workload.ready_path if ready else health
    return Probe(
        httpGet=None
        if health is None or path is None
        else HTTPGetAction(path=path, port=_HTTP, scheme=workload.scheme.upper()),
        tcpSocket=TCPSocketAction(port=_HTTP) if health is None else None,
        periodSeconds=period,
        timeoutSeconds=_PROBE_TIMEOUT,
        failureThreshold=failures,
    )


def _lifecycle(plan: Plan) -> Lifecycle | None:
    """Have a server that is to end leave new connections to others, once they are sent to others, and then end itself.

    Told with SIGTERM, as it would be after the hook, it refuses what still comes on connections that are kept open. So
    the hook stays until the container ends, and with it the hook; one that has not started up is told at once.
    """
    seconds = plan.settings.pre_stop
    if not seconds:
        return None
    program = _RETIREMENT.format(port=plan.container_port, seconds=seconds)
    return Lifecycle(preStop=LifecycleHandler(exec=ExecAction(command=["python3", "-I", "-c", program])))


def _resources(plan: Plan) -> ResourceRequirements | None:
    given = plan.settings.resources
    requests = {"cpu": given.cpu_request, "memory": given.memory_request}
    limits = {"cpu": given.cpu_limit, "memory": given.memory_limit}
    asked = {name: value for name, value in requests.items() if value is not None}
    bound = {name: value for name, value in limits.items() if value is not None}
    return ResourceRequirements(requests=asked or None, limits=bound or None) if asked or bound else None


def _pod_security(plan: Plan) -> PodSecurityContext:
    user = plan.settings.run_as_user
    return PodSecurityContext(
        runAsNonRoot=True,
        runAsUser=user,
        runAsGroup=user,
        fsGroup=user,
        seccompProfile=SeccompProfile(type="RuntimeDefault"),
    )


def _volumes(plan: Plan) -> list[Volume]:
    settings = plan.settings
    file = ConfigMapVolumeSource(name=plan.revision_name, items=[KeyToPath(key=SETTINGS_KEY, path=SETTINGS_KEY)])
    return [
        Volume(name=_SETTINGS, configMap=file),
        Volume(name=_STATE, emptyDir=EmptyDirVolumeSource(sizeLimit=settings.state_size)),
        Volume(name=_TMP, emptyDir=EmptyDirVolumeSource(sizeLimit=settings.tmp_size)),
    ]


def _tolerations(plan: Plan) -> list[Toleration]:
    return [
        Toleration(
            key=each.key,
            operator=each.operator,
            value=each.value,
            effect=each.effect,
            tolerationSeconds=each.seconds,
        )
        for each in plan.settings.tolerations
    ]


def _spread(plan: Plan) -> TopologySpreadConstraint:
    """Put the pods of a revision on different nodes where there are enough."""
    own = {**selector(plan.workload.deployment_id), REVISION: str(plan.workload.revision)}
    return TopologySpreadConstraint(
        maxSkew=1,
        topologyKey="kubernetes.io/hostname",
        whenUnsatisfiable="ScheduleAnyway",
        labelSelector=LabelSelector(matchLabels=own),
    )
