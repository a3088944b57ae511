"""Protection against pages of other sites that make a browser send requests (cross-site request forgery)."""

from copy import copy

from asgiref.sync import sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware

from asgipipe.errors import ForbiddenError, HTTPError
from asgipipe_django.errors import meant_for_client

_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))  # RFC 9110, section 9.2.1
_FORM = "application/x-www-form-urlencoded"


async def refused(request: HttpRequest) -> HTTPError | None:
    """Return the refusal of a request that a page of another site may have made; None for all others.

    Browsers ask first before such a page may send JSON or a bearer key, so programs, which send those, are not asked
    for a token. Whatever else comes with what browsers add by themselves (cookies, a password for the realm) has to
    pass Django's own check, which reads the database where CSRF_USE_SESSIONS is on.
    """
    if request.method in _SAFE or _is_json(request) or not _may_be_a_browsers(request):
        return None
    return await sync_to_async(_check)(request)


def _is_json(request: HttpRequest) -> bool:
    kind = request.content_type or ""
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _may_be_a_browsers(request: HttpRequest) -> bool:
    scheme = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")[0].lower()
    return scheme != "bearer" and ("HTTP_COOKIE" in request.META or bool(scheme))


def _check(request: HttpRequest) -> HTTPError | None:
    if request.content_type != _FORM:
        # Django would look for the token in a body that can be read only once; there, only a header may have it.
        request = copy(request)
        request.POST = QueryDict()
    try:
        response = CsrfViewMiddleware(_unused).process_view(request, _unused, (), {})
    except SuspiciousOperation as error:  # a form beyond the project's limits
        return meant_for_client(error)
    return None if response is None else ForbiddenError(_WAY_OUT)


_WAY_OUT = (
    "A page of another site may have sent this. Send JSON with the content type application/json, or Django's CSRF"
    " token, or a bearer key."
)


def _unused(_: HttpRequest) -> HttpResponseBase:
    raise AssertionError("it is asked for its check alone")
