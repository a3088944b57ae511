"""Pure ASGI middleware, one module each; application.py puts them in order."""
