import gc
from collections.abc import Iterator

import pytest

pytest.importorskip("django")

from asgipipe.testing import Conformance
from tests.conformance.adapters.django import DjangoSubject


# Django 5.2 leaves the file of a request's body open when a streaming response raises.
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile.*")
class TestDjango(Conformance):
    subject = DjangoSubject

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def collected(cls) -> Iterator[None]:
        yield
        gc.collect()  # here, where the warning is expected
