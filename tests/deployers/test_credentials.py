import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asgipipe.deployers import credentials
from asgipipe.deployers.credentials import Credentials
from asgipipe.errors import DeploymentError

KEY = "canary-key"


def test_keys_are_kept(tmp_path: Path) -> None:
    """A key is found by its deployment, by everybody who looks into the same folder, until it is removed."""
    mine, other = Credentials(tmp_path), Credentials(tmp_path)
    assert mine.get("a") is None
    mine.put("a", KEY)
    mine.put("b", "another")
    mine.put("a", "newer")
    assert (other.get("a"), other.get("b"), other.get("c")) == ("newer", "another", None)
    other.remove("a")
    other.remove("c")
    assert (mine.get("a"), mine.get("b")) == (None, "another")


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    """The folder is 0700 and its files are 0600, whatever the umask, also after a change; nothing else is left."""
    before = os.umask(0)
    try:
        kept = Credentials(tmp_path / "a" / "b")
        kept.put("a", KEY)
        kept.put("b", KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.place.parent.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in kept.place.parent.iterdir()}
    assert files == {"credentials.json": 0o600, "credentials.lock": 0o600}


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Nothing is made before there is a key to keep."""
    kept = Credentials(tmp_path / "none")
    assert kept.get("a") is None
    kept.remove("a")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"ASGIPIPE_CONFIG_DIR": "/cfg"}, "/cfg/credentials.json"),
        ({"XDG_CONFIG_HOME": "/xdg"}, "/xdg/asgipipe/credentials.json"),
        ({}, "/homes/ada/.config/asgipipe/credentials.json"),
    ],
)
@pytest.mark.skipif("sys.platform in ('win32', 'darwin')", reason="the places are those of Linux")
def test_the_usual_folder(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one for settings of the user, as the system has it, or the one that a variable names."""
    for name in ("ASGIPIPE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/homes/ada")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(Credentials().place) == place


def test_an_account_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no folder to keep keys in, that is said when one is to be kept, with the way out."""

    def homeless(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ASGIPIPE_CONFIG_DIR", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    kept = Credentials()
    assert "usual" in repr(kept)
    with pytest.raises(DeploymentError, match="set ASGIPIPE_CONFIG_DIR"):
        kept.put("a", KEY)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"keys": []}', '{"keys": {"a": 1}}', f'"{"x" * 2**20}"'])
def test_another_file_is_left_alone(content: str, tmp_path: Path) -> None:
    """A file that is none of ours is named, and not written over."""
    kept = Credentials(tmp_path)
    kept.place.write_text(content)
    for work in (lambda: kept.get("a"), lambda: kept.put("a", KEY), lambda: kept.remove("a")):
        with pytest.raises(DeploymentError, match=r"credentials\.json is no file of ours"):
            work()
    assert kept.place.read_text() == content


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """What the system says against a file is said with its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DeploymentError, match=r"file/credentials\.json cannot be read: Not a directory"):
        Credentials(tmp_path / "file").get("a")
    with pytest.raises(DeploymentError, match=r"file/credentials\.json cannot be written"):
        Credentials(tmp_path / "file").put("a", KEY)


def test_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of before stay, and no file with the new one is left behind."""
    kept = Credentials(tmp_path)
    kept.put("a", KEY)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeploymentError, match="cannot be written: No space left"):
        kept.put("b", "other")
    assert kept.get("a") == KEY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["credentials.json", "credentials.lock"]


def test_writers_at_the_same_moment(tmp_path: Path) -> None:
    """Nobody's key is lost, because one writes at a time."""
    together = threading.Barrier(4)

    def put(number: int) -> None:
        together.wait(20)
        for count in range(5):
            Credentials(tmp_path).put(f"{number}-{count}", KEY)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    assert len(json.loads(Credentials(tmp_path).place.read_text())["keys"]) == 20


def test_a_writer_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever."""
    monkeypatch.setattr(credentials, "_PATIENCE", 0.05)
    kept = Credentials(tmp_path)
    with kept._locked(), pytest.raises(DeploymentError, match="another process; try again"):
        Credentials(tmp_path).put("a", KEY)
    kept.put("a", KEY)


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are kept, and no more; to put one again makes it the newest."""
    monkeypatch.setattr(credentials, "MOST", 2)
    kept = Credentials(tmp_path)
    for name in ("a", "b", "a", "c"):
        kept.put(name, KEY)
    assert [kept.get(name) for name in "abc"] == [KEY, None, KEY]


def test_keys_are_not_shown(tmp_path: Path) -> None:
    """No key stands in the representation, nor in an error."""
    kept = Credentials(tmp_path)
    kept.put("a", KEY)
    assert KEY not in repr(kept)
    kept.place.write_text(f'{{"keys": {{"a": ["{KEY}"]}}}}')
    with pytest.raises(DeploymentError) as refused:
        kept.get("a")
    assert KEY not in str(refused.value)
