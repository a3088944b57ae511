"""The office as an ASGI application, with the audit of claims mounted beside it."""

import os
import secrets

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "office.settings")
office = get_asgi_application()

# Modules that import models can only be imported now that Django is set up.
from asgipipe import Deployment  # noqa: E402
from asgipipe_django import mount  # noqa: E402
from office.audit import audit  # noqa: E402

# An ASGI mount with a key of its own, for programs. Without OFFICE_KEY the key is a random one.
robots = Deployment(audit, {"auth_key": os.environ.get("OFFICE_KEY") or secrets.token_urlsafe(32)})
application = mount(office, {"/robots": robots})
