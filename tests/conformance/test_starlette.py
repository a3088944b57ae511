from asgipipe.testing import Conformance
from tests.conformance.adapters.starlette import StarletteSubject


class TestStarlette(Conformance):
    subject = StarletteSubject
