"""An engine for the tests of this folder."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.deployers.docker.workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Workshop]":
    from tests.deployers.docker.workshop import opened

    with opened(tmp_path_factory) as workshop:
        yield workshop
