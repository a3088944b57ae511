"""Log records of runs: those that are written through `logging` in a run's context, in whatever thread."""

import logging
import threading
from functools import partial

from asgipipe.errors import RunCanceled
from asgipipe.logs import MAX_LINE, cut, traceback_lines
from asgipipe.pipelines.context import Environment, Run, current
from asgipipe.tracking.capture import RunCapture


class RunLogHandler(logging.Handler):
    """Gives the log records of one deployment's runs to whoever records them, and to the listeners of jobs.

    It lets everything through to the other handlers, changes no level, and what goes wrong in it stays in it.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self._environment = environment
        self._busy = threading.local()

    def attach(self) -> None:
        logging.getLogger().addHandler(self)

    def detach(self) -> None:
        logging.getLogger().removeHandler(self)
        self.close()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record without the handler's lock: a listener may wait, and the event loop logs, too."""
        if getattr(self._busy, "value", False):
            return True
        self._busy.value = True
        try:
            self.emit(record)
        except (Exception, RunCanceled):  # boundary: logging never fails for whoever logs
            self.handleError(record)
        finally:
            self._busy.value = False
        return True

    def emit(self, record: logging.LogRecord) -> None:
        context = current.get()
        if context is not None and context[0].environment is self._environment:
            _keep(context[0], context[1], record)
        if self._stands_alone(record):
            logging.lastResort.handle(record)  # type: ignore[union-attr]  # looked at there

    def _stands_alone(self, record: logging.LogRecord) -> bool:
        """True when nobody else handles a record: what Python prints where there is no handler is printed still."""
        last = logging.lastResort
        handlers = logging.getLogger().handlers
        if last is None or record.levelno < last.level or next(iter(handlers), None) is not self:
            return False
        if not all(isinstance(handler, RunLogHandler) for handler in handlers):
            return False
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger.parent is not None:
            if logger.handlers:
                return False
            logger = logger.parent
        return True


def _keep(run: Run, step_name: str | None, record: logging.LogRecord) -> None:
    observer, listener = run.observer, run.listener
    if isinstance(observer, RunCapture):
        observer.log(record, step_name, partial(text_of, record))
    if listener is not None and record.levelno >= logging.INFO:
        level = record.levelname.lower()
        listener("log", step_name, {"level": level, "logger": record.name[:200], "message": text_of(record)})


def text_of(record: logging.LogRecord) -> str:
    """Return the message of a record and its exception, in at most 8 KiB."""
    try:
        text = record.getMessage()
    except Exception as refusal:  # boundary: what is logged is anybody's, and so is how it prints itself
        template = record.msg[:1024] if isinstance(record.msg, str) else f"<{type(record.msg).__qualname__}>"
        text = f"{template} (cannot be printed: {type(refusal).__name__})"
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        text = "\n".join((cut(text, MAX_LINE // 2), *traceback_lines(error)))
    # A lone surrogate and a NUL have no place in a database.
    return cut(text, MAX_LINE).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
