"""App runners: they build the ASGI application of a deployment with one web framework."""
