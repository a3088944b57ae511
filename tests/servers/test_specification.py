import os
import stat
from pathlib import Path

import pytest

from asgipipe.errors import ServerError
from asgipipe.servers import specification as specifications
from asgipipe.servers.specification import VARIABLE, Specification, private_directory

SECRET = "canary-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "set, so that it is put back after the test")
    monkeypatch.delenv(VARIABLE)


def test_what_was_written_is_read() -> None:
    """Every member crosses the file unchanged."""
    with private_directory() as folder:
        written = Specification(
            ("a:b", "c.py"), "s.yaml", {"app_title": "ä", "auth_key": SECRET}, None, SECRET, str(folder), str(folder)
        )
        specifications.write(written)
        assert specifications.read() == written


def test_only_this_user_can_read_it() -> None:
    """Folder and file are private, whatever the umask."""
    before = os.umask(0)
    try:
        with private_directory() as folder:
            specifications.write(Specification(("a:b",), directory=str(folder)))
            file = Path(os.environ[VARIABLE])
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not folder.exists()
    assert VARIABLE not in os.environ


def test_it_does_not_print_its_secrets() -> None:
    """Keys are not in what a log or a traceback would show of it."""
    assert SECRET not in repr(Specification(("a:b",), values={"auth_key": SECRET}, generated_key=SECRET))


def test_a_missing_specification_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the variable, or with one that leads nowhere, the error names it."""
    with pytest.raises(ServerError, match=VARIABLE):
        specifications.read()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing.json"))
    with pytest.raises(ServerError, match=r"nothing\.json"):
        specifications.read()


def test_the_first_failure_is_told_once(tmp_path: Path) -> None:
    """Of several workers that fail for one reason, the parent hears the first, and only once."""
    folder = str(tmp_path)
    assert specifications.reported_failure(folder) is None
    specifications.report_failure(folder, "no model")
    specifications.report_failure(folder, "no model either")
    assert specifications.reported_failure(folder) == "no model"
    assert specifications.reported_failure(folder) is None
