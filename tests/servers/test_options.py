import inspect
import re

import pytest
import uvicorn

from asgipipe.errors import SettingsError
from asgipipe.servers.options import _REFUSED, checked_uvicorn_options, server_options
from asgipipe.settings import DeploymentSettings


def test_values_get_the_types_that_uvicorn_declares() -> None:
    """What YAML or JSON gives becomes what uvicorn wants."""
    given = {"backlog": "64", "headers": [["x-a", "b"]], "forwarded_allow_ips": "*", "timeout_keep_alive": 7}
    checked = checked_uvicorn_options(given)
    assert checked == {"backlog": 64, "headers": [("x-a", "b")], "forwarded_allow_ips": "*", "timeout_keep_alive": 7}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bakclog", 1, "did you mean backlog?"),
        ("nonsense", 1, "uvicorn has no such argument"),
        ("backlog", "many", "integer"),
        ("self", 1, "uvicorn has no such argument"),
        ("port", 1, "use uvicorn_port"),
        ("log_config", None, "use log_level"),
        ("lifespan", "off", "start and stop with the server"),
        ("http", "h11", "slow and large requests"),
        ("limit_concurrency", 5, "use max_concurrency"),
    ],
)
def test_arguments_that_would_not_work_are_refused(name: str, value: object, reason: str) -> None:
    """Unknown arguments, wrong types, and those that would undo what asgipipe does are named with the way out."""
    with pytest.raises(SettingsError, match=rf"uvicorn_kwargs\.{name}: .*{re.escape(reason)}"):
        checked_uvicorn_options({name: value})


def test_every_refused_argument_exists() -> None:
    """The list of refused arguments follows uvicorn."""
    assert _REFUSED.keys() <= inspect.signature(uvicorn.Config).parameters.keys()


def test_the_server_takes_the_widest_limits() -> None:
    """Several deployments share a server: it waits as long as the most patient one, each keeps its own limits."""
    first = DeploymentSettings(drain_timeout=5, receive_timeout=9, max_header_size=1024, hook_timeout=2)
    second = DeploymentSettings(drain_timeout=7, receive_timeout=3, hook_timeout=3)
    options = server_options([first, second], ["a", "b"])
    assert options.drain_timeout == 7
    assert options.stop_timeout == 10
    assert options.limits.receive_timeout == 9
    assert options.limits.max_header_size == 32 * 1024


def test_what_concerns_the_server_must_be_the_same() -> None:
    """Deployments that want different ports, workers or logs are refused, with all differences at once."""
    first = DeploymentSettings(uvicorn_port=1, log_format="json")
    second = DeploymentSettings(uvicorn_port=2, uvicorn_workers=2)
    with pytest.raises(SettingsError) as caught:
        server_options([first, second], ["a", "b"])
    assert {issue.path for issue in caught.value.issues} == {"uvicorn_port", "uvicorn_workers", "log_format"}
    assert "1 for a, 2 for b" in str(caught.value)


def test_reloading_does_not_wait_long_for_requests() -> None:
    """Whoever edits a file does not wait for the drain time of production."""
    assert server_options([DeploymentSettings(uvicorn_reload=True)], ["a"]).drain_timeout == 1
