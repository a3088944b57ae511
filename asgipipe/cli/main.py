"""The `asgipipe` command and what it makes of errors.

Exit status: 0 done; 1 a mistake, or something was cut short; 2 the command line, the settings or a target are wrong;
3 the server did not start, or the store cannot be used; 4 the job that was followed was canceled;
130 interrupted. A mistake of the user's is one message on stderr, never a traceback.
"""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from typing import NoReturn, cast

import click
from click.shell_completion import get_completion_class

from asgipipe import __version__
from asgipipe.errors import UserError

# Each command's module is imported when the command is used or asked for help, so that `asgipipe --help` is quick.
_COMMANDS = {
    "serve": ("asgipipe.cli.serve:serve", "Serve pipelines over HTTP."),
    "worker": ("asgipipe.cli.worker:worker", "Run the jobs of pipelines without a server."),
    "deploy": ("asgipipe.cli.deploy:deploy", "Deploy a pipeline as a service."),
    "deployment": ("asgipipe.cli.deployment:deployment", "List, describe, invoke and manage deployments."),
    "snapshot": ("asgipipe.cli.snapshot:snapshot", "Create, list, deploy and run snapshots."),
    "deployer": ("asgipipe.cli.deployer:deployer", "Register, list and delete deployers."),
    "containerize": ("asgipipe.cli.containerize:containerize", "Write what an image of a pipeline is made of."),
    "kubernetes": ("asgipipe.cli.kubernetes:kubernetes", "Render what is applied to a Kubernetes cluster."),
    "job": ("asgipipe.cli.job:job", "List, show, cancel and follow jobs."),
    "run": ("asgipipe.cli.run:run", "List and show recorded runs."),
    "settings": ("asgipipe.cli.settings:settings", "Check, explain and describe settings."),
    "completion": ("asgipipe.cli.main:completion", "Print the completion script of a shell."),
}

_KNOWN_OS_ERRORS = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EROFS}

_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose subcommands are import strings, each with the line that the group's help shows for it."""

    def __init__(self, *args: object, lazy: Mapping[str, tuple[str, str]], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        return cast(click.Command, getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="asgipipe %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of every error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Put a Python pipeline behind HTTP."""
    context.color = _colored()


def _colored() -> bool | None:
    """Say whether output has colors: never with NO_COLOR (https://no-color.org), else where a terminal takes it."""
    return False if os.environ.get("NO_COLOR") else None


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the completion script of SHELL.

    \b
    bash: eval "$(asgipipe completion bash)"
    zsh:  eval "$(asgipipe completion zsh)"
    fish: asgipipe completion fish > ~/.config/fish/completions/asgipipe.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - the three shells of the choice are click's own
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(cli, {}, "asgipipe", "_ASGIPIPE_COMPLETE").source())


def main() -> NoReturn:
    """Run the command line and end the process."""
    debug = "--debug" in _own_options(sys.argv[1:])
    try:
        status = cli.main(prog_name="asgipipe", standalone_mode=False)
    except click.exceptions.Exit as request:
        status = request.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        status = _INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        status = 1
    except Exception as error:  # boundary: the last one, which turns an exception into a message and a status
        status = _explain(error, debug=debug)
    sys.exit(status if isinstance(status, int) else 0)


def _own_options(arguments: list[str]) -> list[str]:
    """The options before the subcommand."""
    own: list[str] = []
    for argument in arguments:
        if not argument.startswith("-"):
            break
        own.append(argument)
    return own


def _explain(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    if isinstance(error, UserError):
        _say(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.errno in _KNOWN_OS_ERRORS:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
        return 1
    text = " ".join(str(error).split())[:300]
    _say(f"this is a bug in asgipipe: {type(error).__name__}: {text}")
    if not debug:
        click.echo("Run the same command as 'asgipipe --debug ...' for the traceback, and report it.", err=True)
    return 1


def _say(message: str) -> None:
    click.secho(f"Error: {message}", fg="red", err=True, color=_colored())
