"""The Django project around a deployment: the user's own, or the least that Django works with."""

import os
from collections.abc import Mapping

import django
from django.apps import apps
from django.conf import ENVIRONMENT_VARIABLE, settings

from asgipipe.errors import DefinitionError

_LEAST: Mapping[str, object] = {
    "ALLOWED_HOSTS": ["*"],  # which hosts are served is not decided here, on no framework
    "DATA_UPLOAD_MAX_MEMORY_SIZE": None,  # `max_request_body_size` is the limit
    "LOGGING_CONFIG": None,
    "ROOT_URLCONF": (),
    "TIME_ZONE": "UTC",
    "USE_I18N": False,
    "USE_TZ": True,
}


def set_up(given: Mapping[str, object]) -> None:
    """Make Django usable in this process; `given` are settings for the case that there is no project.

    Neither the process's time zone nor its logging is touched: Django sets the time zone for a settings module only.
    Raises DefinitionError for settings that come too late, because Django is configured already.
    """
    if not settings.configured and ENVIRONMENT_VARIABLE not in os.environ:
        wrong = [name for name in given if not name.isupper()]
        if wrong:
            raise DefinitionError(f"{wrong[0]!r} is no setting of Django's; their names are upper case")
        settings.configure(**{**_LEAST, **given})
    for name, value in given.items():
        if not hasattr(settings, name) or getattr(settings, name) != value:
            raise DefinitionError(f"Django is configured already; put {name} into the settings of the project")
    # While Django itself loads applications, one of which may hold this deployment, it must not be told to do so again.
    if not (apps.ready or apps.loading):
        django.setup(set_prefix=False)
