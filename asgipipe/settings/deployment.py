"""The settings of one deployment."""

import os
import re
from collections import defaultdict
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from asgipipe.settings import keys
from asgipipe.settings.capture import Capture, CapturePolicy
from asgipipe.settings.cors import CORSConfig
from asgipipe.settings.flags import DeploymentDefaultEndpoints, DeploymentDefaultMiddleware
from asgipipe.settings.headers import SecureHeadersConfig
from asgipipe.settings.levels import LoggingLevels
from asgipipe.settings.paths import EndpointPath, PathPrefix, shape
from asgipipe.settings.quantities import MEBIBYTE, Integer, Retention, Seconds
from asgipipe.settings.references import Reference, Target
from asgipipe.settings.sections import Conflict, Section, refuse
from asgipipe.settings.specs import AppExtensionSpec, EndpointSpec, MiddlewareSpec
from asgipipe.settings.stores import MEMORY, folder_url, shown, store_url

_OWN_SERVER_SETTINGS = {
    "host": "uvicorn_host",
    "port": "uvicorn_port",
    "workers": "uvicorn_workers",
    "reload": "uvicorn_reload",
    "log_level": "log_level",
    "timeout_graceful_shutdown": "drain_timeout",
}


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        raise PydanticCustomError("host", "expected an address such as 127.0.0.1, without 'http://' or a path")
    if value.startswith("["):
        raise PydanticCustomError("host", "an IPv6 address is written without brackets")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", value):
        raise PydanticCustomError("host", "expected an IP address or a host name; 0.0.0.0 is every IPv4 address")
    return value


def _folder(value: object) -> object:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(text, str) and "\0" in text:
        raise PydanticCustomError("folder", "a path holds no NUL character")
    return text


def _server_options(options: dict[str, object]) -> dict[str, object]:
    if "app" in options:
        raise PydanticCustomError("uvicorn", "the application is made by asgipipe; leave 'app' out")
    for name in options.keys() & _OWN_SERVER_SETTINGS.keys():
        raise PydanticCustomError(
            "uvicorn", "'{name}' has a setting of its own: {field}", {"name": name, "field": _OWN_SERVER_SETTINGS[name]}
        )
    return options


Hook = Annotated[Target, Reference()]
Options = dict[str, object]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
StoreURL = Annotated[Text, AfterValidator(store_url), PlainSerializer(shown, when_used="json")]


