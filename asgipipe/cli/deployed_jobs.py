"""The jobs of a running deployment."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from asgipipe.cli.event_stream import LineTooLongError, messages
from asgipipe.cli.job_source import CANDIDATES, Audience, JobSource, Json
from asgipipe.cli.remote import Remote, RemoteError
from asgipipe.errors import UserError
from asgipipe.jobs.cursors import cursor_after
from asgipipe.jobs.records import TERMINAL_EVENTS

if TYPE_CHECKING:
    import httpx

_PAGE = 500
"""The most that a deployment lists at once; a beginning of an id is looked for among them."""
_SILENCE = 60.0
"""Seconds without an event or a comment until a stream is asked for anew: the other side may be gone unnoticed.

It need not be: a deployment sends comments every `stream_heartbeat` seconds, which is 15 unless somebody has set it.
"""
_PATIENCE = 60.0
"""Seconds for which a deployment that was lost is asked again."""
_PAUSES = (0.25, 5.0)
"""Seconds before the first and, at most, each later attempt."""
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses of servers that restart, and of what stands before them meanwhile."""
_ENDINGS = frozenset(TERMINAL_EVENTS.values())


class LostStreamError(Exception):
    """A stream broke off, or cannot be had just now."""


@dataclass(frozen=True, slots=True)
class _Event:
    id: int
    members: Json


class QuietStreamError(Exception):
    """Nothing came on a stream for _SILENCE seconds."""


class _Outage:
    """The time since a deployment was lost."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self.end()

    def end(self) -> None:
        self._began: float | None = None
        self._pause = _PAUSES[0]

    def wait(self, reason: str) -> None:
        """Wait before the next attempt, a little longer each time. Raises UserError when it has been long enough."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
            self._audience.notice(f"{reason}; trying again for {_PATIENCE:.0f} s")
        left = self._began + _PATIENCE - now
        if left <= 0:
            raise UserError(f"{reason}; the job may go on without being followed")
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, _PAUSES[1])


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
        page = self._remote.get("/jobs", {"status": status, "limit": limit, "cursor": cursor})
        jobs = page.get("jobs")
        if not isinstance(jobs, list) or not all(isinstance(job, dict) and "job_id" in job for job in jobs):
            raise self._remote.stranger()
        return page

    def beginning(self, prefix: str) -> Sequence[Json]:
        if len(prefix) == 36:
            job = self._remote.get(f"/jobs/{prefix}")
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
        return self._remote.ask("POST", f"/jobs/{job_id}/cancel", {"reason": reason})

    def close(self) -> None:
        """Nothing is held between requests."""

    def follow(self, job_id: str, audience: Audience) -> None:
        outage, last = _Outage(audience), 0
        while True:
            try:
                for event in self._events(job_id, last):
                    outage.end()
                    if event is None or event.id <= last:
                        continue
                    last = event.id
                    audience.event(event.members)
                    if event.members["event_type"] in _ENDINGS:
                        return
            except QuietStreamError:
                outage.end()
            except LostStreamError as error:
                outage.wait(f"{self._remote.url} was lost: {error}")
            else:
                return

    def _events(self, job_id: str, last: int) -> Iterator[_Event | None]:
        """Yield what one connection brings, None for a comment; end where there is nothing more to come.

        Raises LostStreamError when it breaks off before that, RemoteError when the deployment refuses.
        """
        import httpx

        headers = {"accept": "text/event-stream", "last-event-id": str(last)}
        timeout = httpx.Timeout(10.0, read=_SILENCE)
        try:
            with (
                self._remote.client() as client,
                client.stream("GET", f"/stream/{job_id}", headers=headers, timeout=timeout) as answer,
            ):
                if answer.status_code == 204:
                    return
                self._check(answer)
                yield from self._received(answer)
        except httpx.HTTPError as error:
            raise LostStreamError(str(error) or type(error).__name__) from None
        except LineTooLongError:
            raise self._remote.stranger() from None
        raise LostStreamError("the server ended the stream")

    def _received(self, answer: "httpx.Response") -> Iterator[_Event | None]:
        import httpx

        try:
            for data in messages(answer.iter_bytes()):
                yield self._event(data) if data else None
        except httpx.ReadTimeout:
            raise QuietStreamError from None

    def _check(self, answer: "httpx.Response") -> None:
        if answer.is_error:
            answer.read()
            reason = self._remote.reason(answer)
            raise LostStreamError(reason) if answer.status_code in _PASSING else RemoteError(reason, answer.status_code)
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise self._remote.stranger()

    def _event(self, data: bytes) -> _Event:
        try:
            event = json.loads(data)
            return _Event(int(event["id"]), {"event_type": "", **event})
        except (ValueError, KeyError, TypeError):
            raise self._remote.stranger() from None
