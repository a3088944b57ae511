"""The bookshop's web application, with the digest of its reviews embedded twice."""

import os
import sqlite3
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

from asgipipe import DeploymentSettings
from asgipipe.runners.starlette import mount, router
from bookshop import database
from bookshop.digest import digest

COOKIE = "session"


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


class Credentials(BaseModel):
    name: str
    password: str


class Review(BaseModel):
    text: str


async def refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "that is not what is asked for"}, 422)


async def sign_up(request: Request) -> Response:
    given = Credentials.model_validate_json(await request.body())
    try:
        await run_in_threadpool(database.add_member, given.name, given.password)
    except sqlite3.IntegrityError:
        return JSONResponse({"error": "that name is taken"}, 409)
    return Response(status_code=204)


async def log_in(request: Request) -> Response:
    given = Credentials.model_validate_json(await request.body())
    token = await run_in_threadpool(database.log_in, given.name, given.password)
    if token is None:
        return JSONResponse({"error": "name or password is wrong"}, 403)
    answer = Response(status_code=204)
    answer.set_cookie(COOKIE, token, max_age=86400, httponly=True, samesite="lax")
    return answer


def log_out(request: Request) -> Response:
    database.log_out(request.cookies.get(COOKIE, ""))
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE)
    return answer


def reviews(request: Request) -> Response:
    return JSONResponse(database.reviews_of(request.path_params["book"]))


async def write_review(request: Request) -> Response:
    review = Review.model_validate_json(await request.body())
    await run_in_threadpool(database.add_review, request.path_params["book"], request.state.member, review.text)
    return Response(status_code=201)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    await run_in_threadpool(database.create)
    yield


app = Starlette(
    routes=[
        Route("/sign-up", sign_up, methods=["POST"]),
        Route("/log-in", log_in, methods=["POST"]),
        Route("/log-out", log_out, methods=["POST"]),
        Route("/reviews/{book}", reviews),
        Mount(
            "/members",
            routes=[
                Route("/reviews/{book}", write_review, methods=["POST"]),
                # Native routes, behind the login of the application.
                Mount("/digest", app=router(digest)),
            ],
            middleware=[Middleware(LoginRequired)],
        ),
    ],
    exception_handlers={ValidationError: refuse},
    lifespan=lifespan,
)

# An ASGI mount with a key of its own, for partners, who have no login. Without BOOKSHOP_KEY the key is a random one.
key = DeploymentSettings(auth_key=os.environ.get("BOOKSHOP_KEY"), generate_auth_key=True)
partners = mount(app, "/partners", digest, key)