class DeploymentSettings(Section):
    """Everything that can be set about one deployment; `Resolved.origins` tells where each value came from.

    Paths of the API are below `root_url_path` and `api_url_path`, those of the documents and the dashboard below
    `root_url_path`.
    """

    app_title: Text | None = Field(
        default=None, description="The title of the OpenAPI document. Null takes the pipeline's name."
    )
    app_description: Text | None = Field(
        default=None, description="The description in the OpenAPI document. Null takes the pipeline's docstring."
    )
    app_version: Text | None = Field(
        default=None, description="The version in the OpenAPI document, such as 1.4.0. Null takes 0.1.0."
    )
    app_kwargs: Options = Field(default={}, description="Keyword arguments for the framework's application class.")

    root_url_path: PathPrefix = Field(default="", description="A prefix for every path. Empty serves at the root.")
    api_url_path: PathPrefix = Field(default="", description="A further prefix for the paths of the API.")
    docs_url_path: EndpointPath = Field(default="/docs", description="The path of the Swagger UI page.")
    redoc_url_path: EndpointPath = Field(default="/redoc", description="The path of the ReDoc page.")
    openapi_url_path: EndpointPath = Field(default="/openapi.json", description="The path of the OpenAPI document.")
    invoke_url_path: EndpointPath = Field(default="/invoke", description="The path that runs the pipeline.")
    health_url_path: EndpointPath = Field(default="/health", description="The path of the liveness probe.")
    ready_url_path: EndpointPath = Field(default="/ready", description="The path of the readiness probe.")
    info_url_path: EndpointPath = Field(default="/info", description="The path that describes the pipeline.")
    metrics_url_path: EndpointPath = Field(default="/metrics", description="The path of the metrics.")
    status_url_path: EndpointPath = Field(default="/status", description="The path of the settings in force.")
    jobs_url_path: EndpointPath = Field(default="/jobs", description="The path of the jobs.")
    stream_url_path: EndpointPath = Field(default="/stream", description="The path of event streams and WebSockets.")
    runs_url_path: EndpointPath = Field(default="/runs", description="The path of the recorded runs.")

    include_default_endpoints: DeploymentDefaultEndpoints = Field(
        default=DeploymentDefaultEndpoints.ALL,
        description="Which built-in endpoints are served: a name, a list of names, true for all, false for none.",
    )
    include_default_middleware: DeploymentDefaultMiddleware = Field(
        default=DeploymentDefaultMiddleware.ALL,
        description="Which built-in middleware runs: a name, a list of names, true for all, false for none.",
    )
    dashboard_files_path: Annotated[Text, BeforeValidator(_folder, json_schema_input_type=Text)] | None = Field(
        default=None,
        description="The folder of the dashboard's files, relative to the source root. Null shows the default page.",
    )
    custom_endpoints: list[EndpointSpec] = Field(default=[], description="Endpoints of your own.")
    custom_middlewares: list[MiddlewareSpec] = Field(default=[], description="Middleware of your own.")
    app_extensions: list[AppExtensionSpec] = Field(default=[], description="Extensions of the application.")

    auth_key: keys.AuthKey = Field(
        default=None,
        description="The key callers send as a bearer token, or several while they change; 'sha256:' and 64 "
        "hexadecimal digits stand for the key with that digest. Null needs no key.",
    )
    generate_auth_key: bool = Field(
        default=False, description="Whether to make up a key at start and print it once. Not together with auth_key."
    )
    cors: CORSConfig = Field(default_factory=CORSConfig, description="Which web pages of other origins may call.")
    secure_headers: SecureHeadersConfig = Field(
        default_factory=SecureHeadersConfig, description="The security headers of every answer."
    )
    error_messages: bool = Field(
        default=True, description="Whether answers carry the message of an exception that the pipeline raised."
    )

    thread_pool_size: Annotated[Integer, Field(ge=1, le=10_000)] = Field(
        default=20, description="Threads for sync steps and pipelines, per worker process."
    )
    max_request_body_size: Annotated[Integer, Field(ge=1, le=2048 * MEBIBYTE)] = Field(
        default=16 * MEBIBYTE, description="Bytes a request's body may have. Default 16 MiB; 413 beyond."
    )
    max_header_size: Annotated[Integer, Field(ge=256, le=MEBIBYTE)] = Field(
        default=32 * 1024, description="Bytes a request's headers may have together. Default 32 KiB; 431 beyond."
    )
    max_header_count: Annotated[Integer, Field(ge=1, le=10_000)] = Field(
        default=100, description="Header fields a request may have; 431 beyond."
    )
    max_concurrency: Annotated[Integer, Field(ge=1, le=1_000_000)] = Field(
        default=512, description="Requests that are worked on at once, per worker process."
    )
    max_queue: Annotated[Integer, Field(ge=0, le=1_000_000)] = Field(
        default=512, description="Requests that may wait for their turn, per worker process; 429 beyond. 0 for none."
    )
    request_timeout: Seconds | None = Field(
        default=600.0, description="Seconds a run may take; 504 beyond. Null sets no deadline."
    )
    receive_timeout: Seconds = Field(
        default=30.0, description="Seconds a client may take to send its request; 408 beyond."
    )
    send_timeout: Seconds = Field(
        default=30.0, description="Seconds a client may leave a piece of the answer unread before it is dropped."
    )
    drain_timeout: Seconds = Field(
        default=25.0, description="Seconds that running requests have to finish when the server stops."
    )
    hook_timeout: Seconds = Field(
        default=10.0, description="Seconds each start or stop hook may take. Raise it to load a large model."
    )
    on_disconnect: Literal["continue", "cancel"] | None = Field(
        default=None,
        description="What a run does when its client goes away: continue or cancel. Null continues a sync run.",
    )

    store_url: StoreURL | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="Where jobs and recorded runs are kept: an SQLite file, postgresql://user@host/name, or "
        "memory: for tests. Null is .asgipipe/store.db in the working directory, made when it is first needed.",
    )
    job_queue: Annotated[Target, Reference(flavor=True)] | None = Field(
        default=None,
        description="What hands jobs to workers: the name of a queue, an import string, or a class. Null is the one "
        "that belongs to the store.",
    )
    job_queue_kwargs: Options = Field(default={}, description="Keyword arguments for the job queue.")
    run_jobs: bool = Field(
        default=True, description="Whether this server runs jobs itself. False leaves them to `asgipipe worker`."
    )
    job_concurrency: Annotated[Integer, Field(ge=1, le=10_000)] = Field(
        default=8, description="Jobs that run at once, per worker process."
    )
    max_pending_jobs: Annotated[Integer, Field(ge=1, le=100_000_000)] = Field(
        default=100_000, description="Jobs that may wait; 429 beyond."
    )
    job_max_attempts: Annotated[Integer, Field(ge=1, le=1000)] = Field(
        default=3, description="How often a job is begun before it is given up because its worker was lost each time."
    )
    job_retries: Annotated[Integer, Field(ge=0, le=1000)] = Field(
        default=0, description="How often a job is run again after the pipeline raised an exception."
    )
    job_retry_delay: Seconds = Field(
        default=1.0,
        description="Seconds before the first of job_retries; each later one waits twice as long, at most "
        "five minutes.",
    )
    job_timeout: Seconds | None = Field(
        default=3600.0, description="Seconds an attempt of a job may take; it fails beyond. Null sets no deadline."
    )
    job_resume: bool = Field(
        default=True, description="Whether a job that is run again skips the steps whose results were kept."
    )
    job_retention: Seconds | None = Field(
        default=604_800.0, description="Seconds a finished job is kept. Default a week; null keeps it for ever."
    )
    max_job_events: Annotated[Integer, Field(ge=100, le=100_000_000)] = Field(
        default=100_000, description="Events that are kept of one job; beyond, the oldest are forgotten."
    )
    idempotency_ttl: Seconds = Field(default=86_400.0, description="Seconds an Idempotency-Key is remembered.")
    subscriber_queue: Annotated[Integer, Field(ge=1, le=1_000_000)] = Field(
        default=1000, description="Events that are held in memory for a follower that is slow."
    )
    stream_heartbeat: Seconds = Field(
        default=15.0, description="Seconds of silence after which an event stream sends a comment."
    )
    max_message_size: Annotated[Integer, Field(ge=1024, le=64 * MEBIBYTE)] = Field(
        default=MEBIBYTE, description="Bytes of a WebSocket message; the connection is closed with 1009 beyond."
    )
    max_subscriptions: Annotated[Integer, Field(ge=1, le=100_000)] = Field(
        default=100, description="Jobs that one WebSocket may follow at once."
    )

    capture: Capture = Field(
        default_factory=CapturePolicy, description="What a run leaves behind: a mode, or a mapping. Default none."
    )
    allow_capture_override: bool = Field(
        default=True, description="Whether a request may choose by capture_override what its run leaves behind."
    )
    capture_retention: Retention | None = Field(
        default=2_592_000.0, description="Seconds a recorded run is kept. Default 30 days; null keeps it for ever."
    )
    artifact_url: Annotated[Text, AfterValidator(folder_url)] | None = Field(
        default=None,
        description="Where payloads of more than 64 KiB are kept: a folder, or a URL that fsspec knows. Null is the "
        "folder artifacts beside an SQLite store, and PostgreSQL itself.",
    )

    startup_hook: Hook | None = Field(default=None, description="Called at start, once per process; may be async.")
    startup_hook_kwargs: Options = Field(default={}, description="Keyword arguments for startup_hook.")
    shutdown_hook: Hook | None = Field(default=None, description="Called at stop, once per process; may be async.")
    shutdown_hook_kwargs: Options = Field(default={}, description="Keyword arguments for shutdown_hook.")

    uvicorn_host: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_host)] = Field(
        default="127.0.0.1", description="The address to listen on; 0.0.0.0 is reachable by others."
    )
    uvicorn_port: Annotated[Integer, Field(ge=0, le=65_535)] = Field(
        default=8000, description="The port to listen on. 0 takes any free one."
    )
    uvicorn_workers: Annotated[Integer, Field(ge=1, le=1024)] = Field(
        default=1, description="Worker processes. Not more than one together with uvicorn_reload."
    )
    uvicorn_reload: bool = Field(default=False, description="Whether to start anew when a source file changes.")
    uvicorn_kwargs: Annotated[Options, AfterValidator(_server_options)] = Field(
        default={}, description="Further keyword arguments for uvicorn."
    )
    server: Literal["uvicorn", "gunicorn"] = Field(
        default="uvicorn", description="Which server runs: uvicorn, or gunicorn as the parent of uvicorn's workers."
    )
    gunicorn_kwargs: Options = Field(
        default={}, description="Further settings for gunicorn, by its own names. Without effect under uvicorn."
    )
    metrics_directory: Annotated[Text, BeforeValidator(_folder, json_schema_input_type=Text)] | None = Field(
        default=None,
        description="The folder in which worker processes share their counters. Null: asgipipe serve makes one for its "
        "workers; under another server each process counts for itself.",
    )
    log_level: LoggingLevels = Field(
        default=LoggingLevels.INFO, description="The least level that is logged, by name or number."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How log lines are written: text, or json with one object per line."
    )

    deployment_app_runner_flavor: Annotated[Target, Reference(flavor=True)] = Field(
        default="starlette", description="The app runner: the name of a flavor, an import string, or a class."
    )
    deployment_app_runner_kwargs: Options = Field(default={}, description="Keyword arguments for the app runner.")
    deployment_service_class: Annotated[Target, Reference()] | None = Field(
        default=None, description="The deployment service: an import string or a class. Null takes the built-in one."
    )
    deployment_service_kwargs: Options = Field(default={}, description="Keyword arguments for the deployment service.")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        conflicts = [*_combinations(self), *_shared_paths(self), *_repeated_endpoints(self)]
        if conflicts:
            refuse("DeploymentSettings", conflicts)
        return self


