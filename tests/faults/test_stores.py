"""Stores that fail: a flaky file system, a full disk, a read-only store, two at once, a clock that goes backwards."""

import ctypes
import datetime as dt
import errno
import itertools
import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.history import find_champion, read_history
from cd4ml.delivery.hosting import Parcel, Target
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.promotion import Wish, roll_back
from cd4ml.delivery.publication import publish_files
from cd4ml.delivery.release import _claim_version, list_releases, read_release, verify_release, write_claim
from cd4ml.delivery.retention import Removal, apply_prune, explain_stay, plan_prune

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
RUN = {"decision": {"status": "pass"}, "metrics": {}, "steps": [], "mlflow_model": "", "mlflow_run": ""}
FILES = {"model/model.skops": b"x" * 2000, "params.json": b"{}"}


class FlakyFiles(MemoryFileSystem):
    """Files in memory that fail at one call, counted from `countdown` down; a write that fails leaves half a file.

    With `is_silent` a write of half a file is not even reported.
    """

    protocol = "flaky"
    store, pseudo_dirs = {}, [""]  # of its own, not those of memory://
    cachable = False
    countdown = 0
    is_silent = False

    def _fail(self, *_):
        FlakyFiles.countdown -= 1
        return FlakyFiles.countdown == 0

    def pipe_file(self, path, value, mode="overwrite", **more):
        if not self._fail():
            return super().pipe_file(path, value, mode=mode, **more)
        if mode == "create" and self.exists_quietly(path):
            raise FileExistsError(path)
        super().pipe_file(path, value[: len(value) // 2], **more)
        if not FlakyFiles.is_silent:
            raise OSError(5, "the connection was lost")
        return None

    def exists_quietly(self, path):
        return MemoryFileSystem.exists(self, path)

    def cat_file(self, path, *rest, **more):
        if self._fail():
            raise OSError(5, "the connection was lost")
        return super().cat_file(path, *rest, **more)

    def find(self, path, *rest, **more):
        if self._fail():
            raise OSError(5, "the connection was lost")
        return super().find(path, *rest, **more)

    def rm(self, path, *rest, **more):
        if self._fail():
            raise OSError(5, "the connection was lost")
        return super().rm(path, *rest, **more)


@pytest.fixture
def flaky():
    fsspec.register_implementation("flaky", FlakyFiles, clobber=True)
    FlakyFiles.store.clear()
    FlakyFiles.pseudo_dirs[:] = [""]
    FlakyFiles.countdown, FlakyFiles.is_silent = 0, False
    yield Store("flaky://releases")
    FlakyFiles.countdown = 0


def keep_release(store):
    """Write a release in the order of `write_bundle`: the claim, the files, then the manifest."""
    version = _claim_version(store, "toy", NOW)
    files = {**FILES, "params.json": json.dumps({"version": version}).encode()}
    files["claim.json"] = write_claim(NOW.isoformat())
    release = Release("toy", version, "2026-01-02", "binary", "y", (), (), RUN, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in files.items():
        if path != "claim.json":
            store.write(f"{release.folder}/{path}", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return release


def prune(store):
    found = list_releases(store, "toy")
    stays = explain_stay(found, read_history(store, "toy"), {}, 1)
    apply_prune(store, plan_prune(store, "toy", {one.version for one in found}, stays, NOW),
                Removal(NOW, "ada", "test"))


def check(store, champions, versions):
    """Raise `AssertionError` unless every store reads and what is there is whole."""
    FlakyFiles.countdown = 0
    found = list_releases(store, "toy")
    for one in found:
        verify_release(store, one)
    assert {one.version for one in found} >= versions
    assert find_champion(store, "toy") in champions
    events = read_history(store, "toy")
    assert [one.number for one in events] == list(range(1, len(events) + 1))
    verify_release(store, read_release(store, "toy", find_champion(store, "toy")))


@pytest.fixture
def settings(root, tmp_path):
    return replace(load_settings(root, environ={}), release_store="flaky://releases", run_store=str(tmp_path / "runs"))


@pytest.mark.parametrize("is_silent", [False, True], ids=["said", "unsaid"])
@pytest.mark.parametrize("action", ["release", "rollback", "prune", "publish"])
def test_whichever_call_fails_nothing_is_lost_and_the_next_try_goes_on(flaky, settings, action, is_silent):
    parcel = Parcel("toy", "toy/v1", "", "", "toy release 1", "told", False, {"toy-v1.zip": b"PK" * 99})
    act = {"release": lambda: keep_release(flaky), "prune": lambda: prune(flaky),
           "rollback": lambda: roll_back(settings, "toy", 2, Wish(NOW, why="test")),
           "publish": lambda: publish_files(Target("flaky", "flaky://published"), parcel)}[action]
    for failing in itertools.count(1):
        FlakyFiles.store.clear()
        FlakyFiles.pseudo_dirs[:] = [""]
        for _ in range(3):
            keep_release(flaky)
        roll_back(settings, "toy", 1, Wish(NOW, why="test"))
        kept = {1, 3} if action == "prune" else {1, 2, 3}
        new = 2 if action == "rollback" else 1
        FlakyFiles.countdown, FlakyFiles.is_silent = failing, is_silent
        try:
            act()
            is_through = FlakyFiles.countdown > 0
        except StoreError:
            is_through = False
        check(flaky, (1, new), kept)
        if action == "rollback" and find_champion(flaky, "toy") == 2:
            assert len(read_history(flaky, "toy")) == 2
        act()
        check(flaky, (new,), kept)
        if action == "release":
            assert len(list_releases(flaky, "toy")) >= 4
        if action == "prune":
            assert [one.version for one in list_releases(flaky, "toy")] == [1, 3]
        if action == "publish":
            assert Store("flaky://published").read("toy/v1/toy-v1.zip") == b"PK" * 99
        if is_through:
            break
    assert failing >= 3


@pytest.mark.parametrize("action", ["release", "rollback", "prune"])
def test_whenever_the_disk_becomes_full_nothing_is_lost(tmp_path, settings, monkeypatch, action):
    """From one write on, all fail."""
    write = os.fsync
    for room in itertools.count(0):
        settings = replace(settings, release_store=str(tmp_path / str(room)))
        store, left = Store(settings.release_store), [room]
        act = {"release": lambda store=store: keep_release(store), "prune": lambda store=store: prune(store),
               "rollback": lambda settings=settings: roll_back(settings, "toy", 2, Wish(NOW, why="test"))}[action]
        for _ in range(3):
            keep_release(store)
        roll_back(settings, "toy", 1, Wish(NOW, why="test"))

        def fill(file, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file)

        monkeypatch.setattr(os, "fsync", fill)
        try:
            act()
            is_through = True
        except StoreError as error:
            is_through, told = False, str(error)
        monkeypatch.setattr(os, "fsync", write)
        kept = {1, 3} if action == "prune" else {1, 2, 3}
        moved = (2,) if is_through else (1, 2)  # told as failed where it was the folder that did not reach the disk
        check(store, moved if action == "rollback" else (1,), kept)
        if is_through:
            break
        assert "No space left on device" in told
        act()
        check(store, (2,) if action == "rollback" else (1,), kept)
    assert room >= 1
    assert not list(tmp_path.rglob("*.part"))


def test_a_rollback_and_a_prune_at_once_leave_a_champion_that_is_whole(tmp_path, settings):
    """Whoever comes second sees the other: the release stays and serves, or it goes and the rollback is refused."""
    for number in range(40):
        settings = replace(settings, release_store=str(tmp_path / str(number)))
        store = Store(settings.release_store)
        for _ in range(3):
            keep_release(store)
        roll_back(settings, "toy", 1, Wish(NOW, why="test"))
        with ThreadPoolExecutor(2) as pool:
            moved = pool.submit(roll_back, settings, "toy", 2, Wish(NOW, why="test"))
            pruned = pool.submit(prune, store)
        assert pruned.exception() is None
        assert moved.exception() is None or isinstance(moved.exception(), ReleaseError | StoreError)
        check(store, (2,) if moved.exception() is None else (1,), {1, 3})


@pytest.mark.parametrize("when", ["2020-01-01", "2038-01-01"])
def test_a_clock_that_jumps_changes_no_order(tmp_path, settings, when):
    """Numbers say what came first, not times; and nothing is taken for abandoned because of a clock."""
    settings, jump = replace(settings, release_store=str(tmp_path / "releases")), dt.datetime.fromisoformat(when)
    store, jump = Store(settings.release_store), jump.replace(tzinfo=dt.UTC)
    for _ in range(3):
        keep_release(store)
    roll_back(settings, "toy", 1, Wish(NOW, why="test"))
    roll_back(settings, "toy", 2, Wish(jump, why="test"))
    assert find_champion(store, "toy") == 2
    roll_back(settings, "toy", 1, Wish(NOW, why="test"))
    assert [event.version for event in read_history(store, "toy")] == [1, 2, 1]
    _claim_version(store, "toy", jump)
    store.write("toy/4/params.json", b"{}")  # a release that is being written by whoever has that clock
    early = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    assert not plan_prune(store, "toy", {1, 2, 3}, {1: "", 2: "", 3: ""}, early).leftovers
    assert _claim_version(store, "toy", early) == 5


def limit_files():
    """Let no file of this process and its children grow beyond 50 kB, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def give_up_rights():
    """Let root be refused what permissions refuse, from the next program on."""
    if os.geteuid() == 0:
        drop, override_permissions = 24, 1
        assert ctypes.CDLL(None).prctl(drop, override_permissions, 0, 0, 0) == 0


@pytest.fixture(scope="module")
def released(shared_workbench):
    """Return a workbench with two releases, of which 1 serves, and a run without a release."""
    shared_workbench.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # as test_bad_input.py says: disks are full here
    shared_workbench.call_json("release", "iris")
    shared_workbench.call_json("release", "iris", "-p", "train.C=0.7")
    shared_workbench.call_json("run", "iris", "-p", "train.C=0.5")
    return shared_workbench


def look(workbench, champion):
    """Raise `AssertionError` unless everything reads, is whole and `champion` serves."""
    store = Store(str(workbench.folder / "releases"))
    found = list_releases(store, "iris")
    for one in found:
        verify_release(store, one)
    assert find_champion(store, "iris") == champion
    return [one.version for one in found]


def refuse(workbench, *words, before):
    """Run a command that cannot do its work, and return what it said."""
    code, out, err = workbench.call(*words, preexec_fn=before)
    assert code == 2, f"{code}\n{out}\n{err}"
    assert "Traceback" not in err, err
    assert err.splitlines()[-1].startswith("error: "), err
    return err.splitlines()[-1]


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_the_next_try_goes_on(released):
    words = ("release", "iris", "-p", "train.C=0.5", "--promote", "--why", "test")
    known = look(released, 1)
    refuse(released, *words, before=limit_files)
    assert look(released, 1) == known
    done = released.call_json(*words)
    assert look(released, done["version"]) == [*known, done["version"]]
    released.call_json("rollback", "iris", "1")


@pytest.mark.slow
def test_a_read_only_store_loses_nothing_and_says_so(released):
    home = released.folder / "releases"
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    known = look(released, 1)
    try:
        for path in folders:
            path.chmod(0o555)
        for words in (("rollback", "iris", "2", "--why", "test"), ("release", "iris", "-p", "train.C=0.4"),
                      ("releases", "iris", "--prune", "--keep", "1", "--yes")):
            assert "ermission denied" in refuse(released, *words, before=give_up_rights)
            assert look(released, 1) == known
        code, out, _ = released.call("releases", "iris", preexec_fn=give_up_rights)
        assert code == 0
        assert "★" in out
    finally:
        for path in folders:
            path.chmod(0o755)
    released.call_json("rollback", "iris", "2", "--why", "test")
    look(released, 2)
    released.call_json("rollback", "iris", "1")


@pytest.mark.slow
def test_of_two_promotes_at_once_both_are_in_the_history_and_the_last_one_serves(released):
    store = Store(str(released.folder / "releases"))
    for _ in range(3):
        before = len(read_history(store, "iris"))
        movers = [released.start("rollback", "iris", str(version), "--why", "test", "--json") for version in (1, 2)]
        for mover in movers:
            out, err = mover.communicate(timeout=600)
            assert mover.returncode == 0, err
            assert json.loads(out)["problem"] == "iris"
        history = read_history(store, "iris")
        assert [event.number for event in history] == list(range(1, len(history) + 1))
        assert 1 <= len(history) - before <= 2
        assert history[-1].previous == history[-2].champion
        look(released, history[-1].version)
    released.call_json("rollback", "iris", "1")


@pytest.mark.slow
def test_two_releases_that_promote_at_once_are_both_whole_and_one_that_is_too_late_is_told(released):
    store = Store(str(released.folder / "releases"))
    known = {one.version for one in list_releases(store, "iris")}
    makers = [released.start("release", "iris", "-p", f"train.C={c}", "--promote", "--why", "at once", "--json")
              for c in (0.31, 0.32)]
    promoted = set()
    for maker in makers:
        out, err = maker.communicate(timeout=600)
        assert maker.returncode in (0, 2), err
        if maker.returncode == 0:
            promoted.add(json.loads(out)["version"])
        else:  # it was not held against the other one
            assert "became the champion meanwhile" in err
    made = {one.version for one in list_releases(store, "iris")} - known
    assert len(made) == 2
    history = read_history(store, "iris")
    assert promoted
    assert {event.version for event in history if event.version in made} == promoted
    assert history[-1].version in promoted
    look(released, history[-1].version)
    released.call_json("rollback", "iris", "1")


@pytest.mark.slow
def test_a_refusal_that_a_kill_left_untold_is_told_by_the_next_run_and_only_once(released):
    store = Store(str(released.folder / "releases"))
    words = ("release", "iris", "-p", "train.C=0.00001", "-p", "evaluate.rules=[{metric: accuracy, at_least: 0.99}]")
    version = released.call_json(*words, code=1)["version"]
    told = read_history(store, "iris")[-1]
    assert (told.action, told.version) == ("refuse", version)
    newest = store.list("iris/history")[-1]
    store.delete(newest)
    assert read_history(store, "iris")[-1].version != version
    for _ in range(2):
        assert released.call_json(*words, code=1)["version"] == version
        assert [event.action for event in read_history(store, "iris") if event.version == version] == ["refuse"]
    look(released, 1)


@pytest.mark.slow
def test_a_damaged_manifest_is_named_and_stops_no_other_release(released):
    store = Store(str(released.folder / "releases"))
    whole = store.read("iris/2/manifest.json")
    store.write("iris/2/manifest.json", whole.replace(b'"', b"'", 1))
    told = released.call_json("releases", "iris")
    assert 2 not in [row["version"] for row in told["releases"]]
    assert "iris/2/manifest.json" in told["warning"]
    assert "iris/2/manifest.json" in released.call("releases", "iris")[1]
    assert released.call_json("release", "iris", "-p", "train.C=0.29")["decision"] == "pass"
    for words in (("releases", "iris", "--prune", "--yes"), ("rollback", "iris", "2")):
        code, _, err = released.call(*words)
        assert code == 2
        assert "manifest" in err
    found = released.call_json("doctor", code=2)["findings"]
    assert [(one["subject"], "iris/2/manifest.json" in one["finding"]) for one in found if not one["is_good"]] == [
        ("iris", True)]
    store.write("iris/2/manifest.json", whole)
    look(released, 1)
