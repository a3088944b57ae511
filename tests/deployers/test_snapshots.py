import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from asgipipe.deployers.fingerprint import changed
from asgipipe.deployers.frozen import settings_text
from asgipipe.deployers.identity import actor
from asgipipe.deployers.records import Service
from asgipipe.deployers.registry import Registry
from asgipipe.deployers.snapshots import MadeSnapshot, make_snapshot
from asgipipe.errors import DefinitionError, DeploymentError, SettingsError, SourceError
from asgipipe.pipelines.target import load_target
from asgipipe.servers.application import plan
from asgipipe.servers.specification import Specification
from asgipipe.stores.registry import database
from tests.conftest import Serve

PIPELINE = """
    from asgipipe import pipeline

    @pipeline(settings={settings})
    def weather(city: str, days: int = 1) -> str:
        '''Tells the weather.'''
        return city * days
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write files below a new current folder; what was imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)

    def write(name: str, text: str = PIPELINE, **code: object) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).replace("{settings}", repr(code)))
        return file

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def made(target: str, **options: object) -> MadeSnapshot:
    given: dict[str, object] = {"name": None, "project": Path.cwd(), "environ": {}, **options}
    return make_snapshot(target, **given)  # type: ignore[arg-type]  # each of the type of its parameter


def test_a_snapshot_says_all_there_is_to_know(write: Write, tmp_path: Path) -> None:
    """It names the pipeline, its place, its schemas, who made it, and what a deployer has to know of its service."""
    write("frozen_a.py", root_url_path="/of-the-code", hook_timeout=3)
    found = made(
        "frozen_a.py:weather",
        name="autumn",
        tags=["v1", "prod", "v1"],
        description="daily",
        values={"uvicorn_port": "9001", "api_url_path": "/api", "drain_timeout": "4"},
    )
    snapshot = found.snapshot
    assert (snapshot.name, snapshot.pipeline, snapshot.description) == ("autumn", "weather", "daily")
    assert (snapshot.target, snapshot.project) == ("frozen_a.py:weather", str(tmp_path))
    assert (snapshot.tags, snapshot.created_by) == (("v1", "prod"), actor())
    assert snapshot.service == Service(
        "http", "127.0.0.1", 9001, "/of-the-code/api", "/of-the-code/api/ready", 12.0, "/of-the-code/api/health"
    )
    assert snapshot.input_schema["required"] == ["city"]
    assert snapshot.output_schema["required"] == ["output"]
    assert snapshot.settings == {
        "settings": {"deployment": {"uvicorn_port": "9001", "api_url_path": "/api", "drain_timeout": "4"}}
    }
    assert not changed(snapshot)
    assert (found.secrets, found.keys, found.settings.uvicorn_port) == ({}, (), 9001)
    assert made("frozen_a:weather").snapshot.description == "Tells the weather."
    assert made("frozen_a:weather", values={"app_description": "x"}).snapshot.description == "x"


def test_two_snapshots_of_the_same_are_different(write: Write) -> None:
    """Each has an identifier of its own, the newer one the greater; their code is the same."""
    write("frozen_b.py")
    first, second = (made("frozen_b:weather").snapshot for _ in range(2))
    assert first.id < second.id
    assert first.fingerprint == second.fingerprint


def test_where_settings_come_from(write: Write) -> None:
    """The file, the environment and the command line are laid over each other; the code's own are not kept."""
    write("frozen_c.py", app_title="of the code", max_queue=3)
    write(
        "settings.yaml",
        """
        settings: {deployment: {uvicorn_port: 1, max_concurrency: 7, app_version: '1'}}
        pipeline: {name: renamed}
        """,
    )
    environ = {"ASGIPIPE_UVICORN_PORT": "2", "ASGIPIPE_APP_VERSION": "2", "HOME": "/root", "ASGIPIPE_OWNER": "eve"}
    found = made("frozen_c:weather", config_file="settings.yaml", environ=environ, values={"uvicorn_port": "3"})
    assert found.snapshot.settings == {
        "settings": {"deployment": {"uvicorn_port": "3", "max_concurrency": 7, "app_version": "2"}},
        "pipeline": {"name": "renamed"},
    }
    assert (found.snapshot.pipeline, found.snapshot.name) == ("renamed", "renamed")
    assert (found.settings.max_queue, found.settings.app_title) == (3, "of the code")


