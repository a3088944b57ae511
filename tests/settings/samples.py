"""A value other than the default for every field, as Python and as the text of a variable or flag."""

from asgipipe.settings import DeploymentDefaultEndpoints, DeploymentDefaultMiddleware, LoggingLevels

ENDPOINT = {"path": "/predict", "method": "GET", "handler": "shop.api:predict", "auth_required": False}
MIDDLEWARE = {"middleware": "shop.web:Timing", "order": -3, "init_kwargs": {"limit": 2.5}}
EXTENSION = {"extension": "shop.web.Admin", "extension_kwargs": {"title": "Shop"}}

SAMPLES: dict[str, tuple[object, str]] = {
    "app_title": ("Weather", "Weather"),
    "app_description": ("Tells the weather: daily.", "Tells the weather: daily."),
    "app_version": ("1.10", "1.10"),
    "app_kwargs": ({"debug": True}, '{"debug": true}'),
    "root_url_path": ("/weather", "/weather"),
    "api_url_path": ("/api/v1", "/api/v1"),
    "docs_url_path": ("/a", "/a"),
    "redoc_url_path": ("/b", "/b"),
    "openapi_url_path": ("/c.json", "/c.json"),
    "invoke_url_path": ("/d", "/d"),
    "health_url_path": ("/e", "/e"),
    "ready_url_path": ("/f", "/f"),
    "info_url_path": ("/g", "/g"),
    "metrics_url_path": ("/h", "/h"),
    "status_url_path": ("/i/j", "/i/j"),
    "jobs_url_path": ("/k", "/k"),
    "stream_url_path": ("/l", "/l"),
    "runs_url_path": ("/m", "/m"),
    "include_default_endpoints": (["INVOKE", "health"], "invoke,HEALTH"),
    "include_default_middleware": (False, "false"),
    "dashboard_files_path": ("web/dist", "web/dist"),
    "custom_endpoints": (
        [ENDPOINT],
        '[{"path": "/predict", "method": "GET", "handler": "shop.api:predict", "auth_required": false}]',
    ),
    "custom_middlewares": (
        [MIDDLEWARE],
        '[{"middleware": "shop.web:Timing", "order": -3, "init_kwargs": {"limit": 2.5}}]',
    ),
    "app_extensions": ([EXTENSION], '[{"extension": "shop.web.Admin", "extension_kwargs": {"title": "Shop"}}]'),
    "auth_key": (["old,key", "[new]"], '["old,key", "[new]"]'),
    "generate_auth_key": (True, "true"),
    "cors": ({"allow_origins": ["https://a.example"]}, '{"allow_origins": ["https://a.example"]}'),
    "cors.allow_origins": (["https://a.example", "http://localhost:3000"], "https://a.example, http://localhost:3000"),
    "cors.allow_methods": (["GET"], "get"),
    "cors.allow_headers": (["authorization", "x-team"], "Authorization,X-Team"),
    "cors.allow_credentials": (True, "yes"),
    "secure_headers": (
        {"server": False, "csp": "default-src 'self'"},
        '{"server": false, "csp": "default-src \'self\'"}',
    ),
    "secure_headers.server": ("weather", "weather"),
    "secure_headers.hsts": (False, "false"),
    "secure_headers.xfo": ("SAMEORIGIN", "SAMEORIGIN"),
    "secure_headers.content": (False, "off"),
    "secure_headers.csp": ("default-src 'self'; img-src *", "default-src 'self'; img-src *"),
    "secure_headers.referrer": ("no-referrer", "no-referrer"),
    "secure_headers.cache": ("max-age=60, public", "max-age=60, public"),
    "secure_headers.permissions": (False, "0"),
    "error_messages": (False, "false"),
    "thread_pool_size": (4, "4"),
    "max_request_body_size": (1024, "1024"),
    "max_header_size": (8192, "8192"),
    "max_header_count": (50, "50"),
    "max_concurrency": (10, "10"),
    "max_queue": (0, "0"),
    "request_timeout": (None, "null"),
    "receive_timeout": (2.5, "2.5"),
    "send_timeout": (4, "4"),
    "drain_timeout": (1.0, "1e0"),
    "hook_timeout": (120, "120"),
    "on_disconnect": ("cancel", "cancel"),
    "store_url": ("postgresql://shop@db.example/jobs", "postgresql://shop@db.example/jobs"),
    "job_queue": ("shop.queue:Queue", "shop.queue:Queue"),
    "job_queue_kwargs": ({"channel": "jobs"}, '{"channel": "jobs"}'),
    "run_jobs": (False, "false"),
    "job_concurrency": (2, "2"),
    "max_pending_jobs": (1000, "1000"),
    "job_max_attempts": (1, "1"),
    "job_retries": (5, "5"),
    "job_retry_delay": (0.5, "0.5"),
    "job_timeout": (None, "null"),
    "job_resume": (False, "no"),
    "job_retention": (3600, "3600"),
    "max_job_events": (100, "100"),
    "idempotency_ttl": (60, "60"),
    "subscriber_queue": (10, "10"),
    "stream_heartbeat": (5, "5"),
    "max_message_size": (4096, "4096"),
    "max_subscriptions": (3, "3"),
    "capture": ("sampled(0.25, 7)", "sampled(0.25, 7)"),
    "capture.mode": ("full", "Full"),
    "capture.rate": (0.5, "0.5"),
    "capture.seed": (42, "42"),
    "capture.runs": (False, "off"),
    "capture.payloads": (True, "yes"),
    "capture.metadata": (True, "true"),
    "capture.logs": ("errors", "ERRORS"),
    "capture.persistence": ("memory", "memory"),
    "capture.flush_on_step_end": (True, "on"),
    "allow_capture_override": (False, "no"),
    "capture_retention": (None, "null"),
    "artifact_url": ("s3://weather/artifacts", "s3://weather/artifacts"),
    "startup_hook": ("shop.hooks:start", "shop.hooks:start"),
    "startup_hook_kwargs": ({"warm": True}, '{"warm": true}'),
    "shutdown_hook": ("shop.hooks.Stop.now", "shop.hooks.Stop.now"),
    "shutdown_hook_kwargs": ({"grace": None}, '{"grace": null}'),
    "uvicorn_host": ("0.0.0.0", "0.0.0.0"),
    "uvicorn_port": (0, "0"),
    "uvicorn_workers": (3, "3"),
    "uvicorn_reload": (True, "true"),
    "uvicorn_kwargs": ({"proxy_headers": False}, '{"proxy_headers": false}'),
    "server": ("gunicorn", "gunicorn"),
    "metrics_directory": ("/run/counters", "/run/counters"),
    "gunicorn_kwargs": ({"preload_app": True}, '{"preload_app": true}'),
    "log_level": ("debug", "10"),
    "log_format": ("json", "json"),
    "deployment_app_runner_flavor": ("shop.runner:Runner", "shop.runner:Runner"),
    "deployment_app_runner_kwargs": ({"x": [1, 2]}, '{"x": [1, 2]}'),
    "deployment_service_class": ("shop.service:Service", "shop.service:Service"),
    "deployment_service_kwargs": ({"y": "z"}, '{"y": "z"}'),
}

