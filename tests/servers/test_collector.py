import gc
from collections.abc import Iterator

import pytest

from asgipipe.servers.collector import spared


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """Leave the collector of the test process as it was."""
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_and_what_was_made_never_is() -> None:
    """The collector is off inside, on again behind, and what was made inside is not among what it looks at."""
    with spared():
        assert not gc.isenabled()
        made = [object()]
    assert gc.isenabled()
    assert all(each is not made for each in gc.get_objects())


def test_a_collector_that_was_off_stays_off() -> None:
    """Whoever switched it off decides, also when something is raised."""
    gc.disable()
    with pytest.raises(ImportError), spared():
        raise ImportError
    assert not gc.isenabled()
