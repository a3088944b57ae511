import json
import subprocess
import sys

import pytest

import asgipipe

LAZY = [
    "click",
    "django",
    "fastapi",
    "importlib.metadata",
    "prometheus_client",
    "pydantic_settings",
    "quart",
    "starlette",
    "uvicorn",
    "yaml",
    "asgipipe.cli",
    "asgipipe.http",
    "asgipipe.pipelines.contract",
    "asgipipe.pipelines.graph",
    "asgipipe.pipelines.outputs",
    "asgipipe.runners",
    "asgipipe.servers",
    "asgipipe.service",
]


def in_new_process(program: str) -> object:
    """What a program prints as JSON, in an interpreter that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_asgipipe_loads_nothing_that_only_serving_needs() -> None:
    """No framework, server, YAML reader or exporter comes with `import asgipipe`, which is why it takes little time."""
    program = "import asgipipe, json, sys; print(json.dumps([*sys.modules]))"
    loaded = in_new_process(program)
    assert isinstance(loaded, list)
    assert "asgipipe.pipelines.pipeline" in loaded
    assert not [name for name in LAZY if name in loaded]


def test_importing_asgipipe_builds_no_validators() -> None:
    """The settings models are built when the first settings are made."""
    program = """
import asgipipe, json
models = [asgipipe.DeploymentSettings, asgipipe.CORSConfig, asgipipe.EndpointSpec]
before = [model.__pydantic_complete__ for model in models]
asgipipe.DeploymentSettings()
print(json.dumps([before, asgipipe.DeploymentSettings.__pydantic_complete__]))
"""
    assert in_new_process(program) == [[False, False, False], True]


def test_importing_asgipipe_starts_nothing() -> None:
    """After it there is one thread, and no signal handler or event loop: a server may fork now."""
    program = """
import asyncio, json, signal, threading
before = [signal.getsignal(number) for number in signal.valid_signals()]
import asgipipe
same = [signal.getsignal(number) for number in signal.valid_signals()] == before
print(json.dumps([threading.active_count(), same, asyncio._get_running_loop() is None]))
"""
    assert in_new_process(program) == [1, True, True]


@pytest.mark.parametrize("name", asgipipe.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    """`__all__` promises nothing that is not there, the names that are imported late included."""
    assert getattr(asgipipe, name) is not None
    assert name in dir(asgipipe)


def test_the_public_names_are_sorted_and_no_other_is_made_up() -> None:
    """The list is in order, and a name that is not on it is the error Python gives."""
    assert sorted(asgipipe.__all__) == asgipipe.__all__
    with pytest.raises(AttributeError, match="module 'asgipipe' has no attribute 'Pipelin'"):
        asgipipe.Pipelin  # noqa: B018  # that it fails is what is tested
