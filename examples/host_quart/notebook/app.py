"""The notebook's web application, with the search of its notes embedded twice."""

import asyncio
import os
import secrets

from pydantic import BaseModel, ValidationError
from quart import Blueprint, Quart, Response, abort, jsonify, request, session

from asgipipe_quart import blueprint, mount
from notebook import database
from notebook.search import search

app = Quart(__name__)
app.secret_key = os.environ.get("NOTEBOOK_SECRET") or secrets.token_bytes(32)  # of the cookies that sessions are


class Credentials(BaseModel):
    name: str
    password: str


@app.before_serving
async def create_database() -> None:
    await asyncio.to_thread(database.create)


@app.errorhandler(ValidationError)
async def refuse(error: Exception) -> tuple[Response, int]:
    return jsonify(error="that is not what is asked for"), 422


async def login_required() -> tuple[Response, int] | None:
    return None if "writer" in session else (jsonify(error="please log in"), 401)


@app.post("/writers")
async def sign_up() -> tuple[str, int]:
    given = Credentials.model_validate_json(await request.get_data())
    if not await asyncio.to_thread(database.add_writer, given.name, given.password):
        abort(409, "that name is taken")
    return "", 204


@app.post("/log-in")
async def log_in() -> tuple[str, int]:
    given = Credentials.model_validate_json(await request.get_data())
    if not await asyncio.to_thread(database.knows, given.name, given.password):
        abort(403, "name or password is wrong")
    session["writer"] = given.name
    return "", 204


notes = Blueprint("notes", __name__)
notes.before_request(login_required)


@notes.get("/notes")
async def read() -> Response:
    rows = await asyncio.to_thread(database.query, "select text from notes order by id")
    return jsonify([text for (text,) in rows])


@notes.post("/notes")
async def write() -> tuple[str, int]:
    text = await request.get_data(as_text=True)
    add = "insert into notes (writer, text) values (?, ?)"
    await asyncio.to_thread(database.query, add, session["writer"], text)
    return "", 201


app.register_blueprint(notes)

# Native routes, behind the login of the application.
guarded = blueprint(search)
guarded.before_request(login_required)
app.register_blueprint(guarded, url_prefix="/search")

# An ASGI mount with a key of its own, for programs. Without NOTEBOOK_KEY the key is a random one.
key = os.environ.get("NOTEBOOK_KEY") or secrets.token_urlsafe(32)
robots = mount(app, "/robots", search, {"auth_key": key})
