"""Django by hand: async and sync views, the raw body, the same models, and no middleware at all."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST
from pydantic import BaseModel, ValidationError

from tests.benchmarks.comfort import Conditions, assess, assess_async
from tests.benchmarks.envelope import InvokeRequest, invoke

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, USE_TZ=True, TIME_ZONE="UTC")


@require_POST
async def comfort(request: HttpRequest) -> HttpResponse:
    try:
        conditions = Conditions.model_validate_json(request.body)
    except ValidationError as error:
        return refusal(error)
    return answer(await assess_async(conditions))


@require_POST
def comfort_sync(request: HttpRequest) -> HttpResponse:
    try:
        conditions = Conditions.model_validate_json(request.body)
    except ValidationError as error:
        return refusal(error)
    return answer(assess(conditions))


@require_POST
async def run(request: HttpRequest) -> HttpResponse:
    try:
        body = InvokeRequest.model_validate_json(request.body)
    except ValidationError as error:
        return refusal(error)
    return answer(invoke(body))


def answer(model: BaseModel) -> HttpResponse:
    return HttpResponse(model.model_dump_json(), content_type="application/json")


def refusal(error: ValidationError) -> HttpResponse:
    return HttpResponse(error.json(include_input=False), status=422, content_type="application/json")


urlpatterns = [path("comfort", comfort), path("comfort-sync", comfort_sync), path("invoke", run)]
app = get_asgi_application()
