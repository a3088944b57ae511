import re

import pytest

pytest.importorskip("gunicorn")

from gunicorn.config import make_settings

from asgipipe.errors import SettingsError
from asgipipe.servers.gunicorn_settings import _REFUSED, _TAKEN, checked_gunicorn_settings
from asgipipe.servers.options import ServerOptions, server_options
from asgipipe.settings import DeploymentSettings


def options(given: dict[str, object] | None = None, **others: object) -> ServerOptions:
    settings = DeploymentSettings.model_validate({"server": "gunicorn", "gunicorn_kwargs": given or {}, **others})
    return server_options([settings], ["a"])


def test_settings_of_gunicorn_are_handed_on() -> None:
    """What is given goes over the defaults of asgipipe."""
    assert checked_gunicorn_settings(options())["timeout"] == 120
    checked = checked_gunicorn_settings(options({"timeout": 7, "preload_app": True}))
    assert checked["timeout"] == 7
    assert checked["preload_app"] is True


def test_gunicorn_never_kills_earlier_than_was_promised() -> None:
    """Its grace time is longer than the drain and the hooks after it, and its control socket stays closed."""
    checked = checked_gunicorn_settings(options(drain_timeout=40.5, hook_timeout=10, uvicorn_workers=3))
    assert checked["graceful_timeout"] == 63
    assert checked.get("control_socket_disable", True) is True  # older ones have none
    assert checked["workers"] == 3


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("timout", 1, "did you mean timeout?"),
        ("nonsense", 1, "gunicorn has no such setting"),
        ("timeout", "soon", "invalid literal"),
        ("bind", "0.0.0.0:80", "use uvicorn_host and uvicorn_port"),
        ("worker_class", "gthread", "a worker class of its own"),
        ("graceful_timeout", 1, "use drain_timeout"),
        ("max_requests", 1, "use uvicorn_kwargs.limit_max_requests"),
        ("control_socket", "here.ctl", "stays closed"),
        ("worker_connections", 1, "gunicorn's own kinds of workers"),
        ("post_fork", lambda server, worker: None, "import string"),
        ("post_fork", "nowhere.at_all", "nowhere"),
    ],
)
def test_settings_that_would_not_work_are_refused(name: str, value: object, reason: str) -> None:
    """Unknown names, wrong values, and what would undo what asgipipe does or do nothing: each with the way out."""
    with pytest.raises(SettingsError, match=rf"gunicorn_kwargs\.{name}: .*{re.escape(reason)}"):
        checked_gunicorn_settings(options({name: value}))


def test_an_argument_for_uvicorns_own_parent_is_refused() -> None:
    """The health check of our supervisor has no meaning under gunicorn, which has a time-out of its own."""
    with pytest.raises(SettingsError, match=r"uvicorn_kwargs\.timeout_worker_healthcheck: .*gunicorn_kwargs\.timeout"):
        checked_gunicorn_settings(options(uvicorn_kwargs={"timeout_worker_healthcheck": 5}))


def test_every_name_is_one_of_gunicorns() -> None:
    """The lists follow gunicorn, and none is on both."""
    newer_than_the_oldest = {"control_socket", "control_socket_disable", "control_socket_mode", "root_path"}
    assert _REFUSED.keys() | _TAKEN <= make_settings().keys() | newer_than_the_oldest
    assert not _REFUSED.keys() & _TAKEN
