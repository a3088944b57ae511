"""The lowest supported version of everything that asgipipe or an extra for its users needs, out of pyproject.toml.

As a program it prints them as constraints for pip. It runs in an environment in which nothing is installed yet.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FRAMEWORKS = ("fastapi", "django", "quart")
SUPPORTED = (*FRAMEWORKS, "gunicorn", "postgres", "docs", "docker", "kubernetes", "testing")
"""The extras whose requirements have a lowest supported version; those of the others follow the newest."""

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?>=(?P<version>[\d.]+)(?:,<\d+)?")


def floors(requirements: list[str]) -> dict[str, str]:
    """Return the lowest version of each requirement by its name; one without a lower bound is a ValueError."""
    found = {}
    for requirement in requirements:
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement!r} is not written as name>=version")
        found[match["name"]] = match["version"]
    return found


def supported() -> dict[str, dict[str, str]]:
    """Return the lowest versions by extra; those of asgipipe itself are under "core"."""
    extras = PROJECT["optional-dependencies"]
    return {"core": floors(PROJECT["dependencies"]), **{extra: floors(extras[extra]) for extra in SUPPORTED}}


def constraints() -> list[str]:
    return [f"{name}=={version}" for extra in supported().values() for name, version in extra.items()]


if __name__ == "__main__":
    sys.stdout.write("\n".join([*constraints(), ""]))
