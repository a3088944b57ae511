"""What the pages need of this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import dockerd


@pytest.fixture(autouse=True)
def own_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the keys of deployments out of this user's file."""
    monkeypatch.setenv("ASGIPIPE_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def docker_flavor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The options that register a deployer of the tests' own engine."""
    with dockerd.engine_of_run(tmp_path_factory) as engine:
        values = dockerd.settings_for(engine)
        yield "--flavor docker " + " ".join(f"--set {name}={dockerd.option(value)}" for name, value in values.items())
