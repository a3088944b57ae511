"""Deployments in a Kubernetes cluster."""

from asgipipe_kubernetes.deployer import KubernetesDeployer
from asgipipe_kubernetes.settings import KubernetesDeployerSettings

__all__ = ["KubernetesDeployer", "KubernetesDeployerSettings"]
