import json
from importlib.metadata import Distribution as Installed
from pathlib import Path

import pytest

from asgipipe.deployers.image import distribution
from asgipipe.deployers.image.distribution import Distribution, extras_of, this_distribution
from asgipipe.errors import DeploymentError


class Pretended(Installed):
    """An installation of asgipipe 1.2 from the URL `origin`, or from an index."""

    def __init__(self, origin: str | None) -> None:
        self.origin = origin

    def read_text(self, filename: str) -> str | None:
        if filename == "direct_url.json":
            return None if self.origin is None else json.dumps({"url": self.origin})
        return "Name: asgipipe\nVersion: 1.2\n"

    def locate_file(self, path: object) -> Path:
        raise NotImplementedError


def pretend(monkeypatch: pytest.MonkeyPatch, origin: str | None) -> Distribution:
    monkeypatch.setattr(distribution, "distribution", lambda _: Pretended(origin))
    return this_distribution.__wrapped__()


def test_what_came_from_an_index_comes_from_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that runs here is pinned."""
    found = pretend(monkeypatch, None)
    assert found.requirement([], "/wheels") == "asgipipe==1.2"
    assert found.requirement(["postgres", "gunicorn"], "/wheels") == "asgipipe[gunicorn,postgres]==1.2"


def test_a_wheel_that_was_installed_is_taken_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was installed from a wheel on this machine is installed from it in the image."""
    (tmp_path / "asgipipe-1.2-py3-none-any.whl").write_bytes(b"wheel")
    found = pretend(monkeypatch, (tmp_path / "asgipipe-1.2-py3-none-any.whl").as_uri())
    assert found.wheel == ("asgipipe-1.2-py3-none-any.whl", b"wheel")
    assert found.requirement(["docs"], "/w") == "asgipipe[docs] @ file:///w/asgipipe-1.2-py3-none-any.whl"


def test_what_is_gone_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An origin that is no longer there is an error, and not another version."""
    with pytest.raises(DeploymentError, match="no longer there"):
        pretend(monkeypatch, (tmp_path / "gone").as_uri())


def test_a_checkout_that_cannot_be_built_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last lines of a build that failed are in the error."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'asgipipe'\n")
    with pytest.raises(DeploymentError, match="cannot be built"):
        pretend(monkeypatch, tmp_path.as_uri())


@pytest.mark.parametrize(
    ("values", "environment", "expected"),
    [
        ({}, {}, set()),
        ({"server": "gunicorn"}, {}, {"gunicorn"}),
        ({"server": "uvicorn"}, {"ASGIPIPE_SERVER": "gunicorn"}, {"gunicorn"}),
        ({"deployment_app_runner_flavor": "fastapi"}, {}, {"fastapi"}),
        ({"deployment_app_runner_flavor": "mine:Runner"}, {}, set()),
        ({"store_url": "postgresql://db/jobs"}, {}, {"postgres"}),
        ({}, {"ASGIPIPE_STORE_URL": "postgresql://u:p@db/jobs"}, {"postgres"}),
        ({"job_queue": "postgres"}, {}, {"postgres"}),
    ],
)
def test_settings_tell_the_extras(values: dict[str, object], environment: dict[str, str], expected: set[str]) -> None:
    """What the settings ask for is installed, whether the file or the environment says it."""
    assert extras_of(values, environment) - {"docs"} == expected
