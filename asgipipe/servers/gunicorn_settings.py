"""What gunicorn is told: `gunicorn_kwargs`, checked, and what asgipipe decides itself."""

from collections.abc import Mapping
from difflib import get_close_matches
from math import ceil

from asgipipe.errors import ServerError, SettingsError, SettingsIssue
from asgipipe.servers.options import ServerOptions

try:
    import uvicorn_worker  # noqa: F401  # its workers' base, which gunicorn does not bring
    from gunicorn.config import Setting, make_settings
except ImportError as error:
    raise ServerError(
        'gunicorn and uvicorn-worker are not installed: pip install "asgipipe[gunicorn]", or use --server uvicorn'
    ) from error

TIMEOUT = 120
"""Seconds that a worker may hold the interpreter lock before it is replaced."""

_FOREIGN_WORKERS = "it is for gunicorn's own kinds of workers, and asgipipe runs uvicorn's"

# Settings that take effect around uvicorn's workers.
_HOOKS = {
    *("on_starting", "when_ready", "on_reload", "on_exit", "nworkers_changed"),
    *("pre_fork", "post_fork", "post_worker_init", "worker_exit", "child_exit"),
}
_TAKEN = {"timeout", "preload_app", "pidfile", "proc_name", "raw_env", "worker_tmp_dir", *_HOOKS}

# Settings that would undo what asgipipe does, or that have a name of their own here, each with what to use instead.
_REFUSED: Mapping[str, str] = {
    "accesslog": "use uvicorn_kwargs.access_log",
    "backlog": "use uvicorn_kwargs.backlog",
    "bind": "use uvicorn_host and uvicorn_port, or uvicorn_kwargs.uds or fd",
    "ca_certs": "use uvicorn_kwargs.ssl_ca_certs",
    "capture_output": "the log is written to stderr",
    "cert_reqs": "use uvicorn_kwargs.ssl_cert_reqs",
    "certfile": "use uvicorn_kwargs.ssl_certfile",
    "chdir": "change the folder before the command is run",
    "check_config": "use 'asgipipe settings check'",
    "ciphers": "use uvicorn_kwargs.ssl_ciphers",
    "config": "use the settings file of asgipipe",
    "control_socket": "the control socket stays closed",
    "control_socket_disable": "the control socket stays closed",
    "control_socket_mode": "the control socket stays closed",
    "daemon": "the command stays in the foreground; let a service manager put it into the background",
    "errorlog": "the log is written to stderr",
    "forwarded_allow_ips": "use uvicorn_kwargs.forwarded_allow_ips",
    "graceful_timeout": "use drain_timeout and hook_timeout",
    "group": "run the command as the user that it should be",
    "initgroups": "run the command as the user that it should be",
    "keepalive": "use uvicorn_kwargs.timeout_keep_alive",
    "keyfile": "use uvicorn_kwargs.ssl_keyfile",
    "limit_request_field_size": "use max_header_size",
    "limit_request_fields": "use max_header_count",
    "limit_request_line": "use max_header_size",
    "logconfig": "use log_level and log_format",
    "logconfig_dict": "use log_level and log_format",
    "logconfig_json": "use log_level and log_format",
    "logger_class": "use log_level and log_format",
    "loglevel": "use log_level",
    "max_requests": "use uvicorn_kwargs.limit_max_requests",
    "max_requests_jitter": "use uvicorn_kwargs.limit_max_requests_jitter",
    "pythonpath": "set PYTHONPATH before the command is run",
    "reload": "reload with SIGHUP, or on every change with --server uvicorn --reload",
    "reuse_port": "all workers share one socket",
    "root_path": "use uvicorn_kwargs.root_path",
    "ssl_version": "use uvicorn_kwargs.ssl_version",
    "threads": "use thread_pool_size",
    "umask": "set it before the command is run",
    "user": "run the command as the user that it should be",
    "worker_class": "asgipipe brings a worker class of its own",
    "workers": "use uvicorn_workers",
    "wsgi_app": "the application is made by asgipipe",
}

# Arguments of uvicorn's that are for the parent of its own workers.
_REFUSED_OF_UVICORN: Mapping[str, str] = {"timeout_worker_healthcheck": "use gunicorn_kwargs.timeout"}


def checked_gunicorn_settings(options: ServerOptions) -> dict[str, object]:
    """Return every setting of gunicorn's that is not its default.

    Raises SettingsError for a setting that gunicorn does not know, that would break the server or have no effect, or of
    a wrong value.
    """
    known = make_settings()
    issues = [
        SettingsIssue(f"uvicorn_kwargs.{name}", f"not taken with server gunicorn; {way_out}")
        for name, way_out in _REFUSED_OF_UVICORN.items()
        if name in options.uvicorn
    ]
    for name, value in options.gunicorn.items():
        reason = _reason(name, value, known)
        if reason is not None:
            issues.append(SettingsIssue(f"gunicorn_kwargs.{name}", reason))
    if issues:
        raise SettingsError(issues)
    ours = {
        "workers": options.workers,
        "timeout": TIMEOUT,
        "graceful_timeout": ceil(options.longest_stop),
        "default_proc_name": "asgipipe",
        "control_socket_disable": True,  # gunicorn opens one in the home folder
    }
    return {name: value for name, value in ours.items() if name in known} | dict(options.gunicorn)


def _reason(name: str, value: object, known: Mapping[str, Setting]) -> str | None:
    """Why the setting cannot be taken, or None."""
    if name in _REFUSED:
        return f"not taken; {_REFUSED[name]}"
    if name not in known:
        close = get_close_matches(name, _TAKEN, n=1)
        return "gunicorn has no such setting" + (f"; did you mean {close[0]}?" if close else "")
    if name not in _TAKEN:
        return f"not taken; {_FOREIGN_WORKERS}"
    if callable(value):
        return "expected an import string such as 'shop.hooks.post_fork'"
    try:
        known[name].set(value)
    except (AttributeError, TypeError, ValueError) as error:  # what gunicorn's validators raise
        return str(error)[:200]
    return None
