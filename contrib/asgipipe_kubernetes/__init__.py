"""Deployments in a Kubernetes cluster."""
