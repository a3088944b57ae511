"""The ASGI layer: it turns requests into calls of the deployment service, under any framework or none."""
