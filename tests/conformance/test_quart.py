import pytest

pytest.importorskip("quart")

from asgipipe.testing import Conformance
from tests.conformance.adapters.quart import QuartSubject


class TestQuart(Conformance):
    subject = QuartSubject
