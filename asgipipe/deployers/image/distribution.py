"""asgipipe itself, as it gets into an image: the same version, or a wheel of the checkout that runs here."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from asgipipe.errors import DeploymentError
from asgipipe.settings.stores import is_postgresql

_NAME = "asgipipe"
_RUNNERS = frozenset({"fastapi", "django", "quart"})
_PATIENCE = 120.0
"""Seconds that a wheel may take to build."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where this asgipipe comes from: a version of the index, or a `wheel`, by its name and bytes."""

    version: str
    wheel: tuple[str, bytes] | None = None

    def requirement(self, extras: Iterable[str], folder: str) -> str:
        """Return what is to be installed; `folder` is where the wheel is."""
        chosen = ",".join(sorted(set(extras)))
        name = f"{_NAME}[{chosen}]" if chosen else _NAME
        return f"{name}=={self.version}" if self.wheel is None else f"{name} @ file://{folder}/{self.wheel[0]}"


@cache
def this_distribution() -> Distribution:
    """Return the one that runs here. Raises DeploymentError when a wheel is needed and cannot be made."""
    installed = distribution(_NAME)
    origin = installed.read_text("direct_url.json")  # PEP 610: there only when it does not come from an index
    place = urlsplit(json.loads(origin)["url"]) if origin else None
    if place is None or place.scheme != "file":
        return Distribution(installed.version)
    path = Path(url2pathname(place.path))
    if path.suffix == ".whl" and path.is_file():
        return Distribution(installed.version, (path.name, path.read_bytes()))
    if (path / "pyproject.toml").is_file():
        return Distribution(installed.version, _built(path))
    raise DeploymentError(
        f"asgipipe was installed from {path}, which is no longer there, and the image needs the same: install it anew"
    )


def extras_of(values: Mapping[str, object], environment: Mapping[str, str]) -> set[str]:
    """Return the extras that settings need: `values` are those of a settings file, `environment` lies above them."""
    found: set[str] = set()
    flavor = environment.get("ASGIPIPE_DEPLOYMENT_APP_RUNNER_FLAVOR", values.get("deployment_app_runner_flavor"))
    if flavor in _RUNNERS:
        found.add(str(flavor))
    if environment.get("ASGIPIPE_SERVER", values.get("server")) == "gunicorn":
        found.add("gunicorn")
    store = environment.get("ASGIPIPE_STORE_URL", values.get("store_url"))
    queue = environment.get("ASGIPIPE_JOB_QUEUE", values.get("job_queue"))
    if queue == "postgres" or (isinstance(store, str) and is_postgresql(store)):
        found.add("postgres")
    if importlib.util.find_spec("drf_spectacular_sidecar") is not None:
        found.add("docs")  # whoever has the pages here expects them there
    return found


def _built(checkout: Path) -> tuple[str, bytes]:
    # hatchling where it is there, since pip would fetch it first.
    hatchling = importlib.util.find_spec("hatchling") is not None
    with tempfile.TemporaryDirectory(prefix="asgipipe-") as folder:
        if hatchling:
            arguments = ["-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        else:
            arguments = ["-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, "."]
        _run([sys.executable, *arguments], checkout)
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.name, wheel.read_bytes()


def _run(command: list[str], checkout: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # the build of the checkout that this very code is from
            command, cwd=checkout, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(f"the wheel of {checkout} took more than {_PATIENCE:g} s to build") from error
    if done.returncode:
        lines = "\n".join(f"    {line}" for line in done.stderr.splitlines()[-10:])
        raise DeploymentError(f"the wheel of {checkout} cannot be built (pip install hatchling may help):\n{lines}")
