"""`asgipipe serve`: pipelines over HTTP, in the foreground."""

import click

from asgipipe.cli.options import SettingsCommand, Values, config_option, settings_options


@click.command(cls=SettingsCommand)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@config_option
@click.option("--name", metavar="NAME", help="The name of the deployment. The pipeline's own by default.")
@settings_options
@click.pass_context
def serve(
    context: click.Context, values: Values, targets: tuple[str, ...], config_file: str | None, name: str | None
) -> None:
    """Serve pipelines over HTTP.

    TARGET is 'package.module:attribute', 'path/to/file.py:attribute', or 'path/to/file.py' when the file defines one
    pipeline, or no pipeline and one function. Several targets are served side by side under their names, with a list at
    /pipelines.

    The command line goes before the environment (ASGIPIPE_*), that before the settings file, that before what the
    pipeline says itself.

    SIGTERM and ctrl-C stop the server when what runs has finished, or after drain_timeout; a second one stops it at
    once. With gunicorn, or with several workers, SIGHUP starts new workers, which read settings and code again, and
    stops the old ones without losing a request.

    The exit status is 0 after a clean end, 1 when something was cut short, 2 when the command line, the settings or a
    target are wrong, and 3 when the server did not start.
    """
    from asgipipe.servers.collector import spared

    with spared():
        from asgipipe.cli.foreground import run_in_foreground
        from asgipipe.servers.command import run
        from asgipipe.servers.specification import Specification

    run_in_foreground(context, run, Specification(targets, config_file, values, name))
