"""What goes wrong while a deployment is built is reported with the setting it comes from."""

from collections.abc import Iterator
from contextlib import contextmanager

from asgipipe.errors import DefinitionError, SettingsError, SourceError
from asgipipe.pipelines.execution import summary_of


@contextmanager
def building(place: str) -> Iterator[None]:
    """Raise whatever the block raises as a DefinitionError that begins with `place`."""
    try:
        yield
    except SettingsError:
        raise
    except (DefinitionError, SourceError) as error:
        raise DefinitionError(f"{place}: {error}") from error
    except Exception as error:  # boundary: constructors, builders and extensions are user code
        raise DefinitionError(f"{place} raised {summary_of(error)}") from error
