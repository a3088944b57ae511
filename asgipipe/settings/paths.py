"""URL paths, as settings write them."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

# RFC 3986 `pchar` without percent-encoding: servers decode the path before it is compared.
_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,;=:@-]+"
_PLAIN = re.compile(rf"(?:/{_SEGMENT})+")
_TEMPLATE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
LONGEST = 1024


def check_endpoint(path: str) -> str:
    """Return `path` if it is `/a/b`: no trailing slash, query, fragment, template, or encoded character."""
    if path == "/" or not path:
        raise _refusal("expected a path such as '/name'")
    return _check(path)


def check_prefix(path: str) -> str:
    """Return `path` if it is empty or what an endpoint's path may be."""
    if path == "/":
        raise _refusal("the root is written as an empty text, not '/'")
    return _check(path) if path else path


def check_template(path: str) -> str:
    """Return `path` if it is the root, or a path that may hold `{name}` and, at its end, `{name:path}`."""
    if path in ("", "/"):
        return path
    parameters = list(_TEMPLATE.finditer(path))
    names = [parameter[1] for parameter in parameters]
    if len(set(names)) < len(names):
        raise _refusal("the parameters of a path have different names")
    if any(parameter[2] and parameter.end() < len(path) for parameter in parameters):
        raise _refusal("a {name:path} parameter takes all that follows, so nothing may stand behind it")
    plain = _TEMPLATE.sub("x", path)
    if "{" in plain or "}" in plain:
        raise _refusal("a parameter reads {name} or {name:path}")
    _check(plain)
    return path


def shape(template: str) -> str:
    """Return `template` without the names of its parameters, so that two templates can be compared."""
    return _TEMPLATE.sub(r"{\2}", template)


def _check(path: str) -> str:
    segments = path.split("/")[1:]
    if not path.startswith("/"):
        raise _refusal("a path starts with '/'")
    if path.endswith("/"):
        raise _refusal("a path has no slash at its end")
    if "" in segments:
        raise _refusal("a path has no empty part ('//')")
    if "." in segments or ".." in segments:
        raise _refusal("clients resolve '.' and '..' before they send a path")
    if not _PLAIN.fullmatch(path):
        raise _refusal("a path holds ASCII letters, digits and -._~!$&'()*+,;=:@ only, written as they are")
    return path


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("url_path", "{reason}", {"reason": reason})


EndpointPath = Annotated[str, Field(max_length=LONGEST), AfterValidator(check_endpoint)]
PathPrefix = Annotated[str, Field(max_length=LONGEST), AfterValidator(check_prefix)]
PathTemplate = Annotated[str, Field(max_length=LONGEST), AfterValidator(check_template)]
