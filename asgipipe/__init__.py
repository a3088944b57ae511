"""Put a Python pipeline behind HTTP, inside the web application you already have."""

from importlib import import_module
from typing import TYPE_CHECKING

from asgipipe.errors import (
    AsgipipeError,
    DefinitionError,
    DeploymentError,
    HTTPError,
    OutputError,
    OutsideRunError,
    RunCanceled,
    RunError,
    RunTimeoutError,
    ServerError,
    SettingsError,
    SourceError,
    StartupError,
    StepExitError,
    StepTimeoutError,
    StoreError,
    UserError,
)
from asgipipe.pipelines.context import StepContext, get_step_context
from asgipipe.pipelines.pipeline import Pipeline, pipeline
from asgipipe.pipelines.step import Step, step
from asgipipe.settings import (
    AppExtensionSpec,
    CapturePolicy,
    CORSConfig,
    DeploymentDefaultEndpoints,
    DeploymentDefaultMiddleware,
    DeploymentSettings,
    EndpointMethod,
    EndpointSpec,
    LoggingLevels,
    MiddlewareSpec,
    SecureHeadersConfig,
)

if TYPE_CHECKING:
    from asgipipe.client.asynchronous import AsyncDeploymentClient
    from asgipipe.client.client import Client
    from asgipipe.client.sync import DeploymentClient
    from asgipipe.runners.base import BaseDeploymentAppRunner
    from asgipipe.runners.deployment import Deployment, asgi
    from asgipipe.runners.extension import BaseAppExtension
    from asgipipe.service.deployment import BaseDeploymentService, DeploymentResponse, DeploymentService

__version__ = "0.1.0.dev0"

# What serves a pipeline is imported when it is used: a module that only defines pipelines stays quick to import.
_LAZY = {
    "AsyncDeploymentClient": "asgipipe.client.asynchronous",
    "BaseAppExtension": "asgipipe.runners.extension",
    "BaseDeploymentAppRunner": "asgipipe.runners.base",
    "BaseDeploymentService": "asgipipe.service.deployment",
    "Client": "asgipipe.client.client",
    "Deployment": "asgipipe.runners.deployment",
    "DeploymentClient": "asgipipe.client.sync",
    "DeploymentResponse": "asgipipe.service.deployment",
    "DeploymentService": "asgipipe.service.deployment",
    "asgi": "asgipipe.runners.deployment",
}

__all__ = [
    "AppExtensionSpec",
    "AsgipipeError",
    "AsyncDeploymentClient",
    "BaseAppExtension",
    "BaseDeploymentAppRunner",
    "BaseDeploymentService",
    "CORSConfig",
    "CapturePolicy",
    "Client",
    "DefinitionError",
    "Deployment",
    "DeploymentClient",
    "DeploymentDefaultEndpoints",
    "DeploymentDefaultMiddleware",
    "DeploymentError",
    "DeploymentResponse",
    "DeploymentService",
    "DeploymentSettings",
    "EndpointMethod",
    "EndpointSpec",
    "HTTPError",
    "LoggingLevels",
    "MiddlewareSpec",
    "OutputError",
    "OutsideRunError",
    "Pipeline",
    "RunCanceled",
    "RunError",
    "RunTimeoutError",
    "SecureHeadersConfig",
    "ServerError",
    "SettingsError",
    "SourceError",
    "StartupError",
    "Step",
    "StepContext",
    "StepExitError",
    "StepTimeoutError",
    "StoreError",
    "UserError",
    "asgi",
    "get_step_context",
    "pipeline",
    "step",
]


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return __all__
