import json

import pytest

from cd4ml.base.errors import ReleaseError, SettingsError
from cd4ml.delivery.signature import (
    KEY,
    REQUIRE,
    check_signature,
    is_signature_required,
    judge_signature,
    read_key,
    sign_manifest,
)

FIRST, SECOND = "a key of more than 32 characters: 1", "a key of more than 32 characters: 2"
MANIFEST = b'{"version": 3}'


@pytest.mark.parametrize("key", [FIRST, ""])
def test_any_flipped_bit_of_a_signature_is_found_even_without_the_key(key):
    signature = sign_manifest(MANIFEST, FIRST)
    for place in range(len(signature)):
        for bit in range(8):
            altered = bytearray(signature)
            altered[place] ^= 1 << bit
            assert judge_signature(MANIFEST, bytes(altered), key) == "altered"


def test_a_signature_made_by_hand_with_a_right_hash_does_not_fit():
    from cd4ml.delivery.signature import _write_signature

    plain = json.loads(sign_manifest(MANIFEST, FIRST))
    del plain["sha256"]
    forged = _write_signature(plain | {"signature": "0" * 64})
    assert judge_signature(MANIFEST, forged, FIRST) == "altered"
    assert judge_signature(MANIFEST, forged, "") == "unchecked"
    assert judge_signature(MANIFEST, _write_signature(plain | {"signature": "é"}), FIRST) == "altered"


def test_a_signature_tells_its_key_from_others_and_nothing_about_it():
    signature = sign_manifest(MANIFEST, FIRST)
    assert judge_signature(MANIFEST, signature, SECOND) == "wrong key"
    assert FIRST.encode() not in signature
    assert json.loads(signature)["key"] != json.loads(sign_manifest(MANIFEST, SECOND))["key"]


@pytest.mark.parametrize("key", ["short", "x" * 31])
def test_a_key_that_can_be_guessed_is_refused_and_not_shown(key):
    with pytest.raises(SettingsError) as caught:
        read_key({KEY: key})
    assert key not in str(caught.value)


def test_whether_signatures_are_required_is_never_guessed():
    assert not is_signature_required({})
    assert [is_signature_required({REQUIRE: word}) for word in ("1", "Yes", "TRUE", "0", "no", "false", "")] == [
        True, True, True, False, False, False, False]
    with pytest.raises(SettingsError, match="not clear"):
        is_signature_required({REQUIRE: "on please"})


@pytest.mark.parametrize(("signature", "environ", "expected"), [
    (None, {}, "none"), (sign_manifest(MANIFEST, FIRST), {}, "unchecked"),
    (sign_manifest(MANIFEST, FIRST), {KEY: FIRST, REQUIRE: "1"}, "valid")])
def test_what_does_is_said(signature, environ, expected):
    assert check_signature(MANIFEST, signature, "toy/3", environ) == expected


@pytest.mark.parametrize(("signature", "environ"), [
    (None, {REQUIRE: "1", KEY: FIRST}), (None, {REQUIRE: "1"}), (sign_manifest(MANIFEST, FIRST), {REQUIRE: "1"}),
    (sign_manifest(MANIFEST, FIRST), {KEY: SECOND}), (sign_manifest(b"{}", FIRST), {KEY: FIRST}), (b"", {})])
def test_what_does_not_do_is_refused(signature, environ):
    with pytest.raises(ReleaseError, match="cannot be trusted"):
        check_signature(MANIFEST, signature, "toy/3", environ)
