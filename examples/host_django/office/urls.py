"""The office's URLs. All but the login need a session: LoginRequiredMiddleware sees to that."""

from django.contrib.auth.views import LoginView
from django.urls import include, path

from asgipipe_django import urls
from office.audit import audit
from office.views import claims

urlpatterns = [
    path("login/", LoginView.as_view(), name="login"),
    path("claims/", claims, name="claims"),
    # Native routes, behind the login like everything else.
    path("audit/", include(urls(audit))),
]
