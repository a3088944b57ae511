"""What a scenario is given: the deployments it may ask, in the form and on the server it is run for."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp
from asgipipe.settings.stores import MEMORY
from asgipipe.testing.client import Client, Headers, patience
from asgipipe.testing.inprocess import InProcessClient
from asgipipe.testing.lifespan import running
from asgipipe.testing.reference import StarletteSubject
from asgipipe.testing.specimens import READY, specimen
from asgipipe.testing.subject import Form, Subject, assembled


async def until_ready(client: Client, name: str) -> None:
    """Wait until the specimen `name` is ready: without lifespan events it is the first request that starts it."""
    async with patience():
        while (await client.get(READY.get(name, "/ready"))).status != 200:  # noqa: ASYNC110  # it may be another process that starts it
            await asyncio.sleep(0.01)


class Workshop:
    """The applications in this process, each made and started when it is first asked for, stopped at the end."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._made: dict[tuple[type[Subject], Form, str, str], InProcessClient] = {}

    async def client(self, subject: Subject, form: Form, name: str, store_url: str = MEMORY) -> InProcessClient:
        place = (type(subject), form, name, store_url)
        if place not in self._made:
            app = assembled(subject, form, specimen(name, subject, store_url))
            state = await self._stack.enter_async_context(running(app))
            self._made[place] = InProcessClient(app, form.prefix, state=state)
            await until_ready(self._made[place], name)
        return self._made[place]

    async def close(self) -> None:
        await self._stack.aclose()


class Trial(ABC):
    """One subject in one form, in process or on a server; `store_url` is where its deployments keep what they keep."""

    def __init__(self, subject: Subject, form: Form, workshop: Workshop, store_url: str = MEMORY) -> None:
        self.subject = subject
        self.form = form
        self.store_url = store_url
        self._workshop = workshop

    @abstractmethod
    async def client(self, name: str = "plain", headers: Headers | None = None) -> Client:
        """Return a client of the specimen `name` that sends `headers` with each request."""

    @abstractmethod
    async def host(self, name: str = "plain") -> Client:
        """Return a client of the host around the specimen; of the deployment itself where there is none."""

    async def reference(self, name: str = "plain", headers: Headers | None = None) -> Client:
        """Return a client of the same specimen under the reference runner, standalone, in this process."""
        made = await self._workshop.client(StarletteSubject(), Form.STANDALONE, name)
        return InProcessClient(made.app, made.prefix, headers, state=made.state)

    def assembled(self, deployment: Deployment) -> ASGIApp:
        """Return the application around a deployment of the scenario's own, at `self.form.prefix`, in process."""
        return assembled(self.subject, self.form, deployment)

    @asynccontextmanager
    async def served(self, deployment: Deployment, *, lifespan: bool = True) -> AsyncIterator[InProcessClient]:
        """Serve a deployment of the scenario's own, in process; without `lifespan` as a server that sends no events."""
        app = self.assembled(deployment)
        if not lifespan:
            yield InProcessClient(app, self.form.prefix)
            return
        async with running(app) as state:
            yield InProcessClient(app, self.form.prefix, state=state)

    @asynccontextmanager
    async def hosting(self, deployments: Mapping[str, Deployment]) -> AsyncIterator[InProcessClient]:
        """Serve a host with several deployments at their prefixes, in process."""
        place = self.subject.include if self.form in (Form.INCLUDE, Form.NESTED_INCLUDE) else self.subject.mount
        app = place(deployments)
        async with running(app) as state:
            yield InProcessClient(app, state=state)


class InProcessTrial(Trial):
    async def client(self, name: str = "plain", headers: Headers | None = None) -> Client:
        made = await self._workshop.client(self.subject, self.form, name, self.store_url)
        return InProcessClient(made.app, made.prefix, headers, state=made.state)

    async def host(self, name: str = "plain") -> Client:
        made = await self._workshop.client(self.subject, self.form, name, self.store_url)
        return InProcessClient(made.app, self.form.outer, state=made.state)
