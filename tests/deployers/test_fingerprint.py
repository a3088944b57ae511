import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from asgipipe.deployers import fingerprint as fingerprints
from asgipipe.deployers.fingerprint import changed, fingerprint
from tests.deployers.samples import snapshot

FILES = {
    "weather.py": "import json\nfrom shop import rules\ndef go():\n    import shop.late\n",
    "shop/__init__.py": "",
    "shop/rules.py": "from . import prices\nfrom .deep.below import x as y\nfrom .. import outside\n",
    "shop/prices.py": "import shop.rules\n",
    "shop/late.py": "",
    "shop/deep/below.py": "from ..base import *\nfrom ...beyond import x\n",
    "shop/base.py": "def broken(:\n",
    "shop/hooks.py": "",
    "shop/unused.py": "",
    "other.py": "",
}
COUNTED = {
    "weather.py",
    "shop/__init__.py",
    "shop/rules.py",
    "shop/prices.py",
    "shop/late.py",
    "shop/deep/below.py",
    "shop/base.py",
}
NO_SETTINGS: dict[str, object] = {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.mark.parametrize("target", ["weather.py", "weather.py:go", "weather:go"])
@pytest.mark.parametrize("name", FILES)
def test_what_counts(name: str, target: str, project: Path) -> None:
    """The target's module counts, with all that it imports, in functions and relatively, too; nothing else does."""
    before = fingerprint(target, project, NO_SETTINGS)
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert (fingerprint(target, project, NO_SETTINGS) != before) == (name in COUNTED)


@pytest.mark.parametrize(
    "change",
    [
        lambda project: (project / "shop/prices.py").unlink(),
        lambda project: (project / "shop/late.py").rename(project / "shop/later.py"),
        lambda project: (project / "json.py").write_text(""),
        shutil.rmtree,
    ],
    ids=["deleted", "renamed", "shadowed", "gone"],
)
def test_what_changes_it(change: Callable[[Path], object], project: Path) -> None:
    """A file that is gone, or comes between, changes the digest, and is no error."""
    before = fingerprint("weather:go", project, NO_SETTINGS)
    change(project)
    assert fingerprint("weather:go", project, NO_SETTINGS) != before


def test_the_place_does_not_matter(project: Path, tmp_path: Path) -> None:
    """A copy of the project has the same digest elsewhere, by way of a link, and in another process."""
    before = fingerprint("weather.py:go", project, NO_SETTINGS)
    copy = tmp_path / "somewhere" / "else"
    shutil.copytree(project, copy)
    (tmp_path / "link").symlink_to(copy)
    assert fingerprint("weather.py:go", copy, NO_SETTINGS) == before
    assert fingerprint("weather.py:go", tmp_path / "link", NO_SETTINGS) == before
    code = (
        "import sys; from pathlib import Path; from asgipipe.deployers.fingerprint import fingerprint\n"
        "print(fingerprint('weather:go', Path(sys.argv[1]), {}))"
    )
    command = [sys.executable, "-c", code, str(copy)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == before


def test_what_settings_name_counts(project: Path) -> None:
    """Code that the settings name by an import string, in either form, belongs to it."""
    settings = {"settings": {"deployment": {"custom_endpoints": [{"handler": "shop.hooks:start", "path": "/a.b"}]}}}
    dotted = {"pipeline": {"on_init": "shop.hooks.start"}, "x": ["other:go", 1, None, "not one", "a..b"]}
    before = [fingerprint("weather:go", project, each) for each in (settings, dotted)]
    (project / "shop/hooks.py").write_text("# changed")
    between = [fingerprint("weather:go", project, each) for each in (settings, dotted)]
    assert all(one != other for one, other in zip(before, between, strict=True))
    (project / "other.py").write_text("# changed")
    after = [fingerprint("weather:go", project, each) for each in (settings, dotted)]
    assert [one != other for one, other in zip(between, after, strict=True)] == [False, True]


def test_code_is_read_and_not_run(project: Path) -> None:
    """What a module would do when it is imported is not done, and what is doubtful about it is not said."""
    (project / "shop/prices.py").write_text("raise SystemExit\n'\\d' is 1\n")
    fingerprint("weather:go", project, NO_SETTINGS)
    assert not {"weather", "shop", "shop.prices"} & sys.modules.keys()


def test_installed_packages_do_not_count(project: Path) -> None:
    """A package in an environment inside the project is not the project's code; a target in one counts alone."""
    package = project / ".venv" / "lib" / "site-packages" / "bought"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from bought import inner\n")
    (package / "inner.py").write_text("")
    (project / "weather.py").write_text("import bought\n")
    sys.path.append(str(package.parent))
    try:
        digests = set()
        for text in ("", "# changed"):
            (package / "__init__.py").write_text(text)
            digests.add((fingerprint("weather:go", project, {}), fingerprint("bought:go", project, {})))
        assert [len(set(found)) for found in zip(*digests, strict=True)] == [1, 2]
    finally:
        sys.path.remove(str(package.parent))


def test_a_file_outside_of_the_project(project: Path, tmp_path: Path) -> None:
    """A target elsewhere counts with what stands beside it, wherever both are."""
    digests = []
    for name, text in (("one", ""), ("two", ""), ("three", "# changed")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "app.py").write_text("import beside\n")
        (folder / "beside.py").write_text(text)
        digests.append(fingerprint(f"{folder}/app.py:go", project, NO_SETTINGS))
    assert digests[0] == digests[1] != digests[2]


def test_sources_below_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package in a folder of the project that is on the Python path, as `src` is, counts."""
    (project / "src" / "lib").mkdir(parents=True)
    (project / "src" / "lib" / "part.py").write_text("")
    (project / "weather.py").write_text("import lib.part\n")
    monkeypatch.syspath_prepend(str(project / "src"))
    before = fingerprint("weather:go", project, NO_SETTINGS)
    (project / "src" / "lib" / "part.py").write_text("# changed")
    assert fingerprint("weather:go", project, NO_SETTINGS) != before


def test_a_module_that_was_made_by_hand(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program has put among the modules without a file is nobody's file, and no error."""
    monkeypatch.setitem(sys.modules, "handmade", ModuleType("handmade"))
    (project / "weather.py").write_text("import handmade.inner\nfrom .... import beyond\n")
    assert fingerprint("weather:go", project, NO_SETTINGS)


def test_it_is_bounded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many files and bytes are read, and no more; files of any content are no error."""
    (project / "shop" / "late.py").write_bytes(b"\0\xff" * 1000)
    monkeypatch.setattr(fingerprints, "_LARGEST", 20)
    before = fingerprint("weather:go", project, NO_SETTINGS)
    (project / "shop" / "late.py").write_bytes(b"\0\xff" * 2000)
    assert fingerprint("weather:go", project, NO_SETTINGS) == before
    for name in ("MOST_FILES", "MOST_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(fingerprints, name, 1)
            before = fingerprint("weather:go", project, NO_SETTINGS)
            (project / "shop" / "rules.py").write_text(f"# {name}")
            assert fingerprint("weather:go", project, NO_SETTINGS) == before


def test_a_snapshot_tells_whether_its_code_has_changed(project: Path) -> None:
    """Its fingerprint is compared with that of the project now."""
    settings: dict[str, object] = {"pipeline": {"on_init": "other:go"}}
    made = replace(
        snapshot("w"),
        target="weather.py:go",
        project=str(project),
        settings=settings,
        fingerprint=fingerprint("weather.py:go", project, settings),
    )
    assert not changed(made)
    (project / "other.py").write_text("# changed")
    assert changed(made)
