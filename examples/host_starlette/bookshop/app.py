"""The bookshop's web application, with the digest of its reviews embedded twice."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asgipipe.runners.starlette import mount, router
from bookshop import database
from bookshop.digest import digest

COOKIE = "session"


class Credentials(BaseModel):
    name: str
    password: str


class LoginRequired:
    """Lets members in, and answers everybody else itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        member = await run_in_threadpool(database.member_of, connection.cookies.get(COOKIE, ""))
        if member is None:
            await JSONResponse({"error": "please log in"}, 401)(scope, receive, send)
        else:
            connection.state.member = member
            await self.app(scope, receive, send)


async def sign_up(request: Request) -> Response:
    given = Credentials.model_validate_json(await request.body())
    added = await run_in_threadpool(database.add_member, given.name, given.password)
    return Response(status_code=204) if added else JSONResponse({"error": "that name is taken"}, 409)


async def log_in(request: Request) -> Response:
    given = Credentials.model_validate_json(await request.body())
    token = await run_in_threadpool(database.log_in, given.name, given.password)
    if token is None:
        return JSONResponse({"error": "name or password is wrong"}, 403)
    answer = Response(status_code=204)
    answer.set_cookie(COOKIE, token, max_age=86400, httponly=True, samesite="lax")
    return answer


def reviews(request: Request) -> Response:
    rows = database.query("select text from reviews where book = ?", request.path_params["book"])
    return JSONResponse([text for (text,) in rows])


async def write_review(request: Request) -> Response:
    text, book = (await request.body()).decode(errors="replace"), request.path_params["book"]
    add = "insert into reviews values (?, ?, ?)"
    await run_in_threadpool(database.query, add, book, request.state.member, text)
    return Response(status_code=201)


async def refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "that is not what is asked for"}, 422)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    await run_in_threadpool(database.create)
    yield


members = [
    Route("/reviews/{book}", write_review, methods=["POST"]),
    # Native routes, behind the login of the application.
    Mount("/digest", routes=router(digest).routes),
]
app = Starlette(
    routes=[
        Route("/sign-up", sign_up, methods=["POST"]),
        Route("/log-in", log_in, methods=["POST"]),
        Route("/reviews/{book}", reviews),
        Mount("/members", routes=members, middleware=[Middleware(LoginRequired)]),
    ],
    exception_handlers={ValidationError: refuse},
    lifespan=lifespan,
)

# An ASGI mount with a key of its own, for partners, who have no login. Without BOOKSHOP_KEY the key is a random one.
key = os.environ.get("BOOKSHOP_KEY") or secrets.token_urlsafe(32)
partners = mount(app, "/partners", digest, {"auth_key": key})
