"""Nothing of a password is shown, whatever it holds; and what is put into an address can be read from it."""

import re
from urllib.parse import unquote, urlsplit

import pytest

from cd4ml.base.addresses import escape_inserted, hide_password, hide_passwords, is_readable

PASSWORDS = ["plain-word", "with@sign", "with?mark", "with/slash", "with#hash", "with:colon", "?@/#:[]%&=",
             "50%off", "a b"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("place", ["db:5432/log", "db/log?sslmode=require"])
def test_no_piece_of_a_password_is_shown(password: str, place: str) -> None:
    for user in ("ada:", ""):
        shown = hide_password(f"postgresql+psycopg://{user}{password}@{place}")
        assert shown.startswith("postgresql+psycopg://•••@db")
        assert not any(piece in shown for piece in re.split("[@:/?#]", password) if len(piece) > 2)


def test_what_is_no_secret_stays() -> None:
    for address in ("sqlite:////x/mlflow.db", "https://host/a.csv", "sales.csv", "shop.problems:make",
                    "postgresql://ada:${PASSWORD}@db/log?password=${OTHER}", "https://${TOKEN}@host/x"):
        assert hide_password(address) == address
    assert hide_password("https://host/a.csv?sig=abc&v") == "https://host/a.csv?sig=•••&•••"


def test_what_a_library_says_holds_no_password() -> None:
    address = "postgresql://ada:pa%40word@db/log?password=other"
    told = "cannot connect to postgresql://ada:pa%40word@db/log as ada with pa@word or other; see https://x:y@z/w"
    assert hide_passwords(told, address) == (
        "cannot connect to postgresql://•••@db/log as ada with ••• or •••; see https://•••@z/w")
    assert "word" not in hide_passwords("no host word@db", "postgresql://ada:pa@word@db/log")


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_is_inserted_is_read_as_it_is(password: str) -> None:
    filled = re.sub(r"\$\{\w+\}", lambda found: escape_inserted(password, found), "postgresql://ada:${PASSWORD}@db:5/log")
    parts = urlsplit(filled)
    assert (unquote(parts.password or ""), parts.hostname, parts.port) == (password, "db", 5)
    assert is_readable(filled)


def test_only_what_stands_before_a_host_is_escaped_and_only_once() -> None:
    for text in ("${X}", "${X}/log", "https://host/${X}", "https://host/${X}@2", "https://host/a?key=${X}"):
        assert re.sub(r"\$\{X\}", lambda found: escape_inserted("a@b/c", found), text) == text.replace("${X}", "a@b/c")
    found = re.search("X", "https://X@host")
    assert found
    assert escape_inserted("a%40b", found) == "a%40b"


@pytest.mark.parametrize("address", ["p://u:a@b@db/log", "p://u:a?b@db/log", "p://u:a/b@db/log", "p://u:a@b/c@db/log"])
def test_an_address_that_would_be_misread_is_known(address: str) -> None:
    assert not is_readable(address)
