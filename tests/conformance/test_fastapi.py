import pytest

pytest.importorskip("fastapi")

from asgipipe.testing import Conformance
from tests.conformance.adapters.fastapi import FastAPISubject


class TestFastAPI(Conformance):
    subject = FastAPISubject
