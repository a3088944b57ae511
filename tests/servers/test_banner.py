import json
import logging
import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from asgipipe import DeploymentSettings
from asgipipe.pipelines.pipeline import as_pipeline
from asgipipe.pipelines.target import LoadedTarget
from asgipipe.servers import banner
from asgipipe.servers.application import Plan
from asgipipe.servers.options import ServerOptions
from asgipipe.settings import PipelineSection

ORIGIN = "http://127.0.0.1:8000"


def announce(plans: list[Plan], options: ServerOptions, generated_key: str | None) -> None:
    banner.announce(banner.announcement(plans, options, ORIGIN, generated_key), options)


def plan_of(function: object, url_name: str = "", keys: tuple[str, ...] = (), **settings: object) -> Plan:
    pipeline = as_pipeline(function)
    loaded = LoadedTarget(pipeline, pipeline.name, Path.cwd(), "here")
    return Plan(
        loaded,
        pipeline.name,
        url_name,
        layers=(),
        section=PipelineSection(),
        settings=DeploymentSettings.model_validate(settings),
        auth_keys=keys,
    )


def hello(name: str) -> str:
    return name


def test_the_call_is_safe_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    """The curl line is one shell command with a JSON body, also when the example holds quotes."""

    def quoted(name: Annotated[str, Field(examples=['it\'s "so" $HOME'])]) -> str:
        return name

    announce([plan_of(quoted)], ServerOptions("127.0.0.1", 8000), None)
    line = re.search(r"curl .*", capsys.readouterr().err)
    assert line
    words = shlex.split(line.group())
    assert json.loads(words[words.index("-d") + 1]) == {"parameters": {"name": 'it\'s "so" $HOME'}}


def test_a_key_is_mentioned_and_a_generated_one_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With a key the call sends it; only one that was made up is printed."""
    announce([plan_of(hello, keys=("given-key",))], ServerOptions("127.0.0.1", 8000), None)
    text = capsys.readouterr().err
    assert "key required" in text
    assert "Bearer $KEY" in text
    assert "given-key" not in text
    announce([plan_of(hello, keys=("made-up",))], ServerOptions("127.0.0.1", 8000), "made-up")
    assert capsys.readouterr().err.count("made-up") == 1


def test_moved_and_missing_paths(capsys: pytest.CaptureFixture[str]) -> None:
    """URLs follow the settings, and what is switched off is not named."""
    moved = plan_of(hello, "hello", root_url_path="/v1", api_url_path="/api", invoke_url_path="/run")
    announce([moved, plan_of(hello, "other", include_default_endpoints="HEALTH")], ServerOptions("x", 1), None)
    text = capsys.readouterr().err
    assert f"{ORIGIN}/hello/v1/api/run" in text
    assert f"{ORIGIN}/hello/v1/docs" in text
    assert f"{ORIGIN}/other/invoke" not in text
    assert f"{ORIGIN}/pipelines" in text


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True), ("192.168.1.5", True)])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_open_address_is_warned_about(
    host: str, warned: bool, log_format: Literal["text", "json"], caplog: pytest.LogCaptureFixture
) -> None:
    """An address that others reach, without a key, is a warning at every start, whatever the log format."""
    options = ServerOptions(host, 8000, log_format=log_format)
    announce([plan_of(hello, uvicorn_host=host)], options, None)
    assert any(record.levelno == logging.WARNING for record in caplog.records) is warned
    caplog.clear()
    announce([plan_of(hello, keys=("k",), uvicorn_host=host)], options, None)
    assert not any(record.levelno == logging.WARNING for record in caplog.records)


def test_with_json_logs_the_banner_is_log_lines(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed beside the log."""
    with caplog.at_level(logging.INFO):
        announce([plan_of(hello, keys=("k",))], ServerOptions("x", 1, log_format="json"), "made-up")
    messages = [record.getMessage() for record in caplog.records]
    assert any(ORIGIN in message for message in messages)
    assert any("made-up" in message for message in messages)
    assert capsys.readouterr().err == ""
