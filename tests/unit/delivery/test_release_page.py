"""What the page of a release says of its serving, and what of a damaged bundle can be shown."""

from dataclasses import replace

import pytest

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.release_page import list_events, read_bundle

FILES = {"model/model.skops": b"model", "params.json": b"{}", "reports/evaluate.html": b"<main></main>"}
RELEASE = Release("toy", 2, "2026-01-02", "binary", "y", (), (), {}, {}, None,
                  {path: hash_bytes(data) for path, data in FILES.items()})


@pytest.fixture
def store(tmp_path):
    made = Store(str(tmp_path))
    for path, data in FILES.items():
        made.write(f"toy/2/{path}", data)
    return made


def test_a_whole_bundle_has_no_faults(store):
    assert read_bundle(store, RELEASE).files == FILES
    assert read_bundle(store, RELEASE).faults == ()


@pytest.mark.parametrize("path", FILES)
def test_any_byte_that_is_another_is_named_and_left_out(store, path):
    store.write(f"toy/2/{path}", bytes([FILES[path][0] ^ 1]) + FILES[path][1:])
    bundle = read_bundle(store, RELEASE)
    assert bundle.files == {name: data for name, data in FILES.items() if name != path}
    assert bundle.faults == (f"'toy/2/{path}' is not what was stored",)
    assert bundle.take().read(path) is None


def test_files_are_kept_by_release_or_once_by_their_hash(store):
    bundle = read_bundle(store, RELEASE)
    assert bundle.find_place("reports/evaluate.html") == "toy/2/reports/evaluate.html"
    again = replace(bundle, release=replace(RELEASE, version=3))
    assert bundle.find_place("params.json") == again.find_place("params.json") == (
        f"files/{RELEASE.files['params.json'][:20]}/params.json")


def test_the_events_that_concern_a_release_do_not_change_while_others_come_and_go():
    moves = [("promote", 1, None), ("promote", 2, 1), ("refuse", 3, 2), ("promote", 4, 2), ("rollback", 1, 4),
             ("promote", 5, 1)]
    history = [Event(i, action, version, previous, "2026-01-02", "ada", "", "")
               for i, (action, version, previous) in enumerate(moves, 1)]
    concern = {version: [one.number for one in list_events(history, version)] for version in range(1, 7)}
    assert concern == {1: [1, 2, 5, 6], 2: [2, 4], 3: [3], 4: [4, 5], 5: [6], 6: []}
