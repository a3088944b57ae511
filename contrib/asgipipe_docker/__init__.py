"""Deployments in containers of Docker, or of Podman."""
