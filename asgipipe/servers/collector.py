"""The garbage collector of a process that will serve."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def spared() -> Iterator[None]:
    """Keep the collector off while modules are imported, and leave what they made out of every later collection.

    Of a hundred thousand objects that importing makes, less than one in a hundred is garbage, and modules live as long
    as the process. Looking through them again and again is an eighth of the time until the first answer.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
