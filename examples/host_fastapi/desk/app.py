"""The desk's web application, with the triage of its tickets embedded twice."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException, Response
from fastapi.security import APIKeyCookie
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from asgipipe_fastapi import mount, router
from desk import database
from desk.triage import triage

COOKIE = "session"
session = APIKeyCookie(name=COOKIE, auto_error=False)


class Credentials(BaseModel):
    name: str
    password: str


def current_agent(token: Annotated[str | None, Depends(session)]) -> str:
    agent = database.agent_of(token or "")
    if agent is None:
        raise HTTPException(401, "please log in")
    return agent


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(database.create)
    yield


app = FastAPI(title="Ticket desk", lifespan=lifespan)


@app.post("/log-in", status_code=204)
def log_in(given: Credentials, response: Response) -> None:
    token = database.log_in(given.name, given.password)
    if token is None:
        raise HTTPException(403, "name or password is wrong")
    response.set_cookie(COOKIE, token, max_age=86400, httponly=True, samesite="lax")


@app.post("/tickets", status_code=201)
def write_ticket(text: Annotated[str, Body(embed=True)]) -> int:
    [(number,)] = database.query("insert into tickets (text) values (?) returning id", text)
    return int(number)


@app.get("/tickets/{number}", dependencies=[Depends(current_agent)])
def read_ticket(number: int) -> str:
    for (text,) in database.query("select text from tickets where id = ?", number):
        return str(text)
    raise HTTPException(404, f"there is no ticket {number}")


# Native routes, behind the login of the application.
app.include_router(router(triage), prefix="/triage", dependencies=[Depends(current_agent)])

# An ASGI mount with a key of its own, for programs. Without DESK_KEY the key is a random one.
key = os.environ.get("DESK_KEY") or secrets.token_urlsafe(32)
robots = mount(app, "/robots", triage, {"auth_key": key})
