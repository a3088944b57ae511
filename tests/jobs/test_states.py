import re
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from asgipipe import jobs
from asgipipe.jobs.records import TERMINAL_EVENTS
from asgipipe.jobs.rows import StaleAttemptError, moved, moving
from asgipipe.jobs.states import TRANSITIONS, JobState
from asgipipe.stores.database import Transaction
from asgipipe.testing.jobstores import pending_job

PAIRS = [(before, after) for before in JobState for after in JobState]


def test_the_table_is_the_one_of_the_design() -> None:
    """A job waits, runs and ends once; only a running one goes back."""
    assert {(before, after) for before, followers in TRANSITIONS.items() for after in followers} == {
        (JobState.PENDING, JobState.RUNNING),
        (JobState.PENDING, JobState.CANCELED),
        (JobState.RUNNING, JobState.COMPLETED),
        (JobState.RUNNING, JobState.FAILED),
        (JobState.RUNNING, JobState.CANCELED),
        (JobState.RUNNING, JobState.PENDING),
    }
    assert set(TRANSITIONS) == set(JobState)


def test_terminal_states_are_those_that_nothing_follows() -> None:
    """Each of them has a terminal event of its own."""
    assert {state for state in JobState if state.terminal} == set(TERMINAL_EVENTS)
    assert len(set(TERMINAL_EVENTS.values())) == len(TERMINAL_EVENTS)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_row_changes_its_state_as_the_table_says(before: JobState, after: JobState) -> None:
    """What the table allows is written for a row that is still as it was read, and nothing else is written at all."""
    transaction = create_autospec(Transaction, instance=True)
    transaction.change.return_value = 1
    job = pending_job(state=before, attempt=3)
    if after not in TRANSITIONS[before]:
        with pytest.raises(ValueError, match=f"{before} cannot become {after}"):
            moved(transaction, job, after)
        transaction.change.assert_not_called()
        return
    assert moved(transaction, job, after, owner=7).state is after
    sql, *parameters = transaction.change.call_args_list[0].args
    assert sql == "UPDATE jobs SET state = ?, delayed = ?, owner = ? WHERE id = ? AND attempt = ? AND state = ?"
    assert parameters == [after.value, 0, 7, job.id, 3, before.value]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_row_that_nobody_has_read_changes_its_state_as_the_table_says(before: JobState, after: JobState) -> None:
    """There is a statement for what the table allows, which touches rows in the state before alone, and no other."""
    if after not in TRANSITIONS[before]:
        with pytest.raises(ValueError, match=f"{before} cannot become {after}"):
            moving(before, after, "owner = ?")
        return
    sql = f"UPDATE jobs SET state = '{after}', delayed = 0, owner = ? WHERE state = '{before}'"  # noqa: S608
    assert moving(before, after, "owner = ?") == sql


def test_a_row_that_has_changed_meanwhile_is_not_moved() -> None:
    """Where the row is not any more as it was read, the attempt is stale."""
    transaction = create_autospec(Transaction, instance=True)
    transaction.change.return_value = 0
    with pytest.raises(StaleAttemptError):
        moved(transaction, pending_job(), JobState.RUNNING)


def test_nothing_else_writes_a_state() -> None:
    """No other statement of the package changes the column, and the states in statements are those of the table."""
    texts = {path.name: path.read_text("utf-8") for path in Path(jobs.__path__[0]).rglob("*.py")}
    updates = {name: re.findall(r"UPDATE jobs SET ([^\"]*?)(?: WHERE|\")", text) for name, text in texts.items()}
    assert sum(map(len, updates.values())) >= 5
    assert not {name: found for name, found in updates.items() if any(re.search(r"\bstate =", sql) for sql in found)}
    assert [name for name, text in texts.items() if "UPDATE jobs SET {" in text] == ["rows.py"]
    named = {state for text in texts.values() for state in re.findall(r"state (?:=|IN) '(\w+)'", text)}
    assert named <= {state.value for state in JobState}
