"""The notebook's web application, with the search of its notes embedded twice."""

import asyncio
import os
import sqlite3

from pydantic import BaseModel, ValidationError
from quart import Blueprint, Quart, Response, abort, g, jsonify, request

from asgipipe import DeploymentSettings
from asgipipe_quart import blueprint, mount
from notebook import database
from notebook.search import search

COOKIE = "session"
app = Quart(__name__)


class Credentials(BaseModel):
    name: str
    password: str


class Note(BaseModel):
    text: str


@app.before_serving
async def create_database() -> None:
    await asyncio.to_thread(database.create)


@app.errorhandler(ValidationError)
async def refuse(error: Exception) -> tuple[Response, int]:
    return jsonify(error="that is not what is asked for"), 422


async def login_required() -> tuple[Response, int] | None:
    g.writer = await asyncio.to_thread(database.writer_of, request.cookies.get(COOKIE, ""))
    return None if g.writer else (jsonify(error="please log in"), 401)


@app.post("/writers")
async def sign_up() -> tuple[str, int]:
    given = Credentials.model_validate_json(await request.get_data())
    try:
        await asyncio.to_thread(database.add_writer, given.name, given.password)
    except sqlite3.IntegrityError:
        abort(409, "that name is taken")
    return "", 204


@app.post("/log-in")
async def log_in() -> Response:
    given = Credentials.model_validate_json(await request.get_data())
    token = await asyncio.to_thread(database.log_in, given.name, given.password)
    if token is None:
        abort(403, "name or password is wrong")
    answer = Response("", 204)
    answer.set_cookie(COOKIE, token, max_age=86400, httponly=True, samesite="Lax")
    return answer


notes = Blueprint("notes", __name__)
notes.before_request(login_required)


@notes.get("/")
async def read() -> Response:
    return jsonify(await asyncio.to_thread(database.notes))


@notes.post("/")
async def write() -> tuple[str, int]:
    note = Note.model_validate_json(await request.get_data())
    await asyncio.to_thread(database.add_note, g.writer, note.text)
    return "", 201


app.register_blueprint(notes, url_prefix="/notes")

# Native routes, behind the login of the application.
native = blueprint(search)
native.before_request(login_required)
app.register_blueprint(native, url_prefix="/search")

# An ASGI mount with a key of its own, for programs. Without NOTEBOOK_KEY the key is a random one.
key = DeploymentSettings(auth_key=os.environ.get("NOTEBOOK_KEY"), generate_auth_key=True)
robots = mount(app, "/robots", search, key)
