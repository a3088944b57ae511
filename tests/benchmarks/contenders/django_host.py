"""A Django project with the pipeline in it: mounted, and as native routes."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import include, path

from asgipipe_django import mount, urls
from tests.benchmarks import workload
from tests.benchmarks.pipelines import weather_async

SETTINGS = {"auth_key": workload.AUTH_KEY}

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, USE_TZ=True, TIME_ZONE="UTC")

urlpatterns = [path("weather/", include(urls(weather_async, SETTINGS)))]
included = get_asgi_application()
mounted = mount(get_asgi_application(), {"/weather": weather_async.with_options(settings=SETTINGS)})
