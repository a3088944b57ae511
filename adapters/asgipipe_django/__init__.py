"""asgipipe with Django."""
