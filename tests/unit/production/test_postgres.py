"""An address that cannot be read is said to be one, without the password in it."""

import pytest

from cd4ml.base.errors import SettingsError
from cd4ml.production.postgres import connect_postgres


@pytest.mark.parametrize("password", ["se?cret", "se@cret", "se/cret@word"])
def test_a_password_that_is_not_escaped_is_said_in_words(password: str) -> None:
    with pytest.raises(SettingsError, match="one @, before the host; in a user or password it is %40") as caught:
        connect_postgres(f"postgresql+psycopg://ada:{password}@127.0.0.1:1/log")
    assert not any(piece in str(caught.value) for piece in ("cret", "word@"))