def test_the_environment_is_that_of_the_process_by_default(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ASGIPIPE_ variables say at that moment is kept."""
    write("frozen_d.py")
    monkeypatch.setenv("ASGIPIPE_MAX_QUEUE", "11")
    found = make_snapshot("frozen_d:weather", name=None, project=Path.cwd())
    assert found.snapshot.settings == {"settings": {"deployment": {"max_queue": "11"}}}


def test_no_secret_is_kept(write: Write, tmp_path: Path) -> None:
    """Keys, passwords and what is called a secret stand in no row of the registry, nor in a representation."""
    write("frozen_e.py")
    write(
        "settings.yaml",
        """
        settings:
          deployment:
            auth_key: [canary-one, canary-two]
            store_url: postgresql://ada:canary-three@db.example/jobs
            uvicorn_kwargs: {ssl_keyfile_password: canary-four}
        """,
    )
    found = made("frozen_e:weather", config_file="settings.yaml")
    assert found.keys == ("canary-one", "canary-two")
    assert found.secrets == {
        "ASGIPIPE_STORE_URL": "postgresql://ada:canary-three@db.example/jobs",
        "ASGIPIPE_UVICORN_KWARGS": '{"ssl_keyfile_password": "canary-four"}',
    }
    assert "canary" not in repr(found)
    with Registry(database(str(tmp_path / "store.db"))) as registry:
        assert registry.add_snapshot(found.snapshot) == found.snapshot
    files = [file for file in tmp_path.iterdir() if file.name.startswith("store.db")]
    assert files
    assert not any(b"canary" in file.read_bytes() for file in files)


def test_a_key_of_the_code_is_known(write: Write) -> None:
    """A key that the decorator gives is told to whoever deploys, and stays with the code."""
    write("frozen_f.py", auth_key="of-the-code")
    found = made("frozen_f:weather")
    assert found.keys == ("of-the-code",)
    assert "of-the-code" not in json.dumps(found.snapshot.settings)


@pytest.mark.parametrize(
    "given_target", ["deep/frozen_g.py:weather", "{folder}/deep/frozen_g.py", "./deep/frozen_g.py"]
)
def test_a_path_is_found_from_the_project(given_target: str, write: Write, tmp_path: Path) -> None:
    """However the path of a file was given, the snapshot names it as it is found from the project, also later."""
    write("deep/frozen_g.py")
    found = made(given_target.format(folder=tmp_path)).snapshot
    assert found.target in ("deep/frozen_g.py:weather", "deep/frozen_g.py")
    assert load_target(found.target).name == "weather"


def test_another_project(write: Write, tmp_path: Path) -> None:
    """A project that is not the current folder: its modules are found, a path is changed, and the folder stays."""
    write("project/frozen_h.py")
    write("project/settings.yaml", "settings: {deployment: {max_queue: 1}}\n")
    here, project = Path.cwd(), tmp_path / "project"
    by_path = made("project/frozen_h.py:weather", project=project, config_file="project/settings.yaml")
    by_name = made("frozen_h:weather", project=Path("project"))
    assert (by_path.snapshot.target, by_name.snapshot.target) == ("frozen_h.py:weather", "frozen_h:weather")
    assert by_path.snapshot.project == by_name.snapshot.project == str(project)
    assert by_path.settings.max_queue == 1
    assert Path.cwd() == here


def test_a_file_outside_of_the_project(write: Write, tmp_path: Path) -> None:
    """It is named by its whole path."""
    file = write("elsewhere/frozen_i.py")
    (tmp_path / "project").mkdir()
    assert made("elsewhere/frozen_i.py", project=tmp_path / "project").snapshot.target == str(file)


def test_a_module_beside_a_script(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that was found through a Python path which nobody has later is named by its path, parts and all."""
    write("scripts/frozen_j.py")
    write("scripts/frozen_k/__init__.py", "")
    write("scripts/frozen_k/inner.py")
    monkeypatch.syspath_prepend(str(tmp_path / "scripts"))
    assert made("frozen_j:weather").snapshot.target == "scripts/frozen_j.py:weather"
    assert made("frozen_k.inner:weather").snapshot.target == "scripts/frozen_k/inner.py:weather"
    write("frozen_l/__init__.py", "")
    write("frozen_l/inner.py")
    assert made("frozen_l.inner:weather").snapshot.target == "frozen_l.inner:weather"


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"target": "none:weather"}, SourceError, "there is no module named 'none'"),
        ({"target": "none.py"}, SourceError, "does not exist"),
        ({"target": "frozen_m:wether"}, SourceError, "did you mean 'weather'"),
        ({"target": "frozen_m:opaque"}, DefinitionError, "opaque"),
        ({"values": {"uvicorn_port": "x"}}, SettingsError, "--port"),
        ({"environ": {"ASGIPIPE_UVICORN_PROT": "1"}}, SettingsError, "did you mean ASGIPIPE_UVICORN_PORT"),
        ({"config_file": "none.yaml"}, SettingsError, "none.yaml"),
        ({"values": {"uvicorn_kwargs": '{"intreface": 1}'}}, SettingsError, "uvicorn_kwargs.intreface"),
        ({"name": "a\n"}, DeploymentError, "1 to 100 printable"),
        ({"name": ""}, DeploymentError, "1 to 100 printable"),
        ({"tags": ["a" * 101]}, DeploymentError, "cannot name a tag"),
        ({"tags": [str(number) for number in range(101)]}, DeploymentError, "100 tags at most"),
        ({"project": Path("none")}, DeploymentError, "none' is no folder"),
    ],
)
def test_mistakes_are_found_before_anything_is_kept(
    options: dict[str, object], error: type[Exception], reason: str, write: Write
) -> None:
    """What could not be served is refused when the snapshot is made."""
    write("frozen_m.py", PIPELINE + "\n    class Opaque: ...\n\n    def opaque(x: Opaque) -> int: ...\n")
    target = str(options.pop("target", "frozen_m:weather"))
    with pytest.raises(error) as refused:
        made(target, **options)
    assert reason in str(refused.value)


