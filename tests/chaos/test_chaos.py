import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.plan import Deed, plan

SEED = "14"
"""One that kills and stops servers, and crashes, freezes and restarts the database, in a few seconds."""
ROOT = Path(__file__).parents[2]


def test_the_seed_decides() -> None:
    """The same seed gives the same plan, another one another."""
    first = list(plan(1, 60, 3, database=True))
    assert first == list(plan(1, 60, 3, database=True))
    assert first != list(plan(2, 60, 3, database=True))
    assert {action.deed for action in first} == set(Deed)
    assert all(0 <= action.target < 3 for action in first)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_a_short_run(store: str) -> None:
    """Rows 13, 14, 15 and 19: whatever is done to servers and database in a few seconds, no job is lost, stuck, or
    ended twice; the command says so, and ends with status 0.
    """
    if store == "postgresql":
        pytest.importorskip("psycopg")
    done = subprocess.run(
        (sys.executable, "-m", "tests.chaos", "--seconds", "5", "--seed", SEED, "--store", store, "--servers", "2"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {SEED}" in done.stdout
    assert "0 lost, 0 stuck" in done.stdout
