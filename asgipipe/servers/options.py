"""What the server itself is told: the settings that concern the process, not one deployment in it."""

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import uvicorn
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from asgipipe.errors import SettingsError, SettingsIssue
from asgipipe.servers.protocol import ProtocolLimits
from asgipipe.settings import DeploymentSettings

# Arguments of uvicorn's that would undo what asgipipe does, each with what to use instead.
_REFUSED: Mapping[str, str] = {
    "app": "the application is made by asgipipe",
    "factory": "the application is made by asgipipe",
    "interface": "the application is made by asgipipe",
    "lifespan": "deployments start and stop with the server",
    "host": "use uvicorn_host",
    "port": "use uvicorn_port",
    "workers": "use uvicorn_workers",
    "reload": "use uvicorn_reload",
    "log_level": "use log_level",
    "log_config": "use log_level and log_format",
    "use_colors": "lines are coloured on a terminal, unless NO_COLOR is set",
    "env_file": "set the variables before the command is run",
    "http": "asgipipe brings a protocol of its own, which bounds slow and large requests",
    "http2": "asgipipe brings a protocol of its own, for HTTP/1.1",
    "h11_max_incomplete_event_size": "use max_header_size",
    "limit_concurrency": "use max_concurrency and max_queue, which let probes through and say when to try again",
    "server_header": "use secure_headers.server",
    "timeout_graceful_shutdown": "use drain_timeout",
    "callback_notify": "use startup_hook",
    "timeout_notify": "use startup_hook",
    "reload_delay": "changes are collected for a moment by themselves",
    "reload_includes": "Python files and the settings file are watched",
    "reload_excludes": "Python files and the settings file are watched",
}


_RELOAD_DRAIN = 1.0
"""Seconds that requests have to finish when a source file changed: nobody edits while they wait for 25."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What one server command needs to know; it crosses to worker processes, so it holds plain values only.

    `drain_timeout` and `stop_timeout` are seconds: for requests in progress, and for the hooks after that.
    """

    host: str
    port: int
    workers: int = 1
    reload: bool = False
    log_level: int = 20
    log_format: Literal["text", "json"] = "text"
    drain_timeout: float = 25.0
    stop_timeout: float = 20.0
    limits: ProtocolLimits = field(default_factory=ProtocolLimits)
    uvicorn: Mapping[str, Any] = field(default_factory=dict)  # uvicorn's own arguments, each of a type of its own
    server: Literal["uvicorn", "gunicorn"] = "uvicorn"
    gunicorn: Mapping[str, object] = field(default_factory=dict)

    @property
    def longest_stop(self) -> float:
        """Seconds after which a process that was told to stop does not end by itself."""
        return self.drain_timeout + self.stop_timeout + 2.0

    @property
    def secure(self) -> bool:
        return bool(self.uvicorn.get("ssl_certfile"))


def server_options(settings: Sequence[DeploymentSettings], names: Sequence[str]) -> ServerOptions:
    """Return the options of the one server that serves deployments with `settings`; `names` name them in errors.

    What belongs to the server must be the same for all of them; of limits, the widest holds for the server, and each
    deployment keeps its own. Raises SettingsError.
    """
    first = settings[0]
    issues = [
        _disagreement(name, settings, names)
        for name in DeploymentSettings.model_fields
        if (name == "server" or name.startswith(("uvicorn_", "gunicorn_", "log_")))
        and any(getattr(each, name) != getattr(first, name) for each in settings)
    ]
    if issues:
        raise SettingsError(issues)
    return ServerOptions(
        host=first.uvicorn_host,
        port=first.uvicorn_port,
        workers=first.uvicorn_workers,
        reload=first.uvicorn_reload,
        log_level=int(first.log_level),
        log_format=first.log_format,
        drain_timeout=min(
            max(each.drain_timeout for each in settings), _RELOAD_DRAIN if first.uvicorn_reload else float("inf")
        ),
        stop_timeout=2 * sum(each.hook_timeout for each in settings),
        limits=ProtocolLimits(
            receive_timeout=max(each.receive_timeout for each in settings),
            send_timeout=max(each.send_timeout for each in settings),
            max_header_size=max(each.max_header_size for each in settings),
            max_message_size=max(each.max_message_size for each in settings),
        ),
        uvicorn=checked_uvicorn_options(first.uvicorn_kwargs),
        server=first.server,
        gunicorn=first.gunicorn_kwargs if first.server == "gunicorn" else {},
    )


def _disagreement(name: str, settings: Sequence[DeploymentSettings], names: Sequence[str]) -> SettingsIssue:
    values = ", ".join(f"{getattr(each, name)} for {owner}" for each, owner in zip(settings, names, strict=True))
    return SettingsIssue(
        name,
        f"one server serves all targets, but it is {values}",
        suggestion="set it on the command line, in the environment or in the settings file",
    )


def checked_uvicorn_options(given: Mapping[str, object]) -> dict[str, Any]:
    """Return `given` with each value as the type that `uvicorn.Config` declares.

    Raises SettingsError for an argument that uvicorn does not know, that would break the server, or of a wrong type.
    """
    known = inspect.signature(uvicorn.Config.__init__).parameters.keys() - {"self"}
    checked: dict[str, Any] = {}
    issues = []
    for name, value in given.items():
        try:
            checked[name] = _checked(name, value, known)
        except ValueError as error:
            issues.append(SettingsIssue(f"uvicorn_kwargs.{name}", str(error)))
    if issues:
        raise SettingsError(issues)
    return checked


def _checked(name: str, value: object, known: typing.AbstractSet[str]) -> object:
    if name in _REFUSED:
        raise ValueError(f"not taken; {_REFUSED[name]}")
    if name not in known:
        close = get_close_matches(name, known - _REFUSED.keys(), n=1)
        raise ValueError("uvicorn has no such argument" + (f"; did you mean {close[0]}?" if close else ""))
    hint = typing.get_type_hints(uvicorn.Config.__init__)[name]
    try:
        checked: object = TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise ValueError(error.errors(include_input=False, include_url=False)[0]["msg"].lower()) from None
    except PydanticSchemaGenerationError:  # a type of uvicorn's that only Python code can give
        checked = value
    return checked
