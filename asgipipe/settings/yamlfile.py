"""Settings from a YAML file: `settings: {deployment: {...}}`, with `pipeline: {...}` and `capture: ...` beside it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from asgipipe.errors import SettingsError, SettingsIssue
from asgipipe.settings.deployment import DeploymentSettings
from asgipipe.settings.fields import did_you_mean, dotted, public
from asgipipe.settings.issues import issues_of
from asgipipe.settings.layers import Layer
from asgipipe.settings.pipeline import PipelineSection
from asgipipe.settings.quantities import MEBIBYTE
from asgipipe.settings.sections import Path

if TYPE_CHECKING:
    from asgipipe.settings.document import Document

LARGEST = MEBIBYTE
"""Bytes a settings file may have."""

DEPLOYMENT: Path = ("settings", "deployment")
PIPELINE: Path = ("pipeline",)
CAPTURE: Path = ("capture",)


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a file says. Mistakes in any part of it are among the issues of `deployment`, for `resolve` to raise."""

    deployment: Layer
    pipeline: PipelineSection


def yaml_file(path: str | os.PathLike[str]) -> YamlFile:
    """Read the settings file at `path`. Raises SettingsError when it cannot be read as YAML at all."""
    name = os.fspath(path)
    return _File(name, _document(name, _text(name))).read()


def _text(name: str) -> str:
    try:
        with FilePath(name).open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise _refusal(name, _reason(error)) from None
    if len(data) > LARGEST:
        raise _refusal(name, f"larger than {LARGEST // 1024} KiB, which no settings file needs")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _refusal(f"{name}:{line}", "not text in UTF-8") from None


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return f"cannot be read: {(isinstance(error, OSError) and error.strerror) or error}"


def _document(name: str, text: str) -> "Document":
    from asgipipe.settings.document import DocumentError, read

    try:
        return read(text)
    except DocumentError as error:
        raise _refusal(f"{name}:{error.line}:{error.column}", error.message) from None


def _refusal(place: str, message: str) -> SettingsError:
    return SettingsError([SettingsIssue("", message, place)])


class _File:
    def __init__(self, name: str, document: "Document") -> None:
        self._name = name
        self._document = document
        self._issues: list[SettingsIssue] = []

    def read(self) -> YamlFile:
        for path, line, column in self._document.repeated:
            first, _ = self._document.places[path]
            self._refuse(
                path, f"written twice; the first one is in line {first}", place=f"{self._name}:{line}:{column}"
            )
        root = self._mapping(self._document.value, ())
        self._refuse_others(root, (), ["settings", "pipeline", "capture"])
        settings = self._mapping(root.get("settings"), ("settings",))
        self._refuse_others(settings, ("settings",), ["deployment"])
        pipeline = self._pipeline(self._layer(root.get("pipeline"), PIPELINE))
        values = self._mapping(settings.get("deployment"), DEPLOYMENT)
        capture = self._capture(root, values)
        return YamlFile(replace(self._layer(values, DEPLOYMENT), parts=capture), pipeline)

    def _capture(self, root: Mapping[str, object], deployment: Mapping[str, object]) -> tuple[Layer, ...]:
        if root.get("capture") is None:
            return ()
        if "capture" in deployment:
            self._refuse(CAPTURE, f"given in {dotted((*DEPLOYMENT, 'capture'))} as well; keep one of the two")
        places = {path: place for path, place in self._places(()).items() if path[:1] == CAPTURE}
        return (Layer(self._name, {"capture": root["capture"]}, places),)

    def _layer(self, value: object, prefix: Path) -> Layer:
        values = self._mapping(value, prefix)
        return Layer(self._name, values, self._places(prefix), prefix, tuple(self._issues))

    def _places(self, prefix: Path) -> dict[Path, str]:
        return {
            path[len(prefix) :]: f"{self._name}:{line}:{column}"
            for path, (line, column) in self._document.places.items()
            if path[: len(prefix)] == prefix
        }

    def _pipeline(self, layer: Layer) -> PipelineSection:
        try:
            return PipelineSection.model_validate(layer.values)
        except ValidationError as error:
            self._issues += issues_of(error, PipelineSection, lambda path: layer)
            return PipelineSection()

    def _mapping(self, value: object, path: Path) -> Mapping[str, object]:
        """Return a section; one whose content is commented out is empty."""
        if isinstance(value, dict):
            return value
        if value is not None:
            self._refuse(path, "expected a mapping")
        return {}

    def _refuse_others(self, values: Mapping[str, object], path: Path, known: list[str]) -> None:
        for key in values:
            if key in known:
                continue
            suggestion = did_you_mean(key, known)
            if key in DeploymentSettings.model_fields:
                suggestion = "it belongs under settings: deployment:"
            elif key == "deployment":
                suggestion = "it belongs under settings:"
            self._refuse((*path, key), "unknown field", suggestion)

    def _refuse(self, path: Path, message: str, suggestion: str | None = None, place: str | None = None) -> None:
        depth = len(DEPLOYMENT)
        if path[:depth] == DEPLOYMENT:
            path = (*DEPLOYMENT, *public(DeploymentSettings, path[depth:]))
        if place is None:
            line, column = self._document.places.get(path, (1, 1))
            place = f"{self._name}:{line}:{column}"
        self._issues.append(SettingsIssue(dotted(path), message, place, suggestion))
