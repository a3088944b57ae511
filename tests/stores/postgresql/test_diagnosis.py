"""What PostgreSQL's errors mean to those who wait."""

import pytest

from asgipipe.errors import AsgipipeError, ConflictError, StorageFullError, UnavailableError
from asgipipe.stores.lane import Remedy

pytest.importorskip("psycopg", reason="the postgres extra is not installed")

import psycopg

from asgipipe.stores.postgresql.diagnosis import diagnose


@pytest.mark.parametrize(
    ("code", "answer", "remedy", "replace"),
    [
        ("40001", UnavailableError, Remedy.AGAIN, False),
        ("40P01", UnavailableError, Remedy.AGAIN, False),
        ("55P03", UnavailableError, Remedy.APART, False),
        ("57014", UnavailableError, Remedy.APART, False),
        ("53100", StorageFullError, Remedy.APART, False),
        ("53200", UnavailableError, Remedy.APART, False),
        ("57P01", UnavailableError, Remedy.AGAIN, True),
        ("57P03", UnavailableError, Remedy.AGAIN, True),
        ("25P03", UnavailableError, Remedy.AGAIN, True),
        ("25006", UnavailableError, Remedy.AGAIN, True),
        ("08006", UnavailableError, Remedy.AGAIN, True),
        ("58030", UnavailableError, Remedy.APART, False),
        ("XX000", UnavailableError, Remedy.APART, False),
        ("54000", psycopg.OperationalError, Remedy.APART, False),
        ("42P01", psycopg.ProgrammingError, Remedy.APART, False),
        ("23505", psycopg.IntegrityError, Remedy.APART, False),
    ],
)
def test_a_code_says_what_to_do(code: str, answer: type[Exception], remedy: Remedy, replace: bool) -> None:
    """What passes is done again, what one operation did wrong is its own, and a broken connection is replaced."""
    diagnosis = diagnose(psycopg.errors.lookup(code)("canary"))
    assert isinstance(diagnosis.answer, answer)
    assert (diagnosis.remedy, diagnosis.replace) == (remedy, replace)
    if isinstance(diagnosis.answer, AsgipipeError):
        assert "canary" not in str(diagnosis.answer)


@pytest.mark.parametrize("error", [psycopg.OperationalError("closed"), psycopg.InterfaceError("closed")])
def test_a_connection_without_a_word_is_replaced(error: psycopg.Error) -> None:
    """An error that the server did not send means that it cannot be reached."""
    diagnosis = diagnose(error)
    assert isinstance(diagnosis.answer, UnavailableError)
    assert (diagnosis.remedy, diagnosis.replace) == (Remedy.AGAIN, True)


@pytest.mark.parametrize("error", [ConflictError("no"), psycopg.DataError("not a text"), ZeroDivisionError()])
def test_what_is_not_the_databases_goes_to_the_caller(error: Exception) -> None:
    """Errors of operations, and of what they hand to psycopg, are passed on as they are."""
    diagnosis = diagnose(error)
    assert diagnosis.answer is error
    assert not diagnosis.replace
