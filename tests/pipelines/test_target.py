import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgipipe.errors import DefinitionError, SourceError
from asgipipe.pipelines.target import load_target

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write files into the current folder; what was imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def refused(target: str) -> str:
    with pytest.raises(SourceError) as caught:
        load_target(target)
    message = str(caught.value)
    assert "\n" not in message
    assert target in message
    return message


@pytest.mark.parametrize("target", ["served_a:go", "served_a.py:go", "./served_a.py:go", "served_a.py"])
def test_the_forms_of_a_target(write: Write, tmp_path: Path, target: str) -> None:
    """A module or a file, with the attribute or without where there is one function only."""
    write("served_a.py", "def go(x: int) -> int:\n    return x\n\ndef _other() -> None: ...\n")
    loaded = load_target(target)
    assert loaded.pipeline(2) == 2
    assert loaded.name == "go"
    assert loaded.source_root == tmp_path


def test_an_absolute_path_and_a_nested_attribute(write: Write) -> None:
    """A file elsewhere is imported from its own folder, and attributes may be nested."""
    file = write("deep/served_b.py", "class Box:\n    @staticmethod\n    def go() -> int:\n        return 1\n")
    loaded = load_target(f"{file}:Box.go")
    assert loaded.pipeline() == 1
    assert loaded.source_root == file.parent
    assert sys.modules["served_b"].__file__ == str(file)


def test_a_file_in_a_package_may_import_its_neighbours(write: Write, tmp_path: Path) -> None:
    """A file in a package is imported under its dotted name, so that relative imports work."""
    write("served_pkg/__init__.py", "")
    write("served_pkg/helper.py", "NUMBER = 7\n")
    write("served_pkg/app.py", "from .helper import NUMBER\n\ndef go() -> int:\n    return NUMBER\n")
    loaded = load_target("served_pkg/app.py")
    assert loaded.pipeline() == 7
    assert loaded.source_root == tmp_path
    assert "served_pkg.app" in sys.modules


def test_the_one_pipeline_wins_over_functions(write: Write) -> None:
    """Functions beside the file's only pipeline are no candidates, nor is a second name of it, nor an imported one."""
    write("served_lib.py", "from asgipipe import pipeline\n\n@pipeline\ndef library() -> int:\n    return 1\n")
    write(
        "served_c.py",
        """
        from asgipipe import pipeline
        from served_lib import library

        def helper() -> int:
            return 1

        @pipeline
        def own() -> int:
            return 2

        alias = own
        """,
    )
    assert load_target("served_c.py").name == "own"


def test_a_changed_copy_of_an_imported_pipeline_counts(write: Write) -> None:
    """`with_options` makes a pipeline of this file out of another file's."""
    write("served_lib2.py", "from asgipipe import pipeline\n\n@pipeline\ndef library() -> int:\n    return 1\n")
    write("served_d.py", "from served_lib2 import library\n\nmine = library.with_options(name='mine')\n")
    assert load_target("served_d.py").name == "mine"


def test_several_candidates_are_listed(write: Write) -> None:
    """Where the file leaves a choice, the message is the list to choose from."""
    write("served_e.py", "def one() -> int:\n    return 1\n\ndef two() -> int:\n    return 2\n")
    assert "'served_e.py:one', 'served_e.py:two'" in refused("served_e.py")


def test_a_file_without_candidates(write: Write) -> None:
    """A file that defines nothing to serve says so."""
    write("served_f.py", "NUMBER = 1\n")
    assert "no pipeline and no public function" in refused("served_f.py")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("missing.py", "does not exist"),
        ("served_h.py:go", "did you mean 'served_g.py'?"),
        ("served_g.txt", "does not end in '.py'"),
        ("./folder", "does not end in '.py'"),
        ("folder.py", "is a folder"),
        ("nothing:go", "there is no module named 'nothing'"),
        ("served_g", "or 'served_g.py' to serve the one pipeline in it"),
        ("served_g:gu", "did you mean 'go'?"),
        ("served_g:go.x", "'go' has no attribute 'x'"),
        ("served_g:NUMBER", "is of type int"),
        ("served_g:", "that is not a target"),
        (":go", "that is not a target"),
        ("served-g:go", "is not a module name"),
        ("served_g:go()", "that is not a target"),
        ("served.g.py", "rename it"),
    ],
)
def test_what_cannot_be_found_is_one_line(write: Write, target: str, reason: str) -> None:
    """Every mistake in a target names it, the reason and the way out, in one line."""
    write("served_g.py", "NUMBER = 1\n\ndef go() -> int:\n    return 1\n")
    write("served.g.py", "")
    write("served_g.txt", "")
    write("folder.py/x", "")
    write("folder/x", "")
    assert reason in refused(target)


def test_a_syntax_error_has_its_line(write: Write) -> None:
    """The message holds file and line."""
    file = write("served_i.py", "x = 1\ndef go(:\n    pass\n")
    assert f"{file}:2: SyntaxError" in refused("served_i.py")


@pytest.mark.parametrize("error", ["ValueError('two\\nlines')", "SystemExit(3)", "BaseException()"])
def test_a_module_that_raises_is_named_with_the_line(write: Write, error: str) -> None:
    """Whatever a module raises while it is imported becomes one line, with the place in the user's own code."""
    write("served_helper.py", f"def check():\n    raise {error}\n")
    file = write("served_j.py", "import served_helper\nserved_helper.check()\n")
    message = refused("served_j.py")
    assert error.partition("(")[0] in message
    assert f"{file.parent / 'served_helper.py'}:2" in message


def test_a_missing_import_is_named(write: Write) -> None:
    """A package that is not installed is what the message is about."""
    write("served_k.py", "import not_installed_anywhere\n")
    assert "not_installed_anywhere" in refused("served_k.py")


def test_a_file_that_hides_behind_a_known_module(write: Write) -> None:
    """A file named like a module that Python already has is not silently replaced by it."""
    write("json.py", "def go() -> int:\n    return 1\n")
    assert "rename the file" in refused("json.py")


def test_what_cannot_be_a_pipeline_is_a_definition_error(write: Write) -> None:
    """A class is callable, but it is no pipeline."""
    write("served_l.py", "class Agent: ...\n")
    with pytest.raises(DefinitionError):
        load_target("served_l.py:Agent")


def test_a_file_can_be_imported_again_by_another_process(write: Write) -> None:
    """What was loaded from a file is importable under its module's name from the path that was left behind."""
    write("served_m.py", "def go() -> int:\n    return 1\n")
    loaded = load_target("served_m.py")
    program = f"import {loaded.pipeline.__module__} as module; assert module.go() == 1"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_an_installed_package_is_its_own_root() -> None:
    """Files are never looked for, or watched, in all of site-packages."""
    loaded = load_target("httpx:get")
    assert loaded.source_root.name == "httpx"
