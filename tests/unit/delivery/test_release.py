import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event, find_champion, read_history
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.release import _claim_version, find_rival, list_releases, read_file, read_release, verify_release
from cd4ml.delivery.results import Result


def make_event(version, action="promote"):
    return lambda number, champion: Event(number, action, version, champion, "2026-01-02", "ada", "", "local")


def keep_release(store, version, files=None, **changes):
    """Write a small release as `write_bundle` would."""
    files = files if files is not None else {"params.json": b"{}"}
    run = {"decision": {"status": "pass"}, "metrics": {}, "steps": []}
    fields = {"problem": "toy", "version": version, "created": "2026-01-02", "task": "binary", "target": "y",
              "features": (("a", "float64"),), "classes": (0, 1), "run": run, "data": {}, "judged_against": None,
              "files": {path: hash_bytes(data) for path, data in files.items()}}
    release = Release(**fields | changes)
    for path, data in files.items():
        store.write(f"{release.folder}/{path}", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return release


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def test_events_of_many_at_once_are_numbered_without_gaps_and_none_is_lost(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda version: add_event(store, "toy", make_event(version)), range(1, 41)))
    history = read_history(store, "toy")
    assert [event.number for event in history] == list(range(1, 41))
    assert sorted(event.version for event in history) == list(range(1, 41))
    assert [event.previous for event in history[1:]] == [event.version for event in history[:-1]]
    assert find_champion(store, "toy") == history[-1].version


def test_a_refusal_is_history_but_moves_nothing(store):
    add_event(store, "toy", make_event(1))
    add_event(store, "toy", make_event(2, "refuse"))
    assert find_champion(store, "toy") == 1
    assert len(read_history(store, "toy")) == 2


def test_a_bundle_without_a_manifest_is_no_release(store):
    keep_release(store, 1)
    store.write("toy/2/claim.json", b"{}")
    store.write("toy/2/params.json", b"{}")
    assert [release.version for release in list_releases(store, "toy")] == [1]
    with pytest.raises(ReleaseError, match=r"There is no release 2 of 'toy'.*Releases: 1"):
        read_release(store, "toy", 2)


@pytest.mark.parametrize("path", ["params.json", "manifest.json"])
def test_one_flipped_byte_is_found_and_named(store, path):
    keep_release(store, 1, {"params.json": b'{"C": 1}', "report.html": b"<html>"})
    data = bytearray(store.read(f"toy/1/{path}"))
    data[len(data) // 2] ^= 1
    store.write(f"toy/1/{path}", bytes(data))
    with pytest.raises(ReleaseError, match=r"params\.json|manifest"):
        verify_release(store, read_release(store, "toy", 1))


def test_a_missing_or_unknown_file_is_an_error(store):
    release = keep_release(store, 1)
    store.delete("toy/1/params.json")
    with pytest.raises(StoreError, match="is not in the store"):
        read_file(store, release, "params.json")
    with pytest.raises(ReleaseError, match=r"has no file 'model\.pkl'"):
        read_file(store, release, "model.pkl")


def test_a_manifest_of_a_later_format_asks_for_a_newer_version(store):
    release = keep_release(store, 1)
    plain = json.loads(release.to_json()) | {"format": 2}
    store.write("toy/1/manifest.json", json.dumps(plain).encode())
    with pytest.raises(ReleaseError, match="newer version"):
        read_release(store, "toy", 1)


def test_the_number_of_an_unfinished_bundle_is_not_used_again(store):
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    keep_release(store, 1)
    store.write("toy/2/params.json", b"{}")
    assert _claim_version(store, "toy", now) == 3
    assert _claim_version(store, "toy", now) == 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: _claim_version(store, "toy", now), range(16)))
    assert sorted(found) == list(range(5, 21))


def test_a_champion_whose_bundle_is_gone_is_said_by_its_number(store):
    keep_release(store, 1, {"model/model.skops": b"x"})
    add_event(store, "toy", make_event(2))
    results = {name: Result(name, "model", "0" * 64) for name in ("model", "holdout")}
    with pytest.raises(ReleaseError, match="There is no release 2 of 'toy'"):
        find_rival(store, "toy", results, 2)
