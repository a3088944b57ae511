"""The suite that ships with asgipipe says what is wrong as clearly as the tests here."""

import pytest

pytest.register_assert_rewrite("asgipipe.testing.databases")
