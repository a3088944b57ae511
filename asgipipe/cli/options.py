"""Flags for every setting, in groups, and the settings file."""

from collections.abc import Callable, Container, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import click
from pydantic.fields import FieldInfo

from asgipipe.settings import DeploymentSettings
from asgipipe.settings.command_line import SHORT_FLAGS, long_flag
from asgipipe.settings.fields import Shape, kind

GROUPS: dict[str, tuple[str, ...]] = {
    "Server": (
        "uvicorn_host",
        "uvicorn_port",
        "uvicorn_workers",
        "uvicorn_reload",
        "uvicorn_kwargs",
        "server",
        "gunicorn_kwargs",
        "metrics_directory",
        "log_level",
        "log_format",
    ),
    "Application": (
        "app_title",
        "app_description",
        "app_version",
        "app_kwargs",
        "deployment_app_runner_flavor",
        "deployment_app_runner_kwargs",
        "deployment_service_class",
        "deployment_service_kwargs",
        "thread_pool_size",
        "on_disconnect",
        "dashboard_files_path",
    ),
    "Paths": (
        "root_url_path",
        "api_url_path",
        "docs_url_path",
        "redoc_url_path",
        "openapi_url_path",
        "invoke_url_path",
        "health_url_path",
        "ready_url_path",
        "info_url_path",
        "metrics_url_path",
        "status_url_path",
        "jobs_url_path",
        "stream_url_path",
        "runs_url_path",
    ),
    "Endpoints, middleware, extensions": (
        "include_default_endpoints",
        "include_default_middleware",
        "custom_endpoints",
        "custom_middlewares",
        "app_extensions",
    ),
    "Security": (
        "auth_key",
        "generate_auth_key",
        "cors",
        "secure_headers",
        "error_messages",
    ),
    "Limits": (
        "max_request_body_size",
        "max_header_size",
        "max_header_count",
        "max_concurrency",
        "max_queue",
        "request_timeout",
        "receive_timeout",
        "send_timeout",
        "drain_timeout",
        "hook_timeout",
    ),
    "Jobs, streams and the store": (
        "store_url",
        "job_queue",
        "job_queue_kwargs",
        "run_jobs",
        "job_concurrency",
        "max_pending_jobs",
        "job_max_attempts",
        "job_retries",
        "job_retry_delay",
        "job_timeout",
        "job_resume",
        "job_retention",
        "max_job_events",
        "idempotency_ttl",
        "subscriber_queue",
        "stream_heartbeat",
        "max_message_size",
        "max_subscriptions",
    ),
    "Capture": (
        "capture",
        "allow_capture_override",
        "capture_retention",
        "artifact_url",
    ),
    "Hooks": (
        "startup_hook",
        "startup_hook_kwargs",
        "shutdown_hook",
        "shutdown_hook_kwargs",
    ),
}
"""The fields of DeploymentSettings as `--help` shows them."""

_METAVARS = {
    Shape.SECRET: "KEY",
    Shape.FLAG: "NAME,...",
    Shape.LIST: "JSON",
    Shape.MAPPING: "JSON",
    Shape.SECTION: "JSON",
}
_PREFIX = "setting_"

P = ParamSpec("P")
R = TypeVar("R")
Values = dict[str, str]
"""Texts by the dotted path of their field, as `command_line_layer` takes them."""

config_option = click.option(
    "-c", "--config", "config_file", metavar="FILE", help="The settings file, in YAML.", type=click.Path()
)


class SettingOption(click.Option):
    """A flag that stands in a group of its own in the help of a SettingsCommand."""

    def __init__(self, param_decls: Sequence[str], *, group: str, help: str, metavar: str | None) -> None:
        is_switch = metavar is None
        super().__init__(param_decls, help=help, metavar=metavar, type=bool if is_switch else str, default=None)
        self.group = group


class SettingsCommand(click.Command):
    """A command whose help shows the flags of settings in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], **{group: [] for group in GROUPS}}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                sections[getattr(parameter, "group", "Options")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def settings_options(function: Callable[Concatenate[Values, P], R]) -> Callable[P, R]:
    """Give a command's function one flag for every field of DeploymentSettings, and `--set` for what is in sections.

    The function receives what was given as its first argument. Use it below `@click.command(cls=SettingsCommand)`.
    """
    return options_of(DeploymentSettings.model_fields)(function)


def options_of(fields: Container[str]) -> Callable[[Callable[Concatenate[Values, P], R]], Callable[P, R]]:
    """Do the same as `settings_options`, with flags for some of the fields alone."""

    def decorate(function: Callable[Concatenate[Values, P], R]) -> Callable[P, R]:
        @wraps(function)
        def command(*args: P.args, **kwargs: P.kwargs) -> R:
            given = {name: kwargs.pop(name) for name in list(kwargs) if name.startswith(_PREFIX)}
            return function(_values(given), *args, **kwargs)

        click.option(
            "--set",
            f"{_PREFIX}set",
            metavar="PATH=VALUE",
            multiple=True,
            help="Any setting by its path, such as cors.allow_origins=https://app.example. May be given several times.",
        )(command)
        for group, names in reversed(GROUPS.items()):
            for name in reversed(names):
                if name in fields:
                    _add(command, group, name, DeploymentSettings.model_fields[name])
        return command

    return decorate


def _add(command: Callable[..., object], group: str, name: str, field: FieldInfo) -> None:
    flags = [long_flag(name), *([SHORT_FLAGS[name]] if name in SHORT_FLAGS else [])]
    shape = kind(field).shape
    if shape is Shape.BOOLEAN:
        flags = [f"{flag}/--no-{flag.removeprefix('--')}" for flag in flags]
    metavar = None if shape is Shape.BOOLEAN else _METAVARS.get(shape) or _metavar(field)
    option = click.option(*flags, _PREFIX + name, cls=SettingOption, group=group, help=_help(field), metavar=metavar)
    option(command)


def _metavar(field: FieldInfo) -> str:
    if isinstance(field.default, float):
        return "SECONDS"
    return "NUMBER" if type(field.default) is int else "TEXT"


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    if kind(field).shape is Shape.SECRET:
        text += " Others on this machine can see it in the process list: prefer the variable ASGIPIPE_AUTH_KEY."
    default = field.default
    if isinstance(default, str | int | float) and default != "":
        shown = default.name if hasattr(default, "name") else str(default).lower()
        text += f" [default: {shown}]"
    return text


def _values(given: dict[str, object]) -> Values:
    settings = given.pop(f"{_PREFIX}set")
    values = {name.removeprefix(_PREFIX): _text(value) for name, value in given.items() if value is not None}
    for setting in settings if isinstance(settings, tuple) else ():
        path, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError("--set takes PATH=VALUE, such as cors.allow_origins=https://app.example")
        if path in values:
            raise click.UsageError(f"{path} is given twice on the command line")
        values[path] = text
    return values


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
