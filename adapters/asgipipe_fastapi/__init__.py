"""asgipipe with FastAPI."""
