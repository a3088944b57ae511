import json
import subprocess
import sys

import pytest

import asgipipe
from asgipipe import client


@pytest.mark.parametrize("name", client.__all__)
def test_every_name_is_there(name: str) -> None:
    """What the package says it has can be had, and is defined where the table says."""
    assert getattr(client, name).__name__ == name
    assert name in dir(client)


def test_the_main_names_are_those_of_the_package() -> None:
    """The clients are public names of asgipipe, too; a name that is none is an AttributeError."""
    assert asgipipe.Client is client.Client
    assert asgipipe.DeploymentClient is client.DeploymentClient
    assert asgipipe.AsyncDeploymentClient is client.AsyncDeploymentClient
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = client.Clinet


def test_what_is_not_used_is_not_imported() -> None:
    """Neither `import asgipipe` nor the errors of clients bring httpx or the deployers with them."""
    program = """
import json, sys
import asgipipe
before = [*sys.modules]
from asgipipe.client import BusyError
print(json.dumps([before, [*sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert "asgipipe.client" not in before
    assert {"httpx", "asgipipe.deployers"}.isdisjoint(after)