COMPANIONS: dict[str, dict[str, object]] = {
    "startup_hook_kwargs": {"startup_hook": "shop.hooks:start"},
    "shutdown_hook_kwargs": {"shutdown_hook": "shop.hooks:stop"},
    "capture.rate": {"capture": {"mode": "sampled"}},
    "capture.seed": {"capture": {"mode": "sampled", "rate": 0.5}},
    "capture.payloads": {"capture": {"mode": "CUSTOM", "runs": True}},
    "capture.metadata": {"capture": {"mode": "CUSTOM", "runs": True}},
    "capture.logs": {"capture": {"mode": "CUSTOM", "runs": True}},
    "capture.flush_on_step_end": {"capture": {"mode": "full"}},
}
"""What must be set beside a field so that it may be set."""

CONVERTED: dict[str, object] = {
    "include_default_endpoints": DeploymentDefaultEndpoints.INVOKE | DeploymentDefaultEndpoints.HEALTH,
    "include_default_middleware": DeploymentDefaultMiddleware.NONE,
    "log_level": LoggingLevels.DEBUG,
    "drain_timeout": 1.0,
}
"""What becomes of some of the samples."""


def nested(path: str, value: object) -> dict[str, object]:
    """Return the mapping that holds `value` at the dotted `path`."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def with_companions(path: str, value: object) -> dict[str, object]:
    """Return the mapping that holds `value` at the dotted `path`, and what must be set beside it."""
    values = nested(path, value)
    for name, companion in COMPANIONS.get(path, {}).items():
        own = values.get(name)
        values[name] = {**companion, **own} if isinstance(companion, dict) and isinstance(own, dict) else companion
    return values
