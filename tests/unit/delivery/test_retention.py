"""Which releases stay, what a kill leaves, and what a pruned release says."""

import datetime as dt
import json

import pytest

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event, find_champion, read_history
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.release import _claim_version, list_releases, read_release
from cd4ml.delivery.retention import Removal, apply_prune, explain_stay, plan_prune, read_tombstone, refuse_pruned

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
REMOVAL = Removal(NOW, "ada", "all but the newest")


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path) if request.param == "local" else f"memory://prune-{tmp_path.parent.name}-{tmp_path.name}")


def keep_release(store, version, against=None):
    run = {"decision": {"status": "pass"}, "metrics": {}, "steps": []}
    release = Release("toy", version, "2026-01-02", "binary", "y", (), (), run, {}, against, {})
    store.write(f"toy/{version}/claim.json", b'{"at": "2026-01-02T00:00:00+00:00"}')
    store.write(f"toy/{version}/model/model.skops", b"x" * 1000)
    store.write(f"toy/{version}/manifest.json", release.to_json())


def promote(store, version, action="promote"):
    add_event(store, "toy", lambda number, champion: Event(number, action, version, champion, "2026-01-02", "ada", "",
                                                           "local"))


def make_plan(store, keep=1, tags=None):
    found = list_releases(store, "toy")
    return plan_prune(store, "toy", {one.version for one in found},
                      explain_stay(found, read_history(store, "toy"), tags or {}, keep), NOW)


def test_champion_predecessors_tagged_newest_and_rivals_stay_and_the_rest_goes(store):
    for version in range(1, 11):
        keep_release(store, version, against={10: 3}.get(version))
    for version in (1, 2, 5, 6):
        promote(store, version)
    promote(store, 9, "refuse")
    promote(store, 5, "rollback")
    plan = make_plan(store, 1, {8: "toy/v8", 77: "toy/v77"})
    assert dict(plan.stays) == {3: "release 10 was judged against it", 5: "serves", 6: "served before",
                                8: "has the tag toy/v8", 10: "among the newest 1"}
    assert list(plan.goes) == [1, 2, 4, 7, 9]
    assert apply_prune(store, plan, REMOVAL) == [1, 2, 4, 7, 9]
    assert [one.version for one in list_releases(store, "toy")] == [3, 5, 6, 8, 10]
    assert find_champion(store, "toy") == 5
    assert not make_plan(store, 1, {8: "toy/v8"}).goes


def test_the_sizes_are_those_of_the_files(store):
    keep_release(store, 1)
    keep_release(store, 2)
    plan = make_plan(store)
    assert plan.goes == {1: sum(len(store.read(path)) for path in store.list("toy/1"))}
    assert plan.freed == plan.goes[1]


def test_a_pruned_release_says_so_and_its_number_is_not_given_away(store):
    for version in (1, 2, 3):
        keep_release(store, version)
    apply_prune(store, make_plan(store), REMOVAL)
    with pytest.raises(ReleaseError, match=r"Release 2 of 'toy' was pruned.*2026-03-01T00:00:00\+00:00 by ada"):
        read_release(store, "toy", 2)
    assert store.list("toy/2") == ["toy/2/claim.json", "toy/2/pruned.json"]
    assert _claim_version(store, "toy", NOW) == 4
    keep_release(store, 4)
    apply_prune(store, make_plan(store), REMOVAL)
    assert _claim_version(store, "toy", NOW) == 5


def test_whatever_a_kill_leaves_the_next_prune_removes(store, monkeypatch):
    for version in (1, 2, 3):
        keep_release(store, version)
    plan, delete = make_plan(store), store.delete
    for allowed in range(4):  # how many deletions go through before the end
        done = []

        def stop(path, done=done, allowed=allowed):
            if len(done) == allowed:
                raise StoreError("killed")
            done.append(path)
            delete(path)

        monkeypatch.setattr(store, "delete", stop)
        with pytest.raises(StoreError, match="killed"):
            apply_prune(store, plan, REMOVAL)
        monkeypatch.setattr(store, "delete", delete)
        assert 3 in {one.version for one in list_releases(store, "toy")}
        assert (1 in {one.version for one in list_releases(store, "toy")}) is (allowed == 0)  # the manifest goes first
        for one in list_releases(store, "toy"):
            assert read_release(store, "toy", one.version) == one
        apply_prune(store, make_plan(store), REMOVAL)
        assert [one.version for one in list_releases(store, "toy")] == [3]
        assert not make_plan(store).freed
        for version in (1, 2):
            store.delete(f"toy/{version}")
            keep_release(store, version)
        plan = make_plan(store)


def test_a_release_that_serves_by_now_stays(store):
    for version in (1, 2, 3):
        keep_release(store, version)
    promote(store, 3)
    plan = make_plan(store)
    assert list(plan.goes) == [1, 2]
    promote(store, 1, "rollback")
    assert apply_prune(store, plan, REMOVAL) == [2]
    assert read_release(store, "toy", 1).version == 1


def test_a_mark_that_an_interrupted_prune_left_on_what_stays_goes(store):
    for version in (1, 2, 3):
        keep_release(store, version)
        mark = {"version": version, "at": "", "who": "", "why": ""}
        store.write(f"toy/{version}/pruned.json", json.dumps(mark).encode())
    promote(store, 1)
    plan = make_plan(store)
    assert (list(plan.goes), list(plan.leftovers)) == ([2], [])
    assert apply_prune(store, plan, REMOVAL) == [2]
    assert not store.exists("toy/1/pruned.json")
    assert not store.exists("toy/3/pruned.json")


def test_a_release_that_is_being_pruned_is_not_promoted(store):
    keep_release(store, 1)
    store.write("toy/1/pruned.json", json.dumps({"version": 1, "at": "", "who": "", "why": ""}).encode())
    with pytest.raises(ReleaseError, match=r"is being pruned.*--prune` ends it"):
        refuse_pruned(store, "toy", 1)


@pytest.mark.parametrize(("at", "goes"), [("2026-02-27T00:00:00+00:00", True), ("2026-02-28T20:00:00+00:00", False),
                                          ("2026-03-09T00:00:00+00:00", False), ("nonsense", False)])
def test_a_bundle_that_was_never_finished_goes_once_nobody_can_be_writing_it(store, at, goes):
    keep_release(store, 1)
    store.write("toy/2/claim.json", json.dumps({"at": at}).encode())
    store.write("toy/2/params.json", b"{}")
    plan = make_plan(store)
    assert (list(plan.leftovers) == [2]) is goes
    apply_prune(store, plan, REMOVAL)
    assert store.exists("toy/2/params.json") is not goes
    assert store.exists("toy/2/claim.json")
    assert read_tombstone(store, "toy", 2) is None


def test_a_tombstone_that_cannot_be_read_is_an_error(store):
    store.write("toy/1/pruned.json", b"?")
    with pytest.raises(ReleaseError, match="tombstone"):
        read_release(store, "toy", 1)


def test_nothing_released_nothing_pruned(store):
    assert make_plan(store).to_dict() == {"problem": "toy", "stays": {}, "goes": {}, "leftovers": {}, "freed": 0}
