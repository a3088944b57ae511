"""Django's exceptions as refusals, and whatever is raised as a response."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponseBase
from django.http.multipartparser import MultiPartParserError

from asgipipe.errors import BadRequestError, BodyTooLargeError, ForbiddenError, HTTPError, NotFoundError
from asgipipe.http.binding.failure import failed, guarded
from asgipipe_django.response import refusal

GetResponse = Callable[[HttpRequest], Any]  # the response, or an awaitable of it


def meant_for_client(error: BaseException) -> HTTPError | None:
    """Return the refusal that one of Django's exceptions stands for.

    Their texts stay inside: Django's own pages keep them to the debug mode, which we have none of.
    """
    match error:
        case HTTPError():
            return error
        case Http404():
            return NotFoundError("Not Found")
        case PermissionDenied():
            return ForbiddenError("Forbidden")
        case RequestDataTooBig():
            return BodyTooLargeError(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)
        case SuspiciousOperation() | BadRequest() | MultiPartParserError():
            return BadRequestError("Bad Request")
    return None


def refusing(get_response: GetResponse, *, is_async: bool) -> GetResponse:
    """Return `get_response` with a problem document in the place of everything it raises.

    So native middleware sees answers and no exceptions, as it does in Django.
    """
    return _refusing_async(get_response) if is_async else _refusing(get_response)


def _refusing_async(get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> GetResponse:
    async def attempt(request: HttpRequest) -> HttpResponseBase:
        try:
            return await get_response(request)
        except Exception as error:  # boundary: views and middleware are user code
            refused = meant_for_client(error)
            if refused is None:
                got_request_exception.send(sender=None, request=request)
                raise
            raise refused from error

    @wraps(get_response)
    async def inner(request: HttpRequest) -> HttpResponseBase:
        try:
            return await guarded(request.path_info, attempt(request))
        except HTTPError as error:
            return refusal(error)

    return inner


def _refusing(get_response: Callable[[HttpRequest], HttpResponseBase]) -> GetResponse:
    @wraps(get_response)
    def inner(request: HttpRequest) -> HttpResponseBase:
        try:
            return get_response(request)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # boundary: native middleware is user code; a SystemExit would stop the server
            refused = meant_for_client(error)
            if refused is None:
                got_request_exception.send(sender=None, request=request)
            return refusal(refused or failed(request.path_info, error))

    return inner
