import base64
import gzip
import html
import io
import json
import pickle
import urllib.parse
import zipfile

import pytest

from cd4ml.base.errors import ParameterError
from cd4ml.base.secrets import MASK, Redactor, SecretReference, find_references, has_secret, read_secrets

SECRETS = ["plain-0815", 'wörd "4711" <&>/?', "it's\\a\ttab+", "line one here\nline two here\n", "≈" * 8]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("write", [
    str, repr, ascii, json.dumps, html.escape, urllib.parse.quote, urllib.parse.quote_plus,
    lambda text: json.dumps(text, ensure_ascii=False), lambda text: html.escape(text, False),
    lambda text: json.dumps(json.dumps(text)), lambda text: json.dumps(repr(text)),
    lambda text: html.escape(repr(text)), lambda text: html.escape(json.dumps(text)),
    lambda text: urllib.parse.quote(text, safe=""), lambda text: text.encode().hex(),
    lambda text: "\x1b[31m".join(text), lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.encodebytes(b"x" * 50 + text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(b"a" + text.encode() + b"b").decode(),
    lambda text: base64.b64encode(b"ab" + text.encode() + b"cd").decode(),
])
def test_a_secret_is_found_in_every_guise(secret, write):
    shown = Redactor([secret]).redact(f"before {write(secret)} after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert MASK in shown
    assert write(secret) not in shown
    assert secret.strip()[1:-1] not in shown


@pytest.mark.parametrize("places", [(1,), (3, 7), tuple(range(1, 10))])
def test_a_secret_spread_over_texts_is_found_and_the_rest_stays_where_it_was(places):
    text = "plain-0815"
    cuts = [text[a:b] for a, b in zip((0, *places), (*places, len(text)), strict=True)]
    made = Redactor([text]).redact_parts(["in front ", *cuts, "", " behind plain-0815!"])
    assert "".join(made) == "in front ••• behind •••!"
    assert (made[0], made[-1], len(made)) == ("in front ", " behind •••!", len(cuts) + 3)


def test_of_two_secrets_the_longer_one_wins():
    assert Redactor(["plain-08", "plain-0815"]).redact("plain-0815 plain-08") == "••• •••"


def test_without_secrets_nothing_is_touched():
    tree = {"a": [object()]}
    assert Redactor().redact_tree(tree) is tree
    assert not has_secret(b"", Redactor())


def test_a_reference_is_a_text_that_survives_being_sent():
    sent = pickle.loads(pickle.dumps({"a": [SecretReference("${ONE}"), "${TWO}"], "b": SecretReference("${A_3}")}))
    assert find_references(sent) == ("A_3", "ONE")
    assert json.dumps(sent["b"]) == '"${A_3}"'


def test_all_that_is_missing_is_named_and_nothing_shown():
    with pytest.raises(ParameterError, match="not set: B, C") as caught:
        read_secrets(["A", "B", "C"], {"A": "plain-0815", "C": " "})
    assert "0815" not in str(caught.value)
    with pytest.raises(ParameterError, match="too short") as caught:
        read_secrets(["A"], {"A": "4711 "})
    assert "4711" not in str(caught.value)


def test_bytes_are_searched_within_archives_within_archives():
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep.txt", "plain-0815 " * 9)
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert has_secret(outer.getvalue(), Redactor(["plain-0815"]))
    assert not has_secret(outer.getvalue(), Redactor(["plain-0816"]))
    assert has_secret(outer.getvalue()[:-9] + b"plain-0815", Redactor(["plain-0815"]))  # a damaged one


def pack(**members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def encrypt(data):
    """Return the archive `data` with the mark that its first member is encrypted, in both its headers."""
    made = bytearray(data)
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(head) + flags] |= 1
    return bytes(made)


DAMAGED = pack(first="x" * 999, second="plain-0815").replace(b"PK\x03\x04", b"PK\x03\x05", 1)


@pytest.mark.parametrize(("data", "words"), [
    (DAMAGED, "Bad magic number"), (encrypt(pack(first="x", second="plain-0815")), "password required"),
    (gzip.compress(b"plain-0816" * 99)[:-20], "ended before"),
])
def test_what_of_an_archive_cannot_be_read_is_said_and_the_rest_is_searched(capsys, data, words):
    assert not has_secret(data, Redactor(["plain-0817"]), "model.zip")
    said = capsys.readouterr().err
    assert said.startswith("warning: model.zip could not be searched for secrets: ")
    assert words in said
    assert has_secret(data, Redactor(["plain-0815"])) == (data[:2] == b"PK"), "the second member is whole"


def test_an_archive_is_searched_within_bounds(capsys, monkeypatch):
    monkeypatch.setattr("cd4ml.base.secrets.LARGEST", 1000)
    redactor, deep = Redactor(["plain-0815"]), b"plain-0815"
    assert not has_secret(pack(large="0" * 2000 + "plain-0815"), redactor)
    assert "more than 0 MB unpacked" in capsys.readouterr().err
    monkeypatch.undo()
    for _ in range(3):
        deep = pack(one=deep)
    assert has_secret(deep, redactor)
    assert not has_secret(pack(one=deep), redactor, "deep.zip")
    assert "deep.zip could not be searched for secrets: more than 3 archives" in capsys.readouterr().err
