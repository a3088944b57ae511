import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest

from asgipipe import __version__
from asgipipe.cli import main as module
from asgipipe.errors import ServerError, SourceError

COMMAND = (sys.executable, "-m", "asgipipe")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def outcome(monkeypatch: pytest.MonkeyPatch, error: BaseException, *options: str) -> int:
    """The exit status when a command raises `error`."""

    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(module.cli, "get_command", lambda _context, _name: broken)
    monkeypatch.setattr(sys, "argv", ["asgipipe", *options, "broken"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_version() -> None:
    """`--version` prints the package's."""
    assert run("--version").stdout == f"asgipipe {__version__}\n"


def test_help_names_the_commands_and_imports_none(tmp_path: Path) -> None:
    """The group's help is printed without loading settings, servers or frameworks."""
    text = run("--help").stdout
    assert all(name in text for name in ("serve", "settings", "completion"))
    program = (
        "import sys; sys.argv = ['asgipipe', '--help']\n"
        "from asgipipe.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'asgipipe.servers', 'uvicorn', 'starlette', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["serve", "settings", "completion"])
def test_every_command_has_help(name: str) -> None:
    """Each listed command exists and explains itself."""
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"asgipipe {name}" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """The script for each shell calls our command."""
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_ASGIPIPE_COMPLETE" in done.stdout


@pytest.mark.parametrize("arguments", [("nonsense",), ("serve", "--no-such-option", "x"), ("serve",)])
def test_a_wrong_command_line_is_status_2(arguments: tuple[str, ...]) -> None:
    """Usage errors are explained on stderr without a traceback."""
    done = run(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (SourceError("a:b", "there is no such thing"), 2, "Error: 'a:b': there is no such thing\n"),
        (ServerError("the port is taken"), 3, "Error: the port is taken\n"),
        (OSError(errno.EACCES, "Permission denied", "file.yaml"), 1, "Error: file.yaml: Permission denied\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_errors_become_one_message_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, text: str
) -> None:
    """A mistake of the user's, or of the machine's, is its message alone; ctrl-C is nothing at all."""
    assert outcome(monkeypatch, error) == status
    assert capsys.readouterr().err == text


def test_the_unexpected_is_called_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is a short message that says how to see more, and --debug shows it."""
    assert outcome(monkeypatch, ZeroDivisionError("x" * 10_000)) == 1
    text = capsys.readouterr().err
    assert "this is a bug in asgipipe: ZeroDivisionError" in text
    assert "--debug" in text
    assert len(text) < 1000
    assert outcome(monkeypatch, ZeroDivisionError("why"), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
