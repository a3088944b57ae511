"""The event loop of a process of ours."""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from asgipipe.pipelines.execution import traceback_of

logger = logging.getLogger("asgipipe.servers")


def run_to_end(
    work: Coroutine[object, object, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    """Run `work` to its end, also after another task, or a callback, has raised SystemExit or KeyboardInterrupt.

    Those two pass every task boundary of asyncio's and end the event loop's run, from whatever task they come.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        main = loop.create_task(work)
        while not main.done():
            try:
                loop.run_until_complete(main)
            except (SystemExit, KeyboardInterrupt) as error:
                if not main.done():
                    logger.error("a task raised what ends a process, which goes on\n%s", traceback_of(error))
        main.result()
