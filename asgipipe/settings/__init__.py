"""The settings of a deployment: the models, and loading them from Python, YAML, environment and command line."""

from asgipipe.settings.capture import CaptureLike, CapturePolicy
from asgipipe.settings.command_line import command_line_layer
from asgipipe.settings.cors import CORSConfig
from asgipipe.settings.deployment import DeploymentSettings, built_in_paths
from asgipipe.settings.environment import environment_layer
from asgipipe.settings.exposure import exposed_without_key, is_loopback
from asgipipe.settings.flags import DeploymentDefaultEndpoints, DeploymentDefaultMiddleware
from asgipipe.settings.headers import SecureHeadersConfig
from asgipipe.settings.layers import Layer, SettingsLike, python_layer
from asgipipe.settings.levels import LoggingLevels
from asgipipe.settings.pipeline import PipelineSection
from asgipipe.settings.resolution import Resolved, resolve
from asgipipe.settings.specs import AppExtensionSpec, EndpointMethod, EndpointSpec, MiddlewareSpec
from asgipipe.settings.yamlfile import YamlFile, yaml_file

__all__ = [
    "AppExtensionSpec",
    "CORSConfig",
    "CaptureLike",
    "CapturePolicy",
    "DeploymentDefaultEndpoints",
    "DeploymentDefaultMiddleware",
    "DeploymentSettings",
    "EndpointMethod",
    "EndpointSpec",
    "Layer",
    "LoggingLevels",
    "MiddlewareSpec",
    "PipelineSection",
    "Resolved",
    "SecureHeadersConfig",
    "SettingsLike",
    "YamlFile",
    "built_in_paths",
    "command_line_layer",
    "environment_layer",
    "exposed_without_key",
    "is_loopback",
    "python_layer",
    "resolve",
    "yaml_file",
]
