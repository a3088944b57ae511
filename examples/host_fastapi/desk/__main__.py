"""Adds an agent to the desk: `python -m desk NAME`, with the password on standard input."""

import sys

from desk import database

_, name = sys.argv
database.create()
if not database.add_agent(name, sys.stdin.readline().rstrip("\n")):
    sys.exit(f"there is an agent {name} already")
