import asyncio

from asgipipe import pipeline, step
from asgipipe.jobs.memory import JobMemory
from asgipipe.jobs.recording import Recording
from asgipipe.jobs.records import Job
from asgipipe.pipelines.context import Run
from tests.jobs.claimed import Bench, bench
from tests.running import started


async def attempt(desk: Bench, job: Job, target: object) -> Run:
    """Run a pipeline as one attempt of a job, with what the earlier ones have kept."""
    told = Recording(job, desk.store, desk.hub, asyncio.get_running_loop())
    memory = JobMemory(await desk.store.results(job.id), told)
    async with started(target) as deployment:
        run = await deployment.service.invoke({}, run_id=job.id, listener=told, memory=memory)
    await desk.store.put_back(job.id, job.attempt, due_at=0.0, failed=True, events=told.take())
    return run


def test_a_job_goes_on_after_the_last_step_whose_result_was_kept() -> None:
    """The second attempt runs neither the steps that were finished nor announces them."""
    calls: list[str] = []

    @step
    def load() -> dict[str, list[float]]:
        calls.append("load")
        return {"values": [1.0, 2.0]}

    @step
    async def train(data: dict[str, list[float]]) -> float:
        calls.append("train")
        if calls.count("train") == 1:
            raise ValueError("out of memory")
        return sum(data["values"])

    @pipeline
    def target() -> float:
        return train(load())  # type: ignore[return-value]  # a sync pipeline's thread awaits it

    async def main() -> None:
        async with bench() as desk:
            job = await desk.claimed()
            first = await attempt(desk, job, target)
            assert str(first.error) == "out of memory"
            again = await desk.store.claim_one(desk.worker, job.id)
            assert again is not None
            second = await attempt(desk, again, target)
            assert second.outputs_json == b'{"output":3.0}'
            assert calls == ["load", "train", "train"]
            told = [(event.type, event.step_name) for event in await desk.stored(job.id)]
            assert told == [
                ("step_started", "load"),
                ("step_completed", "load"),
                ("step_started", "train"),
                ("step_failed", "train"),
                ("step_started", "train"),
                ("step_completed", "train"),
            ]

    asyncio.run(main())
