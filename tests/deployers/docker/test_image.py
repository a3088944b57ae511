"""What `asgipipe containerize` writes, built and run by hand."""

import socket
import tarfile
from contextlib import closing
from pathlib import Path

import httpx
import pytest

pytest.importorskip("docker")

from asgipipe.deployers.image import Recipe, image_context
from asgipipe.deployers.image.dockerfile import health_command
from asgipipe.testing.deployers import until
from tests.deployers.docker.workshop import Workshop, workload

pytestmark = pytest.mark.timeout(600)  # the first test of a run builds an image


def test_an_image_serves_by_itself(workshop: Workshop, tmp_path: Path) -> None:
    """Run as nobody with a read-only root, the image serves with a key of the environment, is healthy, and drains."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    recipe = Recipe.of(workload(tmp_path / "project", port=port))
    settings = workshop.settings()
    image_context(recipe, settings).write(tmp_path / "context")
    with closing(workshop.client()) as client:
        image, _ = client.images.build(path=str(tmp_path / "context"), rm=True, network_mode="host", tag="by-hand")
        container = client.containers.run(
            image,
            detach=True,
            network_mode="host",
            read_only=True,
            tmpfs={"/tmp": ""},  # noqa: S108  # inside of the container
            cap_drop=["ALL"],
            environment={"ASGIPIPE_AUTH_KEY": "a-key-of-the-environment", "LABEL": "one"},
        )
        try:
            until(lambda: answers(port), "an answer")
            assert ask(port, {}).status_code == 401
            assert ask(port, {"authorization": "Bearer a-key-of-the-environment"}).status_code == 200
            assert container.exec_run(health_command(recipe)).exit_code == 0
            container.stop(timeout=20)
            assert container.wait()["StatusCode"] == 0
        finally:
            container.remove(v=True, force=True)


def test_the_image_holds_nothing_of_the_build(workshop: Workshop) -> None:
    """No layer of an image has the certificates, arguments or tools that installed into it."""
    with closing(workshop.client()) as client:
        (image,) = [each for each in client.images.list() if any("asgipipe/deployed:" in tag for tag in each.tags)][:1]
        names: set[str] = set()
        with (Path(workshop.engine.url.removeprefix("unix://")).parent / "saved.tar").open("w+b") as saved:
            for chunk in image.save():
                saved.write(chunk)
            saved.seek(0)
            with tarfile.open(fileobj=saved) as layers:
                for layer in layers.getmembers():
                    if layer.name.endswith("layer.tar"):
                        content = layers.extractfile(layer)
                        assert content is not None
                        with tarfile.open(fileobj=content) as files:
                            names |= set(files.getnames())
        assert "app/service.py" in names
        assert not [name for name in names if name.startswith("build") or name.endswith("/uv")]


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def ask(port: int, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/invoke", json={"parameters": {}}, headers=headers)
