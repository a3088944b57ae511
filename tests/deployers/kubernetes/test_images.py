"""Images that are built from the project and pushed, by a builder that writes down what it is told."""

import sys
import tarfile
from pathlib import Path

import pytest

from asgipipe.deployers.records import Workload
from asgipipe.errors import DeploymentError
from tests.deployers.kubernetes.samples import settings, workload

pytest.importorskip("lightkube")

from asgipipe_kubernetes import KubernetesDeployerSettings
from asgipipe_kubernetes.images import image_of, push

BUILDER = """#!{python}
import os, shutil, sys
from pathlib import Path
told = Path({folder!r})
with (told / "calls").open("a") as calls:
    print(*sys.argv[1:], "TOKEN" in os.environ and os.environ["TOKEN"], file=calls)
if sys.argv[1] == "build":
    with (told / "context.tar").open("wb") as archive:
        shutil.copyfileobj(sys.stdin.buffer, archive)
if sys.argv[1] == {fails!r}:
    print("no basic auth credentials")
    raise SystemExit(1)
"""


def builder(folder: Path, fails: str = "") -> KubernetesDeployerSettings:
    path = folder / "builder"
    path.write_text(BUILDER.format(python=sys.executable, folder=str(folder), fails=fails), encoding="utf-8")
    path.chmod(0o755)
    return settings(
        image=None,
        registry="ghcr.io/acme/",
        builder=str(path),
        extras=[],
        build_args={"TOKEN": "canary", "UNSET": None},
    )


@pytest.fixture
def given(tmp_path: Path) -> Workload:
    project = tmp_path / "project"
    project.mkdir()
    (project / "agent.py").write_text("", encoding="utf-8")
    return workload(project=str(project))


def test_an_image_is_built_and_pushed_under_the_name_of_its_content(tmp_path: Path, given: Workload) -> None:
    """The builder gets the whole context on its input, and secrets by its environment alone; then it pushes."""
    chosen = builder(tmp_path)
    said: list[str] = []
    name = push(given, chosen, said.append)
    assert name == image_of(given, chosen)
    assert name.startswith("ghcr.io/acme/weather:")
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls == [f"build --tag {name} --build-arg=TOKEN - canary", f"push {name} canary"]
    with tarfile.open(tmp_path / "context.tar") as archive:
        assert {"Dockerfile", "app/agent.py", "settings.yaml"} <= set(archive.getnames())
    assert said[-1] == f"pushing {name}"


def test_another_project_has_another_image(tmp_path: Path, given: Workload) -> None:
    """A name is that of one content, so that a node that has it need not fetch it again."""
    chosen = builder(tmp_path)
    before = image_of(given, chosen)
    Path(given.project, "agent.py").write_text("CHANGED = True\n", encoding="utf-8")
    assert image_of(given, chosen) != before


def test_a_push_that_fails_says_why(tmp_path: Path, given: Workload) -> None:
    """What the builder said is in the error; one that is not there is named."""
    with pytest.raises(DeploymentError, match=r"push' failed:\n    no basic auth credentials"):
        push(given, builder(tmp_path, fails="push"), lambda _: None)
    with pytest.raises(DeploymentError, match="no command 'no-such-builder' here"):
        push(given, settings(image=None, registry="a.b", builder="no-such-builder", extras=[]), lambda _: None)


def test_a_ready_image_is_taken_as_it_is(given: Workload) -> None:
    """Nothing is built where an image is given."""
    assert push(given, settings(builder="no-such-builder"), lambda _: None) == "ghcr.io/acme/weather:3"
