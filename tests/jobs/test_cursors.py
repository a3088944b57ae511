import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.errors import BadRequestError
from asgipipe.identifiers import uuid7
from asgipipe.jobs.cursors import cursor_after, job_before


def test_a_cursor_leads_back_to_its_job() -> None:
    """It is short, fits into a URL as it is, and does not show the job."""
    job = uuid7()
    cursor = cursor_after(job)
    assert job_before(cursor) == job
    assert len(cursor) == 22
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert job not in cursor


@given(st.text(max_size=30) | st.text(alphabet="ABCabc019-_=", min_size=20, max_size=24))
def test_other_texts_are_refused(text: str) -> None:
    """Whatever is sent is a bad request, or exactly what was given out for a job."""
    try:
        job = job_before(text)
    except BadRequestError:
        return
    assert cursor_after(job) == text


def test_another_spelling_of_a_cursor_is_refused() -> None:
    """The bits that encode nothing are as they were given out."""
    cursor = cursor_after("01a1fc31-c640-7000-98a7-dbefd82c07cd")
    with pytest.raises(BadRequestError):
        job_before(cursor[:-1] + chr(ord(cursor[-1]) + 1))
