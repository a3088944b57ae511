import asyncio
import json
from pathlib import Path

from asgipipe import Deployment
from asgipipe.settings import Layer, command_line_layer, environment_layer, python_layer, yaml_file
from tests.conftest import exchange, lifespan

KEY = "a-key-for-the-test"

PYTHON = {
    "app_title": "Weather",
    "api_url_path": "/api",
    "auth_key": KEY,
    "include_default_endpoints": ["INVOKE", "STATUS", "HEALTH"],
    "cors": {"allow_origins": ["https://a.example", "https://b.example"], "allow_credentials": True},
    "secure_headers": {"hsts": False, "xfo": "SAMEORIGIN"},
    "max_queue": 7,
    "request_timeout": None,
    "drain_timeout": 2.5,
    "uvicorn_port": 8123,
    "log_level": "debug",
}

YAML = """\
settings:
  deployment:
    app_title: Weather
    api_url_path: /api
    auth_key: a-key-for-the-test
    include_default_endpoints: [INVOKE, STATUS, HEALTH]
    cors:
      allow_origins: [https://a.example, https://b.example]
      allow_credentials: true
    secure_headers: {hsts: false, xfo: SAMEORIGIN}
    max_queue: 7
    request_timeout: null
    drain_timeout: 2.5
    uvicorn_port: 8123
    log_level: debug
"""

ENVIRONMENT = {
    "ASGIPIPE_APP_TITLE": "Weather",
    "ASGIPIPE_API_URL_PATH": "/api",
    "ASGIPIPE_AUTH_KEY": KEY,
    "ASGIPIPE_INCLUDE_DEFAULT_ENDPOINTS": "invoke,status,health",
    "ASGIPIPE_CORS__ALLOW_ORIGINS": "https://a.example,https://b.example",
    "ASGIPIPE_CORS__ALLOW_CREDENTIALS": "true",
    "ASGIPIPE_SECURE_HEADERS__HSTS": "false",
    "ASGIPIPE_SECURE_HEADERS__XFO": "SAMEORIGIN",
    "ASGIPIPE_MAX_QUEUE": "7",
    "ASGIPIPE_REQUEST_TIMEOUT": "null",
    "ASGIPIPE_DRAIN_TIMEOUT": "2.5",
    "ASGIPIPE_UVICORN_PORT": "8123",
    "ASGIPIPE_LOG_LEVEL": "debug",
}

COMMAND_LINE = {
    "app_title": "Weather",
    "api_url_path": "/api",
    "auth_key": KEY,
    "include_default_endpoints": "INVOKE,STATUS,HEALTH",
    "cors.allow_origins": '["https://a.example", "https://b.example"]',
    "cors.allow_credentials": "true",
    "secure_headers.hsts": "false",
    "secure_headers.xfo": "SAMEORIGIN",
    "max_queue": "7",
    "request_timeout": "null",
    "drain_timeout": "2.5",
    "uvicorn_port": "8123",
    "log_level": "debug",
}


def predict(city: str) -> str:
    return city


def status(layer: Layer) -> bytes:
    async def main() -> bytes:
        app = Deployment(predict, layers=(layer,)).asgi_app
        async with lifespan(app):
            answer = await exchange(app, "/api/status", headers=[(b"authorization", b"Bearer " + KEY.encode())])
        assert answer.status == 200
        return answer.body

    return asyncio.run(main())


def test_the_same_settings_give_the_same_bytes_wherever_they_are_written(tmp_path: Path) -> None:
    """Python, YAML, environment and command line are equal in effect: /status answers byte for byte the same."""
    file = tmp_path / "settings.yaml"
    file.write_text(YAML, encoding="utf-8")
    expected = status(python_layer(PYTHON, "decorator"))
    assert json.loads(expected)["settings"]["cors"]["allow_origins"] == ["https://a.example", "https://b.example"]
    assert status(yaml_file(file).deployment) == expected
    assert status(environment_layer(ENVIRONMENT)) == expected
    assert status(command_line_layer(COMMAND_LINE)) == expected
