"""Where a release is made again: a place of its own that is gone afterwards, furnished with what the run had."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.git import run_git
from cd4ml.delivery.history import find_champion
from cd4ml.delivery.ledger import Use, list_uses, preview_use, record_use
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.release import list_releases, read_release
from cd4ml.delivery.reproduction import (
    Place,
    Reproduction,
    choose_python,
    furnish_place,
    list_reproductions,
    open_place,
    record_reproduction,
)
from cd4ml.delivery.sameness import Check
from cd4ml.delivery.undo import Code

DONE = Reproduction("iris", 2, "2026-01-02", "ada", "1" * 40, False, "here", 0.0, 1.0,
                    (Check("model", "equal", "a", "a"), Check("accuracy", "near", "0.9", "0.9")))


@pytest.fixture
def settings(root, tmp_path):
    return replace(load_settings(root, environ={}), release_store=str(tmp_path / "releases"),
                   run_store=str(tmp_path / "run"))


@pytest.fixture
def code(tmp_path):
    """Return the code in a clone with one commit."""
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "train.py").write_text("depth = 6\n")
    run_git(clone, "init", "--quiet")
    run_git(clone, "add", ".")
    run_git(clone, "-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", "first")
    (clone / "train.py").write_text("depth = 7\n")
    commit = run_git(clone, "rev-parse", "HEAD")
    return Code(commit, commit, clone, "")


def keep_release(settings, version, judged_against=None, model=b"model", **files):
    files = {"model/model.skops": model, "params.json": b'{"train": {"C": 1e-05}}',
             "profile.json": b"{}"} | {path.replace("_", "."): data for path, data in files.items()}
    hashes = {path: hash_bytes(data) for path, data in files.items()}
    run = {"decision": {}, "metrics": {}, "provenance": {"python": "3.1.4"}}
    release = Release("iris", version, f"2026-01-0{version}", "multiclass", "species", (), (), run,
                      {"holdout": "4" * 64}, judged_against, hashes)
    store = Store(settings.release_store)
    for path, data in files.items():
        store.write(f"{release.folder}/{path}", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return release


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_place_holds_the_commit_and_is_gone_afterwards_whatever_happens(settings, code, error):
    with contextlib.suppress(error), open_place(settings, code) as place:
        assert (place.workbench / "train.py").read_text() == "depth = 6\n"
        assert str(place.workbench) in run_git(code.top, "worktree", "list")
        raise error
    assert not place.folder.exists()
    assert len(run_git(code.top, "worktree", "list").splitlines()) == 1
    assert (code.top / "train.py").read_text() == "depth = 7\n"
    assert run_git(code.top, "branch", "--list").splitlines() == [run_git(code.top, "branch", "--list")]


def test_a_commit_that_cannot_be_checked_out_leaves_nothing(settings, code, tmp_path):
    with pytest.raises(ReleaseError, match=r"git .* failed"), open_place(settings, replace(code, commit="2" * 40)):
        pass
    assert list((tmp_path / "run" / "reproductions").iterdir()) == []


def test_what_a_kill_has_left_is_removed_by_the_next_and_what_runs_is_not(settings, code, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    home = tmp_path / "run" / "reproductions"
    for name in (f"{ended.pid}-aaaa", f"{os.getpid()}-bbbb", "somebody's"):
        (home / name).mkdir(parents=True)
    run_git(code.top, "worktree", "add", "--quiet", "--detach", str(home / f"{ended.pid}-aaaa" / "code"), code.commit)
    with open_place(settings, code):
        pass
    assert sorted(path.name for path in home.iterdir()) == sorted([f"{os.getpid()}-bbbb", "somebody's"])
    assert len(run_git(code.top, "worktree", "list").splitlines()) == 1


def test_the_clone_s_hooks_do_not_run(settings, code, tmp_path):
    hook = code.top / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    with open_place(settings, code):
        pass
    assert not (tmp_path / "hooked").exists()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place" / "code").mkdir(parents=True)
    return Place(tmp_path / "place", tmp_path / "place" / "code")


def test_a_place_has_the_same_parameters_lock_rival_and_ledger(settings, place):
    store, own = Store(settings.release_store), Store(str(place.folder / "release_store"))
    keep_release(settings, 1, model=b"one")
    keep_release(settings, 2, model=b"two")
    release = keep_release(settings, 3, judged_against=1, model=b"three", requirements_lock=b"numpy==2.0\n")
    for data in (b"one", b"two", b"another", b"three", b"later"):
        record_use(store, "iris", Use("4" * 64, hash_bytes(data), "2026-01-02", "ada"))
    furnish_place(settings, release, place)
    assert json.loads((place.folder / "params.yaml").read_text()) == {"train": {"C": 1e-05}}
    assert (place.workbench / "requirements.lock").read_bytes() == b"numpy==2.0\n"
    assert find_champion(own, "iris") == 1
    assert [one.version for one in list_releases(own, "iris")] == [1]
    assert [use.number for use in list_uses(own, "iris", "4" * 64)] == [1, 2, 3]
    assert preview_use(own, "iris", "4" * 64, hash_bytes(b"three")).count == 4


def test_the_first_release_has_no_rival_and_an_empty_ledger(settings, place):
    furnish_place(settings, keep_release(settings, 1), place)
    assert find_champion(Store(str(place.folder / "release_store")), "iris") is None


@pytest.mark.parametrize("damage", ["gone", "altered"])
def test_a_rival_that_is_gone_or_damaged_is_said(settings, place, damage):
    store = Store(settings.release_store)
    keep_release(settings, 1)
    release = keep_release(settings, 2, judged_against=1)
    if damage == "gone":
        store.delete("iris/1")
    else:
        store.write("iris/1/model/model.skops", b"altered")
    with pytest.raises(ReleaseError, match="Release 2 of 'iris' was judged beside release 1, which cannot be read"):
        furnish_place(settings, release, place)


def test_this_python_is_used_where_the_lock_is_installed_and_another_version_is_named(settings, place):
    release = keep_release(settings, 1)
    python, words, paths = choose_python(settings, release, place, lambda *told: None)
    assert (python, paths) == (sys.executable, [str(place.workbench)])
    assert "instead of 3.1.4" in words


def test_a_place_keeps_a_run_to_itself(settings, place):
    found = load_settings(environ=place.list_settings() | {"CD4ML_ROOT": str(settings.root)})
    for key in ("run_store", "data_store", "release_store", "prediction_log", "site", "tracking_uri", "registry_uri"):
        assert str(place.folder) in getattr(found, key), key


def test_results_are_kept_beside_the_release_and_read_again(settings):
    store = Store(settings.release_store)
    keep_release(settings, 2)
    before = read_release(store, "iris", 2)
    wrong = replace(DONE, checks=(replace(DONE.checks[0], status="differs"),))
    assert [record_reproduction(store, one).number for one in (DONE, wrong)] == [1, 2]
    assert list_reproductions(store, "iris", 2) == [replace(DONE, number=1), replace(wrong, number=2)]
    assert read_release(store, "iris", 2) == before
    assert [one.version for one in list_releases(store, "iris")] == [2]
    assert DONE.summary == "release 2 was reproduced within 0"
    assert wrong.summary == "release 2 was not reproduced: model differs"
    assert "✘ differs" in wrong._repr_html_()
    store.write("iris/2/reproductions/000001.json", b'{"format": 2}')
    with pytest.raises(ReleaseError, match=r"A reproduction cannot be read .*000001\.json.*format 2"):
        list_reproductions(store, "iris", 2)