def test_the_automatic_name(write: Write) -> None:
    """It is the pipeline's, without the spaces at its ends that no snapshot has."""
    write("frozen_n.py", PIPELINE.replace("settings={settings}", "name=' rain '"))
    assert made("frozen_n:weather").snapshot.name == "rain"
    write("frozen_o.py", PIPELINE.replace("settings={settings}", "name=' '"))
    assert made("frozen_o:weather").snapshot.name == "pipeline"


def test_relative_paths_start_at_the_project(write: Write, tmp_path: Path) -> None:
    """A path in the settings is kept as it is, and means the same when the snapshot is served from the project."""
    write("project/frozen_p.py")
    settings = {"store_url": "data/store.db", "artifact_url": "data", "dashboard_files_path": "web"}
    found = made("frozen_p:weather", project=tmp_path / "project", values=settings)
    assert found.snapshot.settings == {"settings": {"deployment": settings}}


def test_what_is_served_is_what_was_frozen(write: Write, serve: Serve, tmp_path: Path) -> None:
    """`asgipipe serve TARGET -c FILE` in the project, with the secrets as variables, is the service of the snapshot."""
    write("project/deep/frozen_q.py", app_title="of the code", capture="metadata")
    write(
        "settings.yaml",
        """
        settings:
          deployment:
            auth_key: canary-key
            api_url_path: /api
            store_url: data/store.db
            secure_headers: {server: weather}
        pipeline: {name: regen}
        """,
    )
    project = tmp_path / "project"
    found = made(
        "project/deep/frozen_q.py",
        project=project,
        config_file="settings.yaml",
        environ={"ASGIPIPE_CAPTURE_DEFAULT": "full", "ASGIPIPE_MAX_QUEUE": "7"},
        values={"app_description": "täglich 😀\u2028neu"},
    )
    file = tmp_path / "frozen.yaml"
    file.write_text(settings_text(found.snapshot.settings), encoding="utf-8")
    environ = {**found.secrets, "ASGIPIPE_AUTH_KEY": json.dumps(found.keys)}
    served = serve(found.snapshot.target, "-c", file, "--name", "rain", cwd=project, env=environ)

    headers = {"authorization": "Bearer canary-key"}
    assert httpx.get(f"{served.url}{found.snapshot.service.ready_path}").json()["status"] == "ready"
    assert httpx.get(f"{served.url}/api/info").status_code == httpx.codes.UNAUTHORIZED
    answer = httpx.get(f"{served.url}/api/info", headers=headers)
    assert answer.headers["server"] == "weather"
    document = httpx.get(f"{served.url}/openapi.json", headers=headers).json()
    assert (document["info"]["title"], document["info"]["description"]) == ("of the code", "täglich 😀\u2028neu")
    ran = httpx.post(f"{served.url}/api/invoke", headers=headers, json={"parameters": {"city": "Rome"}}).json()
    assert ran["outputs"] == {"output": "Rome"}
    assert ran["metadata"]["deployment_id"]
    assert served.stop() == 0
    assert (project / "data" / "store.db").is_file()


def test_the_plan_is_the_same(write: Write, tmp_path: Path) -> None:
    """Planned from the frozen file, the settings in force equal those that were resolved when it was frozen."""
    write("frozen_r.py", thread_pool_size=3, cors={"allow_methods": ["GET"]})
    write(
        "settings.yaml",
        """
        settings:
          deployment:
            cors: {allow_origins: [https://a.example]}
            custom_endpoints: [{path: /a, method: get, handler: frozen_r:weather}]
            include_default_endpoints: [API, docs]
            max_request_body_size: 1024
            log_level: debug
        capture: sampled(0.5)
        """,
    )
    found = made("frozen_r:weather", config_file="settings.yaml", environ={"ASGIPIPE_CAPTURE__SEED": "3"})
    file = tmp_path / "frozen.yaml"
    file.write_text(settings_text(found.snapshot.settings), encoding="utf-8")
    (planned,) = plan(Specification((found.snapshot.target,), str(file)), {**found.secrets, "PATH": os.defpath})
    assert planned.settings == found.settings
