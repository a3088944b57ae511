"""The text of a Dockerfile.

It needs nothing that only some builders have (no BuildKit, no mounts), so that Docker, Podman and a cluster's builder
all take it. What installs runs in a stage of its own: neither its tools nor what it was told (an index with a password,
a proxy's certificate) are in a layer of the image.
"""

import json
import shlex
from collections.abc import Mapping, Sequence

from asgipipe import __version__
from asgipipe.deployers.image.project import MARK
from asgipipe.deployers.image.recipe import STATE, Recipe
from asgipipe.deployers.image.settings import ImageSettings

APP = "/app"
SETTINGS_FILE = "/etc/asgipipe/settings.yaml"
STATE_FOLDER = f"{APP}/{STATE}"
RUN_FOLDER = "/run/asgipipe"
"""Where the containers of one deployment meet: a volume that they share."""
PYTHON = "/opt/venv/bin/python"
USER = 10001
"""The user and group of the service: a number, as a cluster wants it to know that it is not root."""

CA_FILE = "build/ca.crt"
REQUIREMENTS = "build/requirements"
WHEELS = "build/wheels"
OURS = "build/asgipipe.txt"
LOCKED = "build/locked.txt"
"""Files of the context for the installation."""

_INDEX_VARIABLES = ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")


def serve_command(recipe: Recipe) -> list[str]:
    return ["asgipipe", "serve", recipe.target, "--name", recipe.name, "-c", SETTINGS_FILE]


def health_command(recipe: Recipe) -> list[str]:
    """Return a command that fails while the service, asked at its port of this machine, is not ready.

    A server that has no `/ready` (include_default_endpoints) answers 404, and so is there.
    """
    kind, context = ("HTTPS", ", context=ssl._create_unverified_context()") if recipe.secure else ("HTTP", "")
    program = (
        f"import http.client, ssl; c = http.client.{kind}Connection('127.0.0.1', {recipe.port}, timeout=4{context}); "
        f"c.request('GET', {recipe.ready_path!r}); raise SystemExit(c.getresponse().status >= 500)"
    )
    return [PYTHON, "-I", "-c", program if recipe.secure else program.replace(", ssl", "")]


def dockerfile(
    recipe: Recipe, settings: ImageSettings, *, requirements: Sequence[str], locked: bool, source_folder: bool
) -> str:
    """Return the text.

    `requirements` are the files to install from, in the build's folder; `locked` says that a uv.lock is among them.
    `source_folder` says that the project keeps its packages in `src`.
    """
    parts = [
        [f"{MARK} 'asgipipe containerize' makes it anew."],
        _base(settings),
        _build(settings, requirements, locked=locked),
        _image(recipe, settings, source_folder=source_folder),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _base(settings: ImageSettings) -> list[str]:
    lines = [f"FROM {settings.base} AS base"]
    if settings.apt_packages:
        packages = " ".join(sorted(settings.apt_packages))
        install = f"apt-get update && apt-get install -y --no-install-recommends {packages}"
        lines.append(f"RUN {install} && rm -rf /var/lib/apt/lists/*")
    return lines


def _build(settings: ImageSettings, requirements: Sequence[str], *, locked: bool) -> list[str]:
    lines = ["FROM base AS build"]
    lines += [f"ARG {name}" for name in sorted({*_INDEX_VARIABLES, *settings.build_args})]
    lines.append("ENV PIP_DISABLE_PIP_VERSION_CHECK=1 UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never")
    if settings.ca_file is not None:
        lines.append(f"COPY {CA_FILE} /build/ca.crt")
        lines.append("ENV PIP_CERT=/build/ca.crt SSL_CERT_FILE=/build/ca.crt")
    uv = "/build/uv/bin/uv"
    lines.append(
        f"RUN python3 -m venv /build/uv && /build/uv/bin/pip install --no-cache-dir {shlex.quote(settings.uv)} "
        f'&& {uv} venv --python "$(command -v python3)" /opt/venv'
    )
    lines.append("COPY build /build")
    if locked:
        lines.append(
            f"RUN {uv} export --directory /{REQUIREMENTS} --frozen --no-dev --no-hashes "
            f"--no-emit-project --no-emit-package asgipipe --output-file /{LOCKED}"
        )
    files = " ".join(f"-r {shlex.quote(f'/{name}')}" for name in requirements)
    lines.append(f"RUN {uv} pip install --python {PYTHON} {files}")
    return lines


def _image(recipe: Recipe, settings: ImageSettings, *, source_folder: bool) -> list[str]:
    folders = f"{STATE_FOLDER} {RUN_FOLDER}"
    account, own = f"asgipipe:x:{USER}:{USER}::/tmp:/usr/sbin/nologin", f"{USER}:{USER} {folders}"
    environment = {
        "HOME": "/tmp",  # noqa: S108  # the one place that may be written with a read-only root
        "PATH": "/opt/venv/bin:$PATH",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **({"PYTHONPATH": f"{APP}/src"} if source_folder else {}),
    }
    return [
        "FROM base",
        f"RUN echo '{account}' >> /etc/passwd && mkdir -p {folders} && chown {own} && chmod 0700 {folders}",
        "ENV " + " ".join(f"{name}={value}" for name, value in sorted(environment.items())),
        "COPY --from=build /opt/venv /opt/venv",
        f"COPY app {APP}",
        f"COPY settings.yaml {SETTINGS_FILE}",
        f"WORKDIR {APP}",
        f'VOLUME ["{STATE_FOLDER}"]',
        f"USER {USER}:{USER}",
        f"EXPOSE {recipe.port}",
        "STOPSIGNAL SIGTERM",
        f"HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD {_exec(health_command(recipe))}",
        f"ENTRYPOINT {_exec(serve_command(recipe))}",
        _label(
            {
                "org.opencontainers.image.title": recipe.name,
                "org.opencontainers.image.base.name": settings.base,
                "asgipipe.target": recipe.target,
                "asgipipe.version": __version__,
            }
        ),
    ]


def _label(labels: Mapping[str, str]) -> str:
    return "LABEL " + " \\\n      ".join(f"{name}={_quoted(value)}" for name, value in sorted(labels.items()))


def _exec(command: Sequence[str]) -> str:
    return json.dumps(command)


def _quoted(value: str) -> str:
    """Return a text as one word of a Dockerfile, in which nothing is expanded."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return '"' + " ".join(escaped.split()) + '"'
