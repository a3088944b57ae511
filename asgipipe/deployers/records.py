"""What the registry and the deployers pass to each other."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

JSONObject = Mapping[str, object]


class Status(StrEnum):
    """How a deployment is, as far as its deployer and the service itself say when they are asked."""

    RUNNING = "RUNNING"
    """It is there, and ready."""
    PENDING = "PENDING"
    """It is there and not ready yet, or an operation on it is under way."""
    ABSENT = "ABSENT"
    """Nothing of it runs, and nothing should."""
    ERROR = "ERROR"
    """It should run and does not, or runs and cannot serve."""
    UNKNOWN = "UNKNOWN"
    """Nobody who knows can be asked: another machine's process, an engine that does not answer."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a deployer has to know of the settings, so that it need not import the code.

    `scheme` is http or https, `root` the path below which the service is (`root_url_path` and `api_url_path`),
    `ready_path` the whole path of its `/ready`, `drain` the seconds that it may take to finish when it is told to stop.
    `health_path` is None where neither `/health` nor `/ready` is served; `shared_store` says that what it keeps is in a
    database which other machines reach.
    """

    scheme: str
    host: str
    port: int
    root: str
    ready_path: str
    drain: float
    health_path: str | None = "/health"
    shared_store: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pipeline as it was on one day: where it is, how it is set, what it takes and gives.

    `target` is a TARGET of `asgipipe serve` and `project` the absolute path of the folder it is found from. `settings`
    is the content of a settings file, as JSON: what the file, the environment and the command line said, without
    secrets. `fingerprint` is a digest of the sources that the target was loaded from.
    """

    id: str
    name: str
    pipeline: str
    description: str
    target: str
    project: str
    settings: JSONObject
    input_schema: JSONObject
    output_schema: JSONObject
    service: Service
    fingerprint: str
    tags: tuple[str, ...]
    created_by: str
    created_at: float


@dataclass(frozen=True, slots=True)
class DeployerRecord:
    """A registered deployer: a flavor and its settings, under a name."""

    name: str
    flavor: str
    settings: JSONObject
    created_by: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Instance:
    """One revision of a deployment as its deployer made it.

    `url` is the root below which the service answers, without a slash at its end. `handle` is the deployer's own, in
    JSON: all it needs to find, ask and end what it made, from any process.
    """

    revision: int
    url: str
    handle: JSONObject

    def as_json(self) -> dict[str, object]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a deployer found when it looked for an instance; it asks processes and engines, never the service.

    RUNNING: it is there and has started up. PENDING: it is starting. ERROR: it ended, or cannot start. ABSENT: there is
    nothing. UNKNOWN: it cannot be asked. `reason` is one line for people; `log` its last lines.
    """

    status: Status
    reason: str | None = None
    log: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """What a deployer is to run: `asgipipe serve TARGET --name NAME -c FILE`, with `settings` in the file.

    `environment` holds what the user added, secrets among it, and the settings that are secret (`ASGIPIPE_AUTH_KEY`, as
    digests); nothing of it goes into a command line, an image or a log. `revision` grows with every provisioning of the
    deployment. `scheme` to `shared_store` are those of `Service`.
    """

    deployment_id: str
    name: str
    revision: int
    target: str
    project: str
    settings: JSONObject
    environment: Mapping[str, str] = field(repr=False)
    scheme: str
    host: str
    port: int
    root: str
    ready_path: str
    drain: float
    health_path: str | None = "/health"
    shared_store: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Who works on a deployment: while that process lives, nobody else does."""

    actor: str
    host: str
    pid: int
    started: float
    boot: str
    operation: str
    since: float


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment as the registry knows it.

    `wanted` is RUNNING or ABSENT, which is what was asked for last; how it really is, is found by asking. `instance` is
    what serves, `incoming` what is being started and may take its place. `key_digests` are the digests of the keys that
    the service accepts, the newest first.
    """

    id: str
    name: str
    snapshot_id: str
    deployer: str
    owner: str
    wanted: Status
    revision: int
    instance: Instance | None
    incoming: Instance | None
    key_digests: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    claim: Claim | None
    metadata: JSONObject
    created_at: float
    updated_at: float

    @property
    def url(self) -> str | None:
        return None if self.instance is None else self.instance.url


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that was done to a deployment; `detail` never holds a secret."""

    number: int
    at: float
    actor: str
    action: str
    detail: JSONObject
