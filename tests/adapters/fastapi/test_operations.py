"""The deployment's OpenAPI document knows what FastAPI itself says of routes that are its own."""

from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import APIRouter, Depends, Header
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from tests.http.wire import Ask, ask_one


class Item(BaseModel):
    name: str


class Receipt(BaseModel):
    total: float


def user(x_user: str = Header()) -> str:
    return x_user


async def order(item: Item, caller: str = Depends(user)) -> Receipt:
    return Receipt(total=len(item.name) + len(caller))


def hello(times: int = 1) -> int:
    return times


shop = APIRouter(tags=["shop"])


@shop.post("/buy/{count}")
def buy(count: int, item: Item) -> Receipt:
    return Receipt(total=count * len(item.name))


SHOWN = {"extra_kwargs": {"include_in_schema": True}}


def document(**settings: Any) -> dict[str, Any]:
    made: dict[str, Any] = ask_one(
        hello, Ask(path="/openapi.json"), {"deployment_app_runner_flavor": "fastapi", **settings}
    ).json()
    OpenAPIV31SpecValidator(made).validate()  # type: ignore[arg-type]
    return made


def test_a_handler_with_types_of_fastapis_is_documented() -> None:
    """Its parameters, those of its dependencies, its body and its answer stand in the document, as FastAPI has them."""
    operation = document(custom_endpoints=[{"path": "/order", "handler": order, **SHOWN}])["paths"]["/order"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["x-user"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert (body, answer) == ({"$ref": "#/components/schemas/Item"}, {"$ref": "#/components/schemas/Receipt"})


def test_native_routes_are_documented() -> None:
    """They stand at the paths where they are served, with our refusals and our 422 in the place of FastAPI's."""
    made = document(auth_key="key", custom_endpoints=[{"path": "/shop", "handler": shop, "native": True, **SHOWN}])
    responses = made["paths"]["/shop/buy/{count}"]["post"]["responses"]
    assert responses["401"] == {"$ref": "#/components/responses/Unauthorized"}
    assert responses["422"] == {"$ref": "#/components/responses/ValidationFailed"}
    assert not {"HTTPValidationError", "ValidationError"} & made["components"]["schemas"].keys()


def test_what_is_open_says_so() -> None:
    """With a key set, the operations of a native router that needs none have no security, and no 401."""
    spec = {"path": "/shop", "handler": shop, "native": True, "auth_required": False, **SHOWN}
    operation = document(auth_key="key", custom_endpoints=[spec])["paths"]["/shop/buy/{count}"]["post"]
    assert operation["security"] == []
    assert "401" not in operation["responses"]


def test_by_default_the_document_is_the_same_on_every_framework() -> None:
    """What only FastAPI understands is left out unless it is asked for."""
    specs = [{"path": "/order", "handler": order}, {"path": "/shop", "handler": shop, "native": True}]
    assert document(custom_endpoints=specs) == document(deployment_app_runner_flavor="starlette")
