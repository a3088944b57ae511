"""A Django project in one module, in which the pipeline of `mortal` is mounted (ASGI) and included (WSGI)."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for tests only", USE_TZ=True)
django = get_asgi_application()
wsgi = get_wsgi_application()

from asgipipe import Deployment  # noqa: E402
from asgipipe_django import mount, urls  # noqa: E402
from tests.reliability.served.mortal import mortal_sync  # noqa: E402

deployment = Deployment(mortal_sync, name="mortal", flavor="django")
urlpatterns = [path("jobs-of/mortal/", include(urls(deployment)))]
application = mount(django, {"/jobs-of/mortal": deployment})
