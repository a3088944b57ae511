"""The life of a job, as a table; nothing else decides what may follow what.

pending ─► running ─► completed | failed | canceled
   ▲          │
   ├──────────┘  its worker was lost or stopped, or a retry is due
   └─► canceled
"""

from enum import StrEnum


class JobState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset((JobState.RUNNING, JobState.CANCELED)),
    JobState.RUNNING: frozenset((JobState.COMPLETED, JobState.FAILED, JobState.CANCELED, JobState.PENDING)),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
}
