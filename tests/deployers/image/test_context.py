import json
import os
import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from asgipipe.deployers.image import Context, ImageSettings, Recipe, context, image_context
from asgipipe.deployers.image.distribution import Distribution
from asgipipe.errors import DeploymentError
from asgipipe.settings import yaml_file

Make = Callable[..., Context]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text("from asgipipe import pipeline\n", encoding="utf-8")
    return folder


@pytest.fixture
def make(project: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make the context of an image, with an asgipipe from an index."""
    monkeypatch.setattr(context, "this_distribution", lambda: Distribution("1.2"))

    def make(image: ImageSettings | None = None, **values: object) -> Context:
        defaults: dict[str, object] = {
            "target": "main.py",
            "name": "weather",
            "project": project,
            "settings": {"settings": {"deployment": {"log_level": "debug"}}},
            "scheme": "http",
            "port": 8000,
            "ready_path": "/ready",
        }
        recipe = Recipe(**{**defaults, **values})  # type: ignore[arg-type]
        return image_context(recipe, image or ImageSettings(extras=()))

    return make


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, in order."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def stages(text: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions(text):
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def digest(made: Context) -> str:
    file, digest = made.archive()
    file.close()
    return digest


def test_the_same_input_makes_the_same_bytes(make: Make, project: Path) -> None:
    """Neither times, nor owners, nor the order of files in a folder are in a context."""
    first = digest(make())
    os.utime(project / "main.py", (0, 0))
    (project / "main.py").chmod(0o600)
    assert digest(make()) == first
    (project / "main.py").write_text("other", encoding="utf-8")
    assert digest(make()) != first


def test_nothing_of_the_environment_is_in_a_context(make: Make) -> None:
    """Secrets of a deployment do not get into an image, though they tell what is to be installed."""
    made = make(ImageSettings(), environment={"ASGIPIPE_STORE_URL": "postgresql://u:canary@db/x", "KEY": "canary"})
    assert b"[" in made.files["build/asgipipe.txt"]  # type: ignore[operator]
    file, _ = made.archive()
    with file:
        assert b"canary" not in file.read()


def test_the_image_runs_as_nobody_and_says_how_it_is(make: Make) -> None:
    """The last stage has a user by number, a health check, a stop signal, a port, and commands without a shell."""
    *_, last = stages(make(port=8123, ready_path="/api/ready").dockerfile)
    found = dict(last)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", found["USER"])
    assert found["EXPOSE"] == "8123"
    assert found["STOPSIGNAL"] == "SIGTERM"
    command = json.loads(found["ENTRYPOINT"])
    assert command[:3] == ["asgipipe", "serve", "main.py"]
    probe = json.loads(found["HEALTHCHECK"].partition("CMD ")[2])
    compile(probe[-1], "probe", "exec")
    assert "8123" in probe[-1]
    assert "/api/ready" in probe[-1]
    assert "HTTPSConnection" not in probe[-1]
    assert last.index(("USER", found["USER"])) > max(n for n, (name, _) in enumerate(last) if name == "RUN")


def test_a_service_over_tls_is_asked_over_tls(make: Make) -> None:
    """The health check speaks what the service speaks."""
    assert "HTTPSConnection" in make(scheme="https").dockerfile


def test_what_installs_is_not_in_the_image(make: Make, tmp_path: Path) -> None:
    """Arguments, certificates and tools of the build are in a stage of which only the environment is copied."""
    authority = tmp_path / "authority.crt"
    authority.write_text("certificate", encoding="utf-8")
    settings = ImageSettings(extras=(), build_args={"TOKEN": "secret"}, ca_file=authority)
    made = make(settings)
    _, build, last = stages(made.dockerfile)
    assert ("ARG", "TOKEN") in build
    assert "secret" not in made.dockerfile
    copied = [rest for name, rest in last if name == "COPY"]
    assert copied == [
        "--from=build /opt/venv /opt/venv",
        "app /app",
        "settings.yaml /etc/asgipipe/settings.yaml",
    ]
    assert not [rest for name, rest in last if name == "ARG" or "ca.crt" in rest]


def test_the_dockerfile_is_plain(make: Make) -> None:
    """It has no tag `latest`, no ADD, no sudo, no apt lists left behind, and every file it copies is in the context."""
    settings = ImageSettings(extras=(), apt_packages=("libgomp1", "curl=7.88.1-10"), requirements=("numpy<3",))
    made = make(settings)
    text = made.dockerfile
    assert not re.search(r"^(ADD|MAINTAINER)|sudo|:latest|apt-get (upgrade|install (?!-y))", text, re.MULTILINE)
    assert "apt-get install -y --no-install-recommends curl=7.88.1-10 libgomp1 && rm -rf /var/lib/apt/lists/*" in text
    for name, rest in instructions(text):
        if name == "COPY" and not rest.startswith("--from"):
            source = rest.split()[0]
            assert any(file == source or file.startswith(f"{source}/") for file in made.files), source
    assert made.files["build/asgipipe.txt"] == b"asgipipe==1.2\nnumpy<3\n"


def test_odd_names_stay_words(make: Make, project: Path) -> None:
    """Quotes, dollars, spaces and line ends in a name neither end an instruction nor are expanded."""
    made = make(name='a "b" $HOME\nUSER root \\')
    *_, last = stages(made.dockerfile)
    assert [name for name, _ in last].count("USER") == 1
    label = next(rest for name, rest in last if name == "LABEL")
    assert r"\$HOME" in label
    words = dict(word.split("=", 1) for word in shlex.split(label))
    assert words["org.opencontainers.image.title"] == 'a "b" \\$HOME USER root \\'
    assert json.loads(dict(last)["ENTRYPOINT"])[4] == 'a "b" $HOME\nUSER root \\'


def test_the_settings_hold_inside(make: Make, tmp_path: Path) -> None:
    """The settings file is one that asgipipe reads, and listens where a published port leads."""
    made = make(port=8123)
    made.write(tmp_path / "out")
    values = yaml_file(tmp_path / "out" / "settings.yaml").deployment.values
    assert values == {"log_level": "debug", "uvicorn_host": "0.0.0.0", "uvicorn_port": 8123}


def test_requirements_of_the_project_are_installed(make: Make, project: Path) -> None:
    """They are in the context, and named in the command that installs."""
    (project / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    made = make()
    assert made.files["build/requirements/requirements.txt"] == b"numpy\n"
    assert "-r /build/requirements/requirements.txt" in made.dockerfile


def test_a_locked_project_is_installed_as_locked(make: Make, project: Path) -> None:
    """The versions of a uv.lock are taken from it in the build, but for asgipipe's own."""
    for name in ("uv.lock", "pyproject.toml"):
        (project / name).write_text("", encoding="utf-8")
    text = make().dockerfile
    assert "uv export --directory /build/requirements --frozen" in text
    assert "-r /build/locked.txt" in text


def test_packages_in_src_are_found(make: Make, project: Path) -> None:
    """A project that keeps its packages in src has them on the path."""
    assert "PYTHONPATH" not in make().dockerfile
    (project / "src").mkdir()
    assert "PYTHONPATH=/app/src" in make().dockerfile


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "/elsewhere/main.py"}, "not in"),
        ({"target": "../main.py:pipeline"}, "not in"),
        ({"project": Path("/nowhere/at/all")}, "no folder"),
        ({"settings": {"settings": {"deployment": {"store_url": "/var/lib/store.db"}}}}, "cannot be written"),
        ({"settings": {"settings": {"deployment": {"store_url": "store.db"}}}}, "cannot be written"),
    ],
)
def test_what_cannot_be_in_an_image_is_refused(make: Make, values: dict[str, object], message: str) -> None:
    """A target outside the project, and a store where nothing can be written, are errors before anything is built."""
    with pytest.raises(DeploymentError, match=message):
        make(**values)


