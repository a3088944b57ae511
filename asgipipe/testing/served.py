"""What a server process of the suite serves: every specimen of one subject in one form, told apart by a header."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

from asgipipe import sources
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from asgipipe.testing.lifespan import StartFailedError, running
from asgipipe.testing.specimens import SPECIMENS, specimen
from asgipipe.testing.subject import Form, Subject, assembled

SUBJECT, FORM, STORE = "CONFORMANCE_SUBJECT", "CONFORMANCE_FORM", "CONFORMANCE_STORE"
"""Environment variables: the import string of the subject's class, the form, and the `store_url` of all specimens."""

HEADER = b"x-specimen"


class Showcase:
    """Passes each request on to the specimen that its header names."""

    def __init__(self, apps: Mapping[bytes, ASGIApp]) -> None:
        self._apps = apps
        self._states: dict[bytes, dict[str, object]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        name = dict(scope["headers"])[HEADER]
        await self._apps[name]({**scope, "state": {**self._states[name]}}, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with AsyncExitStack() as stack:
                for name, app in self._apps.items():
                    self._states[name] = await stack.enter_async_context(running(app))
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except StartFailedError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def application() -> ASGIApp:
    """Return the application for a server; the environment says of which subject and form, over which store."""
    subject_class = sources.load(os.environ[SUBJECT])
    if not (isinstance(subject_class, type) and issubclass(subject_class, Subject)):
        raise TypeError(f"{os.environ[SUBJECT]} is not a Subject")
    subject, form, store_url = subject_class(), Form(os.environ[FORM]), os.environ[STORE]
    return Showcase({name.encode(): assembled(subject, form, specimen(name, subject, store_url)) for name in SPECIMENS})
