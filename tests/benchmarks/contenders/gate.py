"""What feeds wait for: somebody opens the named pipe for writing, once all followers are there."""

import asyncio
import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "BENCHMARK_GATE"
"""The environment variable that names it."""


async def opened() -> None:
    gate = Path(os.environ[VARIABLE])
    await asyncio.to_thread(gate.read_bytes)
