"""Which web pages of other origins may call a deployment (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from asgipipe.settings.sections import Section, refuse

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[^\s/?#@,*]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, 5.6.2
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _origin(value: str) -> str:
    origin = value.lower()  # browsers send it so
    if origin == "*":
        return origin
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise _refusal("an origin reads 'https://host' or 'https://host:port', without a path; '*' stands for all")
    port = _DEFAULT_PORTS.get(match[1])
    if port and origin.endswith(port):
        raise _refusal(f"browsers leave the port {port[1:]} out of an {match[1]} origin; leave it out here too")
    return origin


def _method(value: str) -> str:
    return _token(value).upper()


def _header(value: str) -> str:
    return _token(value).lower()


def _token(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise _refusal("expected the name of an HTTP method or header")
    return value


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("cors", "{reason}", {"reason": reason})


class CORSConfig(Section):
    """Cross-origin requests; with no origin in the list, which is the default, browsers refuse them all."""

    allow_origins: list[Annotated[str, AfterValidator(_origin)]] = Field(
        default=[], description="Origins whose pages may call the deployment, such as https://app.example; '*' for all."
    )
    allow_methods: list[Annotated[str, AfterValidator(_method)]] = Field(
        default=["GET", "POST", "PUT", "PATCH", "DELETE"],
        description="Methods such pages may use; '*' for all.",
    )
    allow_headers: list[Annotated[str, AfterValidator(_header)]] = Field(
        default=["authorization", "content-type", "idempotency-key", "last-event-id", "prefer", "x-request-id"],
        description="Request headers such pages may send, in any case; '*' for all.",
    )
    allow_credentials: bool = Field(
        default=False,
        description="Whether such pages may send cookies. Not together with the origin '*'.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.allow_credentials and "*" in self.allow_origins:
            reason = "credentials are refused together with the origin '*': name the origins in cors.allow_origins"
            refuse("CORSConfig", [(("allow_credentials",), reason)])
        return self
