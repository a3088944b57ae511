"""`asgipipe containerize`: what an image that serves a pipeline is made of, for whatever builds images."""

import json
import os
import shlex
from pathlib import Path

import click
from pydantic import ValidationError

from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options
from asgipipe.deployers.image import ImageSettings, Recipe, image_context
from asgipipe.deployers.image.dockerfile import STATE_FOLDER
from asgipipe.deployers.image.recipe import DEFAULT_PORT
from asgipipe.deployers.snapshots import MadeSnapshot, make_snapshot
from asgipipe.errors import SettingsError
from asgipipe.settings.issues import issues_of
from asgipipe.settings.layers import python_layer


@click.command(cls=SettingsCommand)
@click.argument("target", metavar="TARGET")
@click.option("--name", metavar="NAME", help="The name of the deployment. The pipeline's own by default.")
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("container"),
    show_default=True,
    help="Where to write; the folder holds nothing else afterwards.",
)
@click.option("--base-image", metavar="IMAGE", help="The image to build on. python:<version>-slim by default.")
@click.option("--python-version", metavar="VERSION", help="The Python in the image. That of this command by default.")
@click.option("--apt-package", "apt_packages", metavar="NAME", multiple=True, help="A Debian package to install.")
@click.option("--requirement", "requirements", metavar="REQUIREMENT", multiple=True, help="Something more to install.")
@click.option("--extra", "extras", metavar="NAME", multiple=True, help="An extra of asgipipe, instead of those found.")
@click.option("--build-arg", "build_args", metavar="NAME", multiple=True, help="A variable that the build is given.")
@click.option("--ca-file", metavar="FILE", type=click.Path(), help="Certificates that the installation trusts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@settings_options
def containerize(
    values: Values,
    /,
    *,
    target: str,
    name: str | None,
    output: Path,
    config_file: str | None,
    as_json: bool,
    **given: str | tuple[str, ...] | None,
) -> None:
    """Write what an image is made of: a Dockerfile, the project, the settings, and what is to be installed.

    TARGET is as for 'asgipipe serve'; the project is the current folder. What no image needs is left out, as are
    secrets, and what the .dockerignore of the project names. The same input makes the same files, byte by byte.

    Keys and passwords stay in the environment: they are given to the container when it is run.
    """
    settings = _image_settings(given)
    made = make_snapshot(
        target, name=name, project=Path.cwd(), config_file=config_file, values=values, environ=os.environ
    )
    recipe = _recipe(made, name)
    context = image_context(recipe, settings)
    context.write(output)
    secrets = sorted([*made.secrets, *(["ASGIPIPE_AUTH_KEY"] if made.keys else [])])
    commands = _commands(recipe, settings, output, secrets)
    if as_json:
        document = {"output": str(output), "files": sorted(context.files), "secrets": secrets, "commands": commands}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"{output} holds what the image of {recipe.name} is made of. Build it, and run it:")
    for command in commands:
        click.echo(f"\n  {command}")


def _image_settings(given: dict[str, str | tuple[str, ...] | None]) -> ImageSettings:
    values: dict[str, object] = {name: value for name, value in given.items() if value}
    names = given["build_args"]
    values["build_args"] = dict.fromkeys(names) if isinstance(names, tuple) else {}
    try:
        return ImageSettings.model_validate(values)
    except ValidationError as error:
        layer = python_layer({}, "command line")
        raise SettingsError(issues_of(error, ImageSettings, lambda _: layer)) from None


def _recipe(made: MadeSnapshot, name: str | None) -> Recipe:
    snapshot = made.snapshot
    return Recipe(
        target=snapshot.target,
        name=name or snapshot.pipeline,
        project=Path(snapshot.project),
        settings=snapshot.settings,
        scheme=snapshot.service.scheme,
        port=snapshot.service.port or DEFAULT_PORT,
        ready_path=snapshot.service.ready_path,
        environment=made.secrets,
    )


def _commands(recipe: Recipe, settings: ImageSettings, output: Path, secrets: list[str]) -> list[str]:
    """Return how the image is built and run."""
    tag = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in recipe.name.lower()).strip("-")
    tag = tag or "deployment"
    arguments = [f"--build-arg {name}" for name in settings.build_args]
    options = [
        "--init --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges",
        f"--publish 127.0.0.1:{recipe.port}:{recipe.port} --volume {tag}:{STATE_FOLDER}",
        *(f"--env {name}" for name in secrets),
    ]
    return [
        " ".join(["docker build", *arguments, f"--tag {tag}", shlex.quote(str(output))]),
        " ".join(["docker run", *options, tag]),
    ]
