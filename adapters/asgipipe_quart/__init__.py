"""asgipipe with Quart."""
