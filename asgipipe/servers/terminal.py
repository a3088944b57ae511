"""The terminal that a command was started from."""

import os
import signal


class Terminal:
    """Tells a SIGHUP that says "reload" from the one with which the kernel says that the terminal was closed."""

    def __init__(self) -> None:
        under_nohup = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._was_there = not under_nohup and _is_there()

    def is_gone(self) -> bool:
        """True when it was there and is not any more; a command under `nohup` never had one."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
