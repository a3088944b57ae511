"""The `asgipipe` command."""
