import pytest

pytest.importorskip("django")

from asgipipe.testing.suite import Conformance
from tests.conformance.adapters.django import DjangoSubject


class TestDjango(Conformance):
    subject = DjangoSubject