@pytest.mark.parametrize("store", ["memory:", "postgresql://db.example/jobs", ".asgipipe/other.db"])
def test_stores_that_work_are_taken(make: Make, store: str) -> None:
    """Memory, PostgreSQL and files in the folder of the state can be had in a container."""
    assert make(settings={"settings": {"deployment": {"store_url": store}}}).dockerfile


def test_an_empty_project_is_refused(make: Make, project: Path) -> None:
    """An image without a file of the project would serve nothing."""
    (project / "main.py").unlink()
    with pytest.raises(DeploymentError, match="no files"):
        make(target="package.module:pipeline")


def test_a_context_is_written_as_it_is_archived(make: Make, tmp_path: Path, project: Path) -> None:
    """The folder and the archive hold the same files, executable ones too; what was there before is gone."""
    (project / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (project / "run.sh").chmod(0o755)
    made, folder = make(), tmp_path / "out"
    made.write(folder)
    (folder / "app" / "old.py").touch()
    made.write(folder)
    file, _ = made.archive()
    with file, tarfile.open(fileobj=file) as archive:
        members = {member.name: member for member in archive}
        assert all((member.uid, member.mtime) == (0, 0) for member in members.values())
        for path in folder.rglob("*"):
            if path.is_file():
                member = members.pop(path.relative_to(folder).as_posix())
                content = archive.extractfile(member)
                assert content is not None
                assert content.read() == path.read_bytes()
                assert bool(member.mode & 0o100) is bool(path.stat().st_mode & 0o100)
    assert members == {}


def test_a_folder_of_somebody_else_is_not_overwritten(make: Make, tmp_path: Path) -> None:
    """A folder with other files in it, or a file, is left as it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for name in ("mine", "mine/thesis.txt"):
        with pytest.raises(DeploymentError, match="--output"):
            make().write(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"base_image": "python\nRUN evil"},
        {"python_version": "3"},
        {"apt_packages": ["curl; rm -rf /"]},
        {"requirements": ["numpy\n--index-url https://evil.example"]},
        {"requirements": ["--index-url=https://evil.example"]},
        {"build_args": {"A B": "1"}},
        {"build_args": {"UV_DEFAULT_INDEX": "https://me:secret@index.example/simple"}},
        {"uv": "uv\nRUN evil"},
        {"unknown": 1},
    ],
)
def test_settings_that_are_no_words_are_refused(values: dict[str, object]) -> None:
    """Nothing that settings say can become an instruction or an option."""
    with pytest.raises(ValueError, match="validation error"):
        ImageSettings.model_validate(values)


def test_a_missing_certificate_is_said(make: Make, tmp_path: Path) -> None:
    """A ca_file that is not there is an error that names it."""
    with pytest.raises(DeploymentError, match=r"nowhere\.crt"):
        make(ImageSettings(ca_file=tmp_path / "nowhere.crt"))
