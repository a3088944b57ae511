"""The conformance suite: what proves that a deployment answers the same on every framework."""

from asgipipe.testing.limits import LIMITS, Limit
from asgipipe.testing.subject import Form, Subject

__all__ = ["LIMITS", "Form", "Limit", "Subject"]
