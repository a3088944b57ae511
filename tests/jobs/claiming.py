"""A process that claims and finishes jobs until there are none: `claiming.py URL`, with `frozen` it stops in between.

It says its number, then a line for everything that it was told: `claimed`, `finished` or `refused`, id, attempt.
"""

import asyncio
import os
import signal
import sys
import time

from asgipipe.jobs.records import Event, Job
from asgipipe.jobs.states import JobState
from asgipipe.jobs.store import JobStore, StaleAttemptError
from asgipipe.stores.registry import database

AT_ONCE = 25


async def finish(store: JobStore, job: Job) -> str:
    end = Event(job.id, job.last_event + 1, "pipeline_completed", None, time.time(), b"{}")
    try:
        await store.finish(
            job.id,
            job.attempt,
            JobState.COMPLETED,
            result=str(os.getpid()).encode(),
            error=None,
            error_code=None,
            execution_time=0.0,
            events=[end],
        )
    except StaleAttemptError:
        return "refused"
    return "finished"


async def main(url: str, *, frozen: bool) -> None:
    place = database(url)
    await place.open()
    store = JobStore(place, "d")
    owner = await place.register()
    sys.stdout.write(f"{owner}\n")
    sys.stdout.flush()
    while jobs := await store.claim(owner, AT_ONCE):
        if frozen:
            os.kill(os.getpid(), signal.SIGSTOP)
            frozen = False
        words = await asyncio.gather(*(finish(store, job) for job in jobs))
        for job, word in zip(jobs, words, strict=True):
            sys.stdout.write(f"claimed {job.id} {job.attempt}\n{word} {job.id} {job.attempt}\n")
    await place.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], frozen="frozen" in sys.argv))
