"""A pipeline with events that fill every buffer between it and a client."""

import asyncio

from asgipipe import get_step_context, pipeline, step

TEXT = "x" * 32_768


@step
async def chat(count: int) -> int:
    context = get_step_context()
    for number in range(count):
        context.emit({"number": number, "text": TEXT})
        await asyncio.sleep(0.001)  # what it says can be kept as fast
    if count > 100:  # more than any buffer takes: it goes on for ever
        await asyncio.Event().wait()
    return count


@pipeline
async def chatty(count: int = 1) -> int:
    return await chat(count)
