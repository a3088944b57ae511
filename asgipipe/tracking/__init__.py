"""What runs leave behind, as their capture policy says."""

from asgipipe.tracking.records import RecordedLog, RecordedRun, RecordedStep, RunPage
from asgipipe.tracking.runs import Runs

__all__ = ["RecordedLog", "RecordedRun", "RecordedStep", "RunPage", "Runs"]
