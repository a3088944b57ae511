"""The facts about the machine without which figures mean nothing; nothing that identifies it."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("asgipipe", "django", "fastapi", "httptools", "pydantic", "quart", "starlette", "uvicorn", "uvloop")


def facts() -> dict[str, str]:
    """Return name and value of each fact, in the order in which they are shown."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "Kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Packages": ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name))),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load_generator() -> str:
    """Return the version of wrk."""
    if (wrk := shutil.which("wrk")) is None:
        return "wrk, missing"
    text = subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False).stdout
    return text.split("[")[0].strip()
