"""Which files stay out of an image, by the patterns of `.dockerignore`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

NEVER = (
    # the past, and what tools left
    "**/.git",
    "**/.hg",
    "**/.svn",
    "**/__pycache__",
    "**/*.py[cod]",
    "**/.*_cache",
    "**/.tox",
    "**/.nox",
    "**/.coverage*",
    "**/*.egg-info",
    "**/.ipynb_checkpoints",
    "**/.idea",
    "**/.vscode",
    "**/.DS_Store",
    # what is installed in the image anew; an environment by another name is known by its pyvenv.cfg
    "**/.venv",
    "**/node_modules",
    # the state of deployments on this machine
    "**/.asgipipe",
    # secrets
    "**/.env",
    "**/.env.*",
    "**/.netrc",
    "**/.pypirc",
    "**/.ssh",
    "**/.aws",
    "**/.gnupg",
    "**/.kube",
    "**/.docker",
    "**/*.pem",
    "**/*.key",
    "**/*.p12",
    "**/*.pfx",
    "**/id_rsa*",
    "**/id_ecdsa*",
    "**/id_ed25519*",
    "**/credentials.json",
)
"""What no image needs, and what must not be in one unless the project says so."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """Patterns as `.dockerignore` has them: the last that matches decides, and one with `!` takes a file in again."""

    rules: tuple[tuple[re.Pattern[str], bool], ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> "Ignore":
        lines = (line.strip() for line in patterns)
        return cls(tuple(_rule(line) for line in lines if line and not line.startswith("#")))

    def __call__(self, path: str) -> bool:
        """Say whether the file or folder at a relative POSIX path, or a folder it is in, is left out."""
        left_out = False
        for pattern, leaves_out in self.rules:
            if left_out is not leaves_out and pattern.fullmatch(path):
                left_out = leaves_out
        return left_out

    @property
    def takes_in_again(self) -> bool:
        """Whether files in a folder that is left out may be taken in."""
        return any(not leaves_out for _, leaves_out in self.rules)


def _rule(line: str) -> tuple[re.Pattern[str], bool]:
    leaves_out = not line.startswith("!")
    pattern = line.removeprefix("!").strip().strip("/")
    return re.compile(f"{_expression(pattern)}(/.*)?", re.DOTALL), leaves_out


# `**/` is any number of folders, none among them; `**` anything; the others are those of filepath.Match in Go.
_WILDCARDS = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[\^?[^\]]+\]|\\.|.", re.DOTALL)


def _expression(pattern: str) -> str:
    return "".join(_token(found[0]) for found in _TOKEN.finditer(pattern))


def _token(token: str) -> str:
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    if token.startswith("[") and len(token) > 1:
        return token
    return re.escape(token.removeprefix("\\") or token)
