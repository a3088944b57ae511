import os
from pathlib import Path

import pytest

from asgipipe.deployers.keeper import private
from asgipipe.deployers.keeper.private import private_folder
from asgipipe.errors import DeploymentError


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(private.tempfile, "tempdir", str(tmp_path))


def test_only_this_user_can_enter_it(tmp_path: Path) -> None:
    """It is made in the runtime folder, with no rights for others, and found again."""
    assert private_folder() == private_folder() == tmp_path / "run" / "asgipipe"
    assert private_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("runtime", ["", "/nowhere"])
def test_without_a_runtime_folder_it_is_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    """Where no session has a runtime folder, the one for temporary files has a folder of this user's."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert private_folder() == tmp_path / f"asgipipe-{os.getuid()}"


def test_somebody_else_was_there_first(tmp_path: Path) -> None:
    """A folder that others can enter, a link, and a file are refused with their name."""
    place = tmp_path / "run" / "asgipipe"
    place.mkdir(mode=0o755)
    with pytest.raises(DeploymentError, match=f"{place} is not a folder that this user alone"):
        private_folder()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(DeploymentError, match="remove it"):
        private_folder()
    place.unlink()
    place.touch()
    with pytest.raises(DeploymentError, match="cannot be made"):
        private_folder()
