import json
from dataclasses import replace
from datetime import datetime

import pytest

from asgipipe.jobs.records import Event, JobOptions, canceled_message
from asgipipe.jobs.states import JobState
from asgipipe.testing.jobstores import BEGINNING, pending_job
from asgipipe.tracking.records import timestamp

MEMBERS = [
    "job_id",
    "run_id",
    "run_name",
    "pipeline_name",
    "status",
    "parameters",
    "created_at",
    "started_at",
    "completed_at",
    "execution_time",
    "attempt",
    "progress",
    "result",
    "error",
    "error_code",
    "canceled_by",
    "cancel_reason",
]


def test_a_job_that_waits_is_written_with_nulls() -> None:
    """Every member of the contract is there, in its order, whatever is known of the job."""
    job = pending_job(run_name='"quoted" \u2603\n')
    written = json.loads(job.as_json())
    assert list(written) == MEMBERS
    assert written["job_id"] == written["run_id"] == job.id
    assert written["run_name"] == '"quoted" \u2603\n'
    assert (written["status"], written["attempt"]) == ("pending", 0)
    assert written["parameters"] == {"city": "Oslo"}
    assert [name for name, value in written.items() if value is None] == [*MEMBERS[7:10], *MEMBERS[11:]]


def test_a_job_that_ended_is_written_with_its_envelope() -> None:
    """Times are RFC 3339 in UTC, the result and the progress are JSON in JSON."""
    job = replace(
        pending_job(),
        state=JobState.FAILED,
        started_at=BEGINNING + 0.25,
        completed_at=BEGINNING + 1,
        execution_time=0.75,
        progress=b'{"fraction":0.5,"message":null,"step_name":"a"}',
        result=b'{"success":false}',
        error="no \U0001f600",
        error_code="failed",
    )
    written = json.loads(job.as_json())
    assert written["started_at"] == "2027-01-15T08:00:00.250000Z"
    assert datetime.fromisoformat(written["completed_at"]).timestamp() == BEGINNING + 1
    assert written["result"] == {"success": False}
    assert written["progress"]["fraction"] == 0.5
    assert written["error"] == "no \U0001f600"


def test_an_event_is_written_as_the_contract_has_it() -> None:
    """Its members are those of the contract, and further ones come last."""
    event = Event("a-job", 7, "output_delta", "a step", BEGINNING, b'{"text":"x"}')
    written = json.loads(event.as_json(also=b',"type":"output_delta"'))
    assert written == {
        "id": 7,
        "event_type": "output_delta",
        "job_id": "a-job",
        "run_id": "a-job",
        "timestamp": "2027-01-15T08:00:00.000000Z",
        "step_name": "a step",
        "data": {"text": "x"},
        "type": "output_delta",
    }
    assert not event.terminal
    assert replace(event, type="pipeline_canceled").terminal


@pytest.mark.parametrize(
    "options", [JobOptions(), JobOptions(timeout=2.5, max_attempts=1, retries=9, capture=b'{"mode":"full"}')]
)
def test_options_are_read_as_they_were_written(options: JobOptions) -> None:
    """What a job is to be run with survives the store."""
    assert JobOptions.load(options.dump()) == options


def test_options_of_an_older_version_have_defaults() -> None:
    """What was not written when the job was submitted has its default."""
    assert JobOptions.load(b'{"retries":2}') == JobOptions(retries=2)


def test_a_time_has_six_digits_of_a_second() -> None:
    """Also a whole second, so that texts sort as times do."""
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"


def test_a_cancel_gives_its_reason() -> None:
    """The message says why, where somebody said why."""
    assert canceled_message(None) == "the job was canceled"
    assert canceled_message("too late") == "the job was canceled: too late"
