from asgipipe.testing.suite import Conformance
from tests.conformance.adapters.starlette import StarletteSubject


class TestStarlette(Conformance):
    subject = StarletteSubject
