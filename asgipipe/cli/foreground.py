"""Commands that run until they are told to stop."""

import logging
import traceback
from collections.abc import Callable

import click

from asgipipe import logs
from asgipipe.errors import UserError
from asgipipe.servers import deadline
from asgipipe.servers.specification import Specification

logger = logging.getLogger("asgipipe.cli")


def run_in_foreground(
    context: click.Context, run: Callable[[Specification], int], specification: Specification
) -> None:
    """End the command with the status that `run` returns; raises the UserError that it raises."""
    try:
        status = run(specification)
    except UserError as error:
        if not logs.writes_json():
            raise
        # A reader of JSON lines gets this one as JSON, too.
        debug = context.find_root().params.get("debug")
        logger.critical("%s%s", error, "\n" + traceback.format_exc() if debug else "")
        status = error.exit_code
    deadline.end_within(1.0)  # threads of the user's, which Python would wait for
    context.exit(status)
