import json
import subprocess
import sys

PACKAGES = {
    "click",
    "django",
    "fastapi",
    "flask",
    "httpx",
    "importlib.metadata",
    "prometheus_client",
    "quart",
    "starlette",
    "uvicorn",
    "yaml",
}
PARTS = {
    "asgipipe.cli",
    "asgipipe.client",
    "asgipipe.deployers",
    "asgipipe.http",
    "asgipipe.pipelines.contract",
    "asgipipe.pipelines.flow",
    "asgipipe.pipelines.graph",
    "asgipipe.pipelines.outputs",
    "asgipipe.runners",
    "asgipipe.servers",
    "asgipipe.service",
}


def in_a_new_process(program: str) -> object:
    """Return what a program prints as JSON, in an interpreter that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_defining_pipelines_loads_nothing_that_only_serving_needs() -> None:
    """No framework or server comes with `import asgipipe`, nor what reads contracts and graphs."""
    program = """
import json, sys
from asgipipe import DeploymentSettings, pipeline, step

@step
def double(value: int) -> int:
    return 2 * value

@pipeline
def served(value: "int") -> int:
    return double(value)

print(json.dumps([served(2), *sys.modules]))
"""
    loaded = in_a_new_process(program)
    assert isinstance(loaded, list)
    assert loaded[0] == 4
    assert {"pydantic", "asgipipe.pipelines.pipeline"} <= {*loaded[1:]}
    assert (PACKAGES | PARTS) & {*loaded[1:]} == set()


def test_a_plain_deployment_loads_nothing_that_only_others_need() -> None:
    """Not what makes custom endpoints, not the reader of settings files, and of Starlette no router."""
    program = """
import json, sys
import asgipipe.runners.deployment, asgipipe.runners.base
print(json.dumps([*sys.modules]))
"""
    loaded = in_a_new_process(program)
    assert isinstance(loaded, list)
    assert {"asgipipe.http.builtin", "asgipipe.jobs.local"} <= {*loaded}
    unwanted = {"anyio", "asgipipe.http.binding.bound", "asgipipe.settings.document", "psycopg", "starlette.routing"}
    assert unwanted & {*loaded} == set()


def test_importing_builds_no_validators() -> None:
    """The settings models are built when the first settings are made."""
    program = """
import asgipipe, json
models = [asgipipe.DeploymentSettings, asgipipe.CORSConfig, asgipipe.EndpointSpec]
before = [model.__pydantic_complete__ for model in models]
asgipipe.DeploymentSettings()
print(json.dumps([before, asgipipe.DeploymentSettings.__pydantic_complete__]))
"""
    assert in_a_new_process(program) == [[False, False, False], True]


def test_importing_starts_nothing() -> None:
    """After it there is one thread, no event loop, and no signal handler that was not there: a server may fork now."""
    program = """
import asyncio, json, signal, threading
before = [signal.getsignal(number) for number in signal.valid_signals()]
import asgipipe
same = [signal.getsignal(number) for number in signal.valid_signals()] == before
print(json.dumps([threading.active_count(), same, asyncio._get_running_loop() is None]))
"""
    assert in_a_new_process(program) == [1, True, True]


def test_importing_costs_less_than_the_import_of_pydantic() -> None:
    """Of the time that `import asgipipe` takes, most is pydantic's: measured against that, no machine is too slow."""
    program = """
import json, time
start = time.process_time()
from pydantic import BaseModel, TypeAdapter
class Model(BaseModel):
    number: int
theirs = time.process_time()
import asgipipe
print(json.dumps((time.process_time() - theirs) / (theirs - start)))
"""
    ratios = [in_a_new_process(program) for _ in range(3)]
    assert min(ratio for ratio in ratios if isinstance(ratio, float)) < 1
