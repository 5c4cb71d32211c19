import json
from dataclasses import replace

import jsonschema
import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.base.fingerprint import hash_json
from cd4ml.delivery.manifest import READERS, Release, is_inside, read_manifest, read_schema

SMALL = Release("toy", 3, "2026-01-02T03:04:05+00:00", "binary", "y", (("größe", "float64"),), (0, True, "b", 0.5),
                {"run_id": "r", "decision": {"status": "pass"}, "metrics": {"auc": {"value": 1e-300}}},
                {"train": "0" * 64}, 2, {"a/ü.json": "1" * 64})


def sign_anew(plain):
    """Return a manifest of the fields `plain` with a right hash, as somebody with bad intentions would write it."""
    return json.dumps({**plain, "sha256": hash_json(plain)}, indent=1, ensure_ascii=False).encode()


def test_a_manifest_is_read_as_it_was_written():
    assert read_manifest(SMALL.to_json(), "toy/3") == SMALL


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_of_a_manifest_is_found(bit):
    data = SMALL.to_json()
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << bit
        with pytest.raises(ReleaseError, match="manifest"):
            read_manifest(bytes(altered), "toy/3")


@pytest.mark.parametrize("change", [
    lambda data: data + b" ", lambda data: b"\xef\xbb\xbf" + data, lambda data: data[:-1], lambda data: b"",
    lambda data: json.dumps(json.loads(data)).encode(), lambda data: data.decode().encode("utf-16"),
    lambda data: json.dumps(dict(reversed(json.loads(data).items())), indent=1, ensure_ascii=False).encode(),
    lambda data: data.replace(b' "problem"', b' "problem": "toy",\n "problem"'), lambda data: b"[" * 100_000,
    lambda data: b"[]", lambda data: b"null"])
def test_the_same_content_in_other_bytes_is_no_manifest(change):
    with pytest.raises(ReleaseError):
        read_manifest(change(SMALL.to_json()), "toy/3")


@pytest.mark.parametrize("change", [
    {"files": {"../../etc/passwd": "0" * 64}}, {"files": {"/etc/passwd": "0" * 64}}, {"files": {"a\\..\\b": "0" * 64}},
    {"files": {"c:x": "0" * 64}}, {"files": {"": "0" * 64}}, {"files": {"manifest.json": "0" * 64}},
    {"files": {"a": "0"}}, {"problem": "../toy"}, {"problem": ""}, {"version": 0}, {"version": "3"}, {"version": True},
    {"files": ["a"]}, {"more": 1}])
def test_a_manifest_that_leads_elsewhere_is_refused_though_its_hash_is_right(change):
    plain = json.loads(SMALL.to_json())
    del plain["sha256"]
    with pytest.raises(ReleaseError):
        read_manifest(sign_anew(plain | change), "toy/3")


@pytest.mark.parametrize("number", [0, 2, True, 1.0, "1", None, [1]])
def test_a_format_without_a_reader_asks_for_a_newer_version(number):
    plain = json.loads(replace(SMALL, format=number).to_json())
    del plain["sha256"]
    with pytest.raises(ReleaseError, match=r"newer version|cannot be read"):
        read_manifest(sign_anew(plain), "toy/3")


@pytest.mark.parametrize(("path", "inside"), [
    ("a", True), ("a/b.c", True), ("..a/b..", True), ("a/../b", False), ("./a", False), ("a//b", False), ("a/", False),
    ("/a", False), ("..", False), ("a\nb", False), ("C:/a", False), ("a\\b", False)])
def test_a_path_leads_inside_or_not_for_reader_and_schema(path, inside):
    assert is_inside(path) is inside
    schema = read_schema()["properties"]["files"]
    assert jsonschema.Draft202012Validator(schema).is_valid({path: "0" * 64}) is inside


def test_every_format_has_its_schema():
    for number in READERS:
        schema = read_schema(number)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]["format"] == {"const": number}
