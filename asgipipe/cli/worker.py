"""`asgipipe worker`: the jobs of pipelines, in the foreground, without a server."""

import click

from asgipipe.cli.options import GROUPS, SettingsCommand, Values, config_option, options_of

_FIELDS = {
    *GROUPS["Jobs, streams and the store"],
    *GROUPS["Capture"],
    *GROUPS["Hooks"],
    "uvicorn_workers",
    "uvicorn_reload",
    "log_level",
    "log_format",
    "metrics_directory",
    "deployment_app_runner_flavor",
    "deployment_app_runner_kwargs",
    "deployment_service_class",
    "deployment_service_kwargs",
    "thread_pool_size",
    "error_messages",
    "drain_timeout",
    "hook_timeout",
} - {"run_jobs", "max_pending_jobs", "idempotency_ttl", "stream_heartbeat", "max_message_size", "max_subscriptions"}
"""What matters where nobody asks for anything; a settings file may hold the rest as well."""


@click.command(cls=SettingsCommand)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@config_option
@click.option("--name", metavar="NAME", help="The name of the deployment. The pipeline's own by default.")
@options_of(_FIELDS)
@click.pass_context
def worker(
    context: click.Context, values: Values, targets: tuple[str, ...], config_file: str | None, name: str | None
) -> None:
    """Run the jobs of pipelines, and serve nothing.

    TARGET, --name and the settings file are those of 'asgipipe serve', whose servers accept the jobs: they have the
    same store_url, and run none themselves when their run_jobs is false. Any number of workers may run, on any number
    of machines when the store is in PostgreSQL.

    SIGTERM and ctrl-C stop it when the jobs that run have finished; those that still run after drain_timeout are handed
    back for other workers, as they are at once by a second signal. With several workers, SIGHUP starts new ones, which
    read settings and code again, and then stops the old ones.

    The exit status is 0 after a clean end, 1 when something was cut short, 2 when the command line, the settings or a
    target are wrong, and 3 when the worker did not start.
    """
    from asgipipe.cli.foreground import run_in_foreground
    from asgipipe.servers.jobs import run
    from asgipipe.servers.specification import Specification

    run_in_foreground(context, run, Specification(targets, config_file, values, name))
