"""Put a Python pipeline behind HTTP, inside the web application you already have."""

__version__ = "0.1.0.dev0"
