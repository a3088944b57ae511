"""A pipeline with as many events as it can tell."""

from asgipipe import get_step_context, pipeline, step


@step
def drops(count: int) -> int:
    context = get_step_context()
    for number in range(count):
        context.emit({"number": number})
    return count


@pipeline(settings={"max_job_events": 1_000_000})
def flood(count: int) -> int:
    return drops(count)
