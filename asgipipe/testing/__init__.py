'''The conformance suite: what proves that a deployment answers the same on every framework.

An adapter's author describes the framework in a subclass of `Subject`, and makes tests of it in a module of their own:

    from asgipipe.testing import Conformance
    from asgipipe.testing.reference import StarletteSubject


    class MySubject(StarletteSubject):
        """A framework that is Starlette underneath: the rest is inherited, elsewhere six methods are written."""

        flavor = "mine"
        runner = "asgipipe.runners.starlette:StarletteAppRunner"


    class TestMine(Conformance):
        subject = MySubject

Every scenario becomes a test in each form: standalone, mounted, included, nested behind a proxy. Those that real
sockets matter for run under uvicorn and gunicorn too, standalone and embedded, over an SQLite file; those about jobs
and recorded runs also over PostgreSQL, when a fixture `postgresql_url` gives the URL of a new, empty database; they are
skipped without one.
`pytest -k mine`, `-k include`, `-k gunicorn` and `-k postgresql` select tests.
What a framework cannot do is a `Limit` in `limits`: there the scenario has to fail, and the reason says why.

Needs `pip install "asgipipe[testing]"`.
'''

from typing import TYPE_CHECKING

from asgipipe.testing.limits import LIMITS, Limit
from asgipipe.testing.subject import Form, Subject

if TYPE_CHECKING:
    from asgipipe.testing.suite import Conformance

__all__ = ["LIMITS", "Conformance", "Form", "Limit", "Subject"]


def __getattr__(name: str) -> object:
    # Servers of the suite import this package as well, and have no use for pytest.
    if name != "Conformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from asgipipe.testing.suite import Conformance
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise ModuleNotFoundError(
            'asgipipe.testing needs pytest: pip install "asgipipe[testing]"', name=error.name
        ) from error
    return Conformance
