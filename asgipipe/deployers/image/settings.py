"""What can be set about an image."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from asgipipe.deployers.deployer import DeployerSettings

_RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PASSWORD = re.compile(r"://[^/@\s]*:[^@\s]+@")


def _build_args(values: dict[str, str | None]) -> dict[str, str | None]:
    for name, value in values.items():
        if not _VARIABLE.fullmatch(name):
            raise PydanticCustomError("variable", "{name} is not the name of a variable", {"name": repr(name)})
        if _PASSWORD.search(value or ""):
            raise PydanticCustomError(
                "variable", "{name} holds a password: give null, and the value in the environment", {"name": name}
            )
    return values


PythonVersion = Annotated[str, StringConstraints(pattern=r"^3\.[0-9]{1,2}$")]
ImageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$", max_length=512)]
DebianPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$")]
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][^\r\n]*$", max_length=1000)]
Extra = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class ImageSettings(DeployerSettings):
    """How an image is made: what it is built on and what is installed into it."""

    python_version: PythonVersion = Field(default=_RUNNING, description="The Python in the image, such as 3.12.")
    base_image: ImageName | None = Field(
        default=None,
        description="The image to build on, which has python3 with its venv module. "
        "Null takes python:<python_version>-slim.",
    )
    apt_packages: tuple[DebianPackage, ...] = Field(
        default=(), description="Debian packages that the pipeline needs, such as libgomp1."
    )
    requirements: tuple[Requirement, ...] = Field(
        default=(), description="What is installed besides the requirements of the project, such as torch==2.9.0."
    )
    extras: tuple[Extra, ...] | None = Field(
        default=None,
        description="The extras of asgipipe to install. Null takes those that the settings need, and docs where it is "
        "installed here; name them when the code itself asks for others.",
    )
    uv: Requirement = Field(default="uv>=0.9", description="The uv that installs into the image; it is not left there.")
    build_args: Annotated[Mapping[str, str | None], AfterValidator(_build_args)] = Field(
        default_factory=dict,
        repr=False,
        description="Variables for the installation, such as UV_DEFAULT_INDEX; null takes the value from the "
        "environment of the command that builds. They are not in the image.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="A file with the certificates that the installation trusts, where a proxy has one of its own. "
        "It is not in the image.",
    )

    @property
    def base(self) -> str:
        return self.base_image or f"python:{self.python_version}-slim"
