"""Any one byte of a release that was changed is found and named, and nobody uses the release."""

import datetime as dt
import gzip
import json
import random
from pathlib import Path

import jsonschema
import pandas as pd
import pytest

from cd4ml.base.errors import Cd4mlError, ReleaseError
from cd4ml.base.settings import Settings, load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.archive import pack_release, read_archive, unpack_archive
from cd4ml.delivery.examination import examine_all, examine_release, sign_release
from cd4ml.delivery.history import Event, add_event, examine_history, find_champion
from cd4ml.delivery.manifest import read_manifest, read_schema
from cd4ml.delivery.promotion import Wish, promote_release, roll_back
from cd4ml.delivery.release import read_rival
from cd4ml.production.champion import load_champion

SAMPLES = Path(__file__).parents[1] / "data" / "releases"
KEY = "0123456789abcdef" * 2  # with which the sample was signed
each_sample = pytest.mark.parametrize("name", ["iris-1-first", "iris-1"])  # one of each shape that was ever written


def read_sample(name: str) -> bytes:
    return gzip.decompress((SAMPLES / f"{name}.zip.gz").read_bytes())


@pytest.fixture
def settings(tmp_path: Path, root: Path) -> Settings:
    for name in ("settings.ini", "pyproject.toml"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    return load_settings(tmp_path, environ={})


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.release_store)


def keep_sample(store: Store, name: str) -> list[str]:
    """Unpack the sample `name` into `store` and return the paths of all its files."""
    unpack_archive(store, read_archive(read_sample(name), name))
    return store.list("iris/1")


def list_uses(settings: Settings, store: Store) -> list:
    wish = Wish(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), True, "a test")
    return [lambda: load_champion(store, "iris", 1), lambda: roll_back(settings, "iris", 1, wish),
            lambda: promote_release(settings, "iris", 1, wish), lambda: read_rival(store, "iris", 1),
            lambda: pack_release(store, "iris", 1)]


@each_sample
def test_a_stored_release_of_each_format_reads_verifies_and_serves(store: Store, name: str,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    keep_sample(store, name)
    manifest = json.loads(store.read("iris/1/manifest.json"))
    schema = read_schema(manifest["format"])
    jsonschema.validate(manifest, schema)
    found = examine_release(store, "iris", 1)
    assert (found.faults, found.files) == ({}, len(manifest["files"]))
    assert found.signature == ("unchecked" if name == "iris-1" else "none")
    champion = load_champion(store, "iris", 1)
    flower = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=[one.name for one in champion.features])
    assert champion.model.predict(flower).tolist() == ["setosa"]
    assert pack_release(store, "iris", 1) == read_sample(name)
    if name == "iris-1":
        signature = json.loads(store.read("iris/1/signature.json"))
        jsonschema.validate(signature, {**schema["$defs"]["signature"], "$defs": schema["$defs"]})
        monkeypatch.setenv("CD4ML_SIGNING_KEY", KEY)
        assert examine_release(store, "iris", 1).signature == "valid"


def test_a_stored_event_of_each_format_reads(store: Store) -> None:
    data = (SAMPLES / "event-1.json").read_bytes()
    store.write("iris/history/000001.json", data)
    jsonschema.validate(json.loads(data), read_schema()["$defs"]["event"])
    assert find_champion(store, "iris") == Event(**json.loads(data)).version == 1
    assert examine_history(store, "iris") == {}


