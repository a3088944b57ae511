"""The security headers of every answer."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from asgipipe.settings.sections import Section

LONGEST = 4096
_VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?")  # RFC 9110, 5.5, without obs-text
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _header(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _refusal("expected true, false, or the header's value as text")
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if len(value) > LONGEST or not _VALUE.fullmatch(value):
        raise _refusal(f"a header's value is 1 to {LONGEST} printable ASCII characters on one line")
    return value


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("header", "{reason}", {"reason": reason})


Header = Annotated[bool | str, BeforeValidator(_header, json_schema_input_type=bool | str)]


class SecureHeadersConfig(Section):
    """Each is true for a safe default, false to leave the header out, or the text to send instead."""

    server: Header = Field(default=True, description="The header server; true sends a name without a version.")
    hsts: Header = Field(default=True, description="The header strict-transport-security.")
    xfo: Header = Field(default=True, description="The header x-frame-options.")
    content: Header = Field(default=True, description="The header x-content-type-options.")
    csp: Header = Field(default=True, description="The header content-security-policy.")
    referrer: Header = Field(default=True, description="The header referrer-policy.")
    cache: Header = Field(default=True, description="The header cache-control.")
    permissions: Header = Field(default=True, description="The header permissions-policy.")
