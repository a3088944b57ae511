"""The example of the package's docstring."""

import subprocess
import sys
import textwrap
from pathlib import Path

import asgipipe.testing

ROOT = Path(__file__).parents[2]


def example() -> str:
    """Return the indented part of the docstring."""
    lines = (asgipipe.testing.__doc__ or "").splitlines(keepends=True)
    return textwrap.dedent("".join(line for line in lines if line == "\n" or line.startswith("    ")))


def test_the_example_runs(tmp_path: Path) -> None:
    """What the docstring shows is a test module as it stands, whose tests have the flavor, form and scenario as ids."""
    (tmp_path / "test_mine.py").write_text(example())
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", "mine-include-a_run_answers"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "test_in_process[mine-include-a_run_answers_with_the_envelope]" in ran.stdout


def test_what_is_missing_is_named() -> None:
    """Without pytest the suite says which extra brings it."""
    program = "import sys; sys.modules['pytest'] = None; from asgipipe.testing import Subject, Conformance"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert 'asgipipe.testing needs pytest: pip install "asgipipe[testing]"' in ran.stderr