def built_in_paths(settings: DeploymentSettings) -> dict[str, str]:
    """Return the complete path of every built-in endpoint that is switched on, by the name of its field."""
    on, at = settings.include_default_endpoints, DeploymentDefaultEndpoints
    switches = {
        "docs_url_path": at.DOCS,
        "redoc_url_path": at.REDOC,
        "openapi_url_path": at.DOC,
        "invoke_url_path": at.INVOKE,
        "health_url_path": at.HEALTH,
        "ready_url_path": at.HEALTH,
        "info_url_path": at.INFO,
        "metrics_url_path": at.METRICS,
        "status_url_path": at.STATUS,
        "jobs_url_path": at.JOBS,
        "stream_url_path": at.STREAM,
        "runs_url_path": at.RUNS,
    }
    root, api = settings.root_url_path, settings.root_url_path + settings.api_url_path
    return {
        field: (root if switch in at.DOC else api) + getattr(settings, field)
        for field, switch in switches.items()
        if on & switch
    }


def _combinations(settings: DeploymentSettings) -> list[Conflict]:
    conflicts: list[Conflict] = []
    if settings.uvicorn_reload and settings.uvicorn_workers > 1:
        conflicts.append((("uvicorn_reload",), "reloading works with one worker only; set uvicorn_workers to 1"))
    if settings.uvicorn_reload and settings.server == "gunicorn":
        conflicts.append((("uvicorn_reload",), "reloading on changes needs server uvicorn; gunicorn reloads on SIGHUP"))
    if settings.generate_auth_key and settings.auth_key is not None:
        conflicts.append((("generate_auth_key",), "a key is given by auth_key already; set one of the two"))
    if settings.store_url == MEMORY and settings.uvicorn_workers > 1:
        conflicts.append((("store_url",), "each worker would have jobs of its own; give a file, or one worker"))
    conflicts += [
        ((f"{hook}_kwargs",), f"arguments without a hook to call; set {hook}")
        for hook in ("startup_hook", "shutdown_hook")
        if getattr(settings, f"{hook}_kwargs") and getattr(settings, hook) is None
    ]
    return conflicts


def _shared_paths(settings: DeploymentSettings) -> list[Conflict]:
    owners: dict[str, list[str]] = defaultdict(list)
    for field, path in built_in_paths(settings).items():
        owners[path].append(field)
    return [
        ((field,), f"{path} is the path of {first} too")
        for path, (first, *others) in owners.items()
        for field in others
    ]


def _repeated_endpoints(settings: DeploymentSettings) -> list[Conflict]:
    seen: set[tuple[str, str]] = set()
    conflicts: list[Conflict] = []
    for position, endpoint in enumerate(settings.custom_endpoints):
        if endpoint.native:  # whose methods are its own
            continue
        place = (endpoint.method.value, shape(endpoint.path))
        if place in seen:
            reason = f"an endpoint before it answers {endpoint.method} {endpoint.path} already"
            conflicts.append((("custom_endpoints", position), reason))
        seen.add(place)
    return conflicts
