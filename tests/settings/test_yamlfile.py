import os
import tracemalloc
from pathlib import Path

import pytest

from asgipipe.errors import SettingsError
from asgipipe.settings import PipelineSection, resolve, yaml_file
from asgipipe.settings.yamlfile import LARGEST


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def refused(path: str | Path) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve([yaml_file(path).deployment])
    return str(caught.value)


def test_sections(file: Path) -> None:
    """The deployment's settings become a layer, the pipeline's a model of import strings."""
    file.write_text(
        "settings:\n  deployment:\n    app_title: x\n"
        "pipeline:\n  name: weather\n  blocking: false\n  on_init: shop:start\n  on_init_kwargs: {a: 1}\n"
    )
    found = yaml_file(file)
    assert found.deployment.values == {"app_title": "x"}
    assert found.deployment.place(("app_title",)) == f"{file}:3:5"
    assert found.pipeline.model_dump(exclude_unset=True) == {
        "name": "weather",
        "blocking": False,
        "on_init": "shop:start",
        "on_init_kwargs": {"a": 1},
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "settings:\n", "settings:\n  deployment:\npipeline:\n", "{}"])
def test_empty(text: str, file: Path) -> None:
    """A file, or a section, without content sets nothing."""
    file.write_text(text)
    found = yaml_file(file)
    assert found.deployment.values == {}
    assert found.pipeline == PipelineSection()
    assert set(resolve([found.deployment]).origins.values()) == {"default"}


def test_byte_order_mark(file: Path) -> None:
    """A byte order mark, as some editors write it, is no part of the text."""
    file.write_bytes(b"\xef\xbb\xbfsettings: {deployment: {app_title: \xc3\xbc}}")
    assert yaml_file(file).deployment.values == {"app_title": "ü"}


def test_missing(file: Path) -> None:
    """A file that is not there is an error, not an empty file."""
    assert refused(file) == f"{file}: there is no such file"


def test_folder(tmp_path: Path) -> None:
    """A folder in place of the file is named as such."""
    assert refused(tmp_path) == f"{tmp_path}: a folder, not a file"


def test_no_file_name() -> None:
    """A name no file can have is an error like others."""
    assert "cannot be read" in refused("a\0b")


def test_not_utf8(file: Path) -> None:
    """Text in another encoding is refused with its line."""
    file.write_bytes(b"settings:\n  deployment: {app_title: \xfc}\n")
    assert refused(file) == f"{file}:2: not text in UTF-8"
    file.write_bytes("settings: {}".encode("utf-16"))
    assert refused(file) == f"{file}:1: not text in UTF-8"


def test_large_file(file: Path) -> None:
    """A file of 100 MB is refused after its first MiB, without being read whole."""
    with file.open("wb") as sparse:
        sparse.truncate(100_000_000)
    tracemalloc.start()
    try:
        assert refused(file) == f"{file}: larger than 1024 KiB, which no settings file needs"
        assert tracemalloc.get_traced_memory()[1] < 4 * LARGEST
    finally:
        tracemalloc.stop()


def test_endless_file() -> None:
    """A device that never ends is refused like a large file."""
    assert "larger than" in refused("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_forbidden_file(file: Path) -> None:
    """A file that may not be read is an error with the system's reason."""
    file.touch(mode=0o000)
    assert refused(file) == f"{file}: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "1:1: expected a mapping"),
        ("word", "1:1: expected a mapping"),
        ("settings: 5", "1:1: settings: expected a mapping"),
        ("settings:\n  deployment: [a]", "2:3: settings.deployment: expected a mapping"),
        ("pipeline: x", "1:1: pipeline: expected a mapping"),
        ("setings: {}", "1:1: setings: unknown field; did you mean settings?"),
        ("snapshot: {name: full}", "1:1: snapshot: unknown field"),
        ("deployment: {}", "1:1: deployment: unknown field; it belongs under settings:"),
        ("uvicorn_port: 1", "1:1: uvicorn_port: unknown field; it belongs under settings: deployment:"),
        ("settings: {deploymnt: {}}", "1:12: settings.deploymnt: unknown field; did you mean deployment?"),
        ("settings: {}\nsettings: {}", "2:1: settings: written twice; the first one is in line 1"),
        ("pipeline: {on_init: 5}", None),
        ("pipeline: {input_model: nothing}", None),
        ("pipeline: {name: ''}", "1:12: pipeline.name: may not be empty"),
    ],
)
def test_wrong_structure(text: str, message: str | None, file: Path) -> None:
    """What is wrong around the settings and in the pipeline's section is reported with its place."""
    file.write_text(text)
    found = refused(file)
    assert found.startswith((f"{file}:1:", f"{file}:2:"))
    assert message is None or found == f"{file}:{message}"
