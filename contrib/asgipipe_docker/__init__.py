"""Deployments in containers of Docker, or of Podman."""

from asgipipe_docker.deployer import DockerDeployer
from asgipipe_docker.settings import DockerDeployerSettings

__all__ = ["DockerDeployer", "DockerDeployerSettings"]
