"""The `asgipipe` command, with workers that are taken for dead after a second and a half instead of ten."""

from functools import partialmethod

from asgipipe.cli.main import main
from asgipipe.stores.postgresql import Limits, PostgreSQLDatabase

if __name__ == "__main__":
    limits = Limits(lifetime=1.5, renewal=0.3)
    PostgreSQLDatabase.__init__ = partialmethod(PostgreSQLDatabase.__init__, limits=limits)  # type: ignore[method-assign,assignment]
    main()