@each_sample
def test_one_flipped_bit_of_any_file_is_named_and_the_release_is_not_used(
        settings: Settings, store: Store, name: str) -> None:
    draw = random.Random(0)
    for path in keep_sample(store, name):
        data = store.read(path)
        for place in {0, len(data) // 2, len(data) - 1, draw.randrange(len(data))}:
            altered = bytearray(data)
            altered[place] ^= 1 << draw.randrange(8)
            store.write(path, bytes(altered))
            found = examine_release(store, "iris", 1)
            assert list(found.faults) == [path.removeprefix("iris/1/")], (path, place)
            for use in list_uses(settings, store):
                with pytest.raises(Cd4mlError):
                    use()
        store.write(path, data)
    assert examine_all(store, "iris")[0].faults == {}
    assert find_champion(store, "iris") is None
    assert not store.list("iris/history")


@pytest.mark.slow
def test_every_byte_of_a_manifest_counts(store: Store) -> None:
    keep_sample(store, "iris-1")
    data = store.read("iris/1/manifest.json")
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(ReleaseError):
            read_manifest(bytes(altered), "iris/1")
        if place % 97 == 0:
            store.write("iris/1/manifest.json", bytes(altered))
            assert list(examine_release(store, "iris", 1).faults) == ["manifest.json"], place


def test_what_is_missing_or_does_not_belong_is_named(settings: Settings, store: Store) -> None:
    for path in keep_sample(store, "iris-1"):
        if path.endswith(("/manifest.json", "/signature.json")):
            continue  # no release at all; and unsigned
        data = store.read(path)
        store.delete(path)
        assert examine_release(store, "iris", 1).faults == {path.removeprefix("iris/1/"): "it is not in the store"}
        with pytest.raises(ReleaseError):
            load_champion(store, "iris", 1)
        store.write(path, data)
    store.write("iris/1/model/other.skops", b"x")
    assert list(examine_release(store, "iris", 1).faults) == ["model/other.skops"]
    for use in list_uses(settings, store):
        with pytest.raises(Cd4mlError):
            use()


def test_a_champion_without_a_manifest_is_missed(store: Store) -> None:
    keep_sample(store, "iris-1")
    store.delete("iris/1/manifest.json")
    assert examine_all(store, "iris") == [], "never finished"
    add_event(store, "iris", lambda number, champion: Event(number, "promote", 1, champion, "", "ada", "", "ci"))
    [found] = examine_all(store, "iris")
    assert found == examine_release(store, "iris", 1)
    assert "has lost its manifest" in found.faults["manifest.json"]


def test_a_bundle_that_was_copied_to_another_number_is_not_that_release(store: Store) -> None:
    for path in keep_sample(store, "iris-1"):
        store.write(path.replace("iris/1", "iris/2"), store.read(path))
    assert list(examine_release(store, "iris", 2).faults) == ["manifest.json"]
    with pytest.raises(ReleaseError, match="that of another release"):
        load_champion(store, "iris", 2)


@pytest.mark.parametrize(("number", "data"), [
    (2, b"{"), (2, b"[]"), (2, b'{"number": 2}'), (2, None), (3, b'{"format": 7}')])
def test_an_event_that_cannot_be_read_or_is_gone_is_named(store: Store, number: int, data: bytes | None) -> None:
    event = json.loads((SAMPLES / "event-1.json").read_bytes())
    for one in (1, 2, 3):
        store.write(f"iris/history/{one:06d}.json", json.dumps(event | {"number": one}).encode())
    path = f"iris/history/{number:06d}.json"
    store.delete(path) if data is None else store.write(path, data)
    assert list(examine_history(store, "iris")) == [path]


def test_where_signatures_are_required_an_unsigned_release_is_not_used(
        settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_sample(store, "iris-1")
    monkeypatch.setenv("CD4ML_SIGNING_KEY", "another key, of more than 32 characters")
    for use in list_uses(settings, store):
        with pytest.raises(ReleaseError, match="another key"):
            use()
    store.delete("iris/1/signature.json")
    load_champion(store, "iris", 1)
    monkeypatch.setenv("CD4ML_REQUIRE_SIGNATURE", "1")
    for use in list_uses(settings, store):
        with pytest.raises(ReleaseError, match="not signed"):
            use()
    sign_release(store, "iris", 1)
    assert examine_release(store, "iris", 1).signature == "valid"
    load_champion(store, "iris", 1)
    monkeypatch.delenv("CD4ML_SIGNING_KEY")
    with pytest.raises(ReleaseError, match="cannot be checked"):
        load_champion(store, "iris", 1)
