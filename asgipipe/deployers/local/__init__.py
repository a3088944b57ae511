"""Deployments as background processes of this machine."""

from asgipipe.deployers.local.deployer import LocalDeployer
from asgipipe.deployers.local.settings import LocalDeployerSettings

__all__ = ["LocalDeployer", "LocalDeployerSettings"]
