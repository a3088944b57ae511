"""The jobs of a running deployment."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from asgipipe.cli.job_source import CANDIDATES, Audience, JobSource, Json
from asgipipe.cli.remote import Remote
from asgipipe.client.following import Follower
from asgipipe.client.retry import Retry
from asgipipe.client.sync import Driver
from asgipipe.errors import UserError
from asgipipe.jobs.cursors import cursor_after
from asgipipe.jobs.records import TERMINAL_EVENTS

_PAGE = 500
"""The most that a deployment lists at once; a beginning of an id is looked for among them."""
_PATIENCE = 60.0
"""Seconds for which a deployment that was lost is asked again."""
_PAUSES = (0.25, 5.0)
"""Seconds before the first and, at most, each later attempt."""
_ENDINGS = frozenset(TERMINAL_EVENTS.values())


@dataclass(frozen=True, slots=True)
class _Event:
    """An event with all its members, those too that this version knows nothing of."""

    id: int
    members: Json

    @classmethod
    def read(cls, data: bytes) -> "_Event":
        """Raises ValueError for what is no event."""
        event = json.loads(data)
        try:
            return cls(int(event["id"]), {"event_type": "", **event})
        except (KeyError, TypeError) as error:
            raise ValueError("no event") from error

    @property
    def job_id(self) -> str:
        return str(self.members.get("job_id"))

    @property
    def terminal(self) -> bool:
        return self.members["event_type"] in _ENDINGS


class DeployedJobs(JobSource):
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def page(self, statuses: Sequence[str], limit: int, cursor: str | None) -> Json:
        pages = [self._page(status, limit, cursor) for status in statuses or (None,)]
        if len(pages) == 1:
            return pages[0]
        # A deployment lists one status, or all: the newest of each are the newest of them together.
        merged = [job for page in pages for job in cast("Sequence[Json]", page["jobs"])]
        jobs = sorted(merged, key=lambda job: str(job["job_id"]), reverse=True)
        more = len(jobs) > limit or any(page.get("next_cursor") is not None for page in pages)
        return {
            "jobs": jobs[:limit],
            "total": sum(cast("int", page.get("total") or 0) for page in pages),
            "next_cursor": cursor_after(str(jobs[limit - 1]["job_id"])) if more else None,
        }

    def _page(self, status: str | None, limit: int, cursor: str | None) -> Json:
        page = self._remote.get("jobs", query={"status": status, "limit": limit, "cursor": cursor})
        jobs = page.get("jobs")
        if not isinstance(jobs, list) or not all(isinstance(job, dict) and "job_id" in job for job in jobs):
            raise self._remote.stranger()
        return page

    def beginning(self, prefix: str) -> Sequence[Json]:
        if len(prefix) == 36:
            job = self._remote.get("jobs", prefix)
            if "job_id" not in job:
                raise self._remote.stranger()
            return [job]
        jobs = cast("Sequence[Json]", self._page(None, _PAGE, None)["jobs"])
        found = [job for job in jobs if str(job["job_id"]).startswith(prefix)]
        if not found and len(jobs) == _PAGE:
            raise UserError(
                f"none of the newest {_PAGE} jobs begins with {prefix!r}; give the whole id of an older one"
            )
        return found[: CANDIDATES + 1]

    def cancel(self, job_id: str, reason: str | None) -> Json:
        return self._remote.ask("POST", "jobs", job_id, "cancel", query={"reason": reason})

    def close(self) -> None:
        """Nothing is held between requests."""

    def follow(self, job_id: str, audience: Audience) -> None:
        first, longest = _PAUSES
        url, patience = self._remote.url, _PATIENCE
        follower = Follower(
            self._remote.caller(Retry(first=first, longest=longest, patience=patience)),
            _Event.read,
            job_id,
            known=True,
            on_loss=lambda reason: audience.notice(f"{url} was lost: {reason}; trying again for {patience:.0f} s"),
        )
        with self._remote.explained(), self._remote.client() as http:
            for event in Driver(http).iterate(follower.events()):
                audience.event(event.members)
