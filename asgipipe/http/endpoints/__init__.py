"""The built-in endpoints: ASGI applications that the dispatcher finds by path and method."""
