"""A branch with the code of a release, made without touching anybody's tree; MLflow told by a process of its own."""

import subprocess
from dataclasses import replace

import pytest
from waiting import wait_until

from cd4ml.base.errors import ReleaseError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.git import run_git
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.promotion import find_fault
from cd4ml.delivery.undo import NOTE, PATCH, find_code, follow_behind, prepare_branch

SIGNED = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")


@pytest.fixture
def clone(tmp_path):
    """Return a clone whose workbench is a folder of it, with one commit."""
    folder = tmp_path / "clone"
    (folder / "bench" / "params").mkdir(parents=True)
    (folder / "bench" / "requirements.lock").write_text("numpy==2.0\n")
    (folder / "bench" / "params" / "default.yaml").write_text("train:\n  depth: 6\n")
    (folder / "picture.bin").write_bytes(bytes(range(256)))
    run_git(folder, "init", "--quiet")
    run_git(folder, "add", ".")
    run_git(folder, *SIGNED, "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "releases"))


def keep_release(store, clone, version=3, patch=None, **fields):
    """Return a release of the last commit of `clone`; with a `patch`, of a tree with changes."""
    files = {} if patch is None else {PATCH: patch}
    files |= {NOTE: fields.pop("note")} if "note" in fields else {}
    files |= {"requirements.lock": fields.pop("lock", b"numpy==2.0\n")}
    for path, data in files.items():
        store.write(f"shop/{version}/{path}", data)
    told = {"commit": run_git(clone, "rev-parse", "HEAD"), "is_dirty": patch is not None}
    run = {"provenance": told, "variant": "default"} | fields
    return Release("shop", version, "2026-01-02T03:04:05+00:00", "binary", "y", (), (), run, {}, None,
                   {path: hash_bytes(data) for path, data in files.items()})


def change(clone):
    """Change a text and a binary file, add one, and return the patch; then go back and change them otherwise."""
    (clone / "bench" / "params" / "default.yaml").write_text("train:\n  depth: 7  \n\n")  # blanks are part of it
    (clone / "picture.bin").write_bytes(bytes(range(255, -1, -1)))
    (clone / "bench" / "extra.py").write_text("x = 1\n")
    run_git(clone, "add", "--intent-to-add", "bench/extra.py")
    patch = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=clone, capture_output=True, check=True).stdout
    run_git(clone, "reset", "--hard", "--quiet")
    (clone / "bench" / "extra.py").unlink(missing_ok=True)
    (clone / "picture.bin").write_bytes(b"another")
    run_git(clone, "add", "picture.bin")
    (clone / "bench" / "params" / "default.yaml").write_text("train:\n  depth: 8\n")
    return patch


def describe(clone):
    """Return what a person sees of a clone: where HEAD is, the index and the working tree."""
    return [run_git(clone, *words) for words in (("status", "--porcelain"), ("symbolic-ref", "HEAD"), ("diff",),
                                                 ("diff", "--cached", "--binary"), ("ls-files", "--stage"))]


def test_a_clean_release_is_its_commit(store, clone):
    release = keep_release(store, clone)
    (clone / "bench" / "params" / "default.yaml").write_text("train:\n  depth: 8\n")
    run_git(clone, *SIGNED, "commit", "--quiet", "-am", "second")
    before = describe(clone)
    with prepare_branch(clone / "bench", store, release) as branch:
        pass
    assert (branch.name, branch.commit) == ("rollback/shop-3", release.run["provenance"]["commit"])
    assert branch.notes == ()
    assert run_git(clone, "rev-parse", branch.name) == branch.commit
    assert describe(clone) == before


def test_what_was_not_committed_is_a_commit_of_its_own(store, clone):
    patch = change(clone)
    release, before = keep_release(store, clone, patch=patch), describe(clone)
    with prepare_branch(clone / "bench", store, release) as branch:
        pass
    assert describe(clone) == before
    assert run_git(clone, "rev-parse", f"{branch.name}^") == branch.base == run_git(clone, "rev-parse", "HEAD")
    shown = {path: subprocess.run(["git", "show", f"{branch.name}:{path}"], cwd=clone, capture_output=True).stdout
             for path in ("bench/params/default.yaml", "picture.bin", "bench/extra.py")}
    assert shown == {"bench/params/default.yaml": b"train:\n  depth: 7  \n\n", "bench/extra.py": b"x = 1\n",
                     "picture.bin": bytes(range(255, -1, -1))}
    assert find_code(clone, store, release).commit == branch.commit, "the same release, the same commit"


def test_an_error_in_the_context_takes_the_branch_away(store, clone):
    with pytest.raises(KeyError), prepare_branch(clone, store, keep_release(store, clone)):
        raise KeyError
    assert run_git(clone, "branch", "--list", "rollback/*") == ""


def test_what_to_know_is_said(store, clone):
    release = keep_release(store, clone, variant="wider", lock=b"numpy==1.9\n")
    with prepare_branch(clone / "bench", store, release) as branch:
        pass
    assert branch.notes[0] == "the release was made with --params wider"
    assert "requirements.lock of the release is another" in branch.notes[1]


def test_a_note_on_what_the_patch_lacks_is_passed_on(store, clone):
    release = keep_release(store, clone, patch=change(clone), note=b"The patch lacks .env")
    with prepare_branch(clone / "bench", store, release) as branch:
        pass
    assert branch.notes[1] == "The patch lacks .env"
    files = {path: sha256 for path, sha256 in release.files.items() if path != PATCH}
    with pytest.raises(ReleaseError, match=r"does not hold them.*Got: The patch lacks \.env"):
        find_code(clone, store, replace(release, files=files))


@pytest.mark.parametrize(("told", "files", "message"), [
    ({"commit": ""}, {}, "names no commit"), ({}, {}, "names no commit"),
    ({"commit": "1" * 40}, {}, "not in this clone.*git fetch"),
    ({"commit": "HEAD", "is_dirty": True}, {}, "does not hold them")])
def test_code_that_cannot_be_had_is_said_why(store, clone, told, files, message):
    release = keep_release(store, clone)
    release = replace(release, run=release.run | {"provenance": told}, files=files)
    with pytest.raises(ReleaseError, match=message):
        find_code(clone, store, release)


def test_a_patch_that_does_not_apply_or_was_altered_is_refused(store, clone):
    release = keep_release(store, clone, patch=b"diff --git a/gone.py b/gone.py\n--- a/gone.py\n+++ b/gone.py\n"
                                              b"@@ -1 +1 @@\n-a\n+b\n")
    with pytest.raises(ReleaseError, match=r"git apply failed.*gone\.py"):
        find_code(clone, store, release)
    store.write(f"shop/3/{PATCH}", b"altered")
    with pytest.raises(Exception, match="not what was stored"):
        find_code(clone, store, release)


def test_a_branch_that_is_there_is_left_alone(store, clone):
    run_git(clone, "branch", "rollback/shop-3")
    with pytest.raises(ReleaseError, match=r"is there already.*git switch rollback/shop-3"), prepare_branch(
            clone, store, keep_release(store, clone)):
        pass
    assert run_git(clone, "rev-parse", "rollback/shop-3") == run_git(clone, "rev-parse", "HEAD")


def test_a_folder_outside_of_git_is_said(store, clone, tmp_path):
    with pytest.raises(ReleaseError, match="not a git repository"):
        find_code(tmp_path, store, keep_release(store, clone))


@pytest.mark.slow
def test_the_process_that_tells_mlflow_keeps_why_it_could_not(root, tmp_path, store):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = replace(load_settings(root, environ={}), run_store=str(tmp_path / "run"), tracking_uri=uri,
                       release_store=store.url, registry_uri="http://127.0.0.1:9")
    run = {"decision": {}, "mlflow_model": "m"}
    release = Release("shop", 1, "2026-01-02", "binary", "y", (), (), run, {}, None, {})
    store.write("shop/1/manifest.json", release.to_json())
    follow_behind(settings, "shop")
    wait_until(lambda: find_fault(settings, "shop"), "a fault", 120)
    fault = find_fault(settings, "shop")
    assert fault.startswith("MLflow fell behind. MLflow cannot be used (http://127.0.0.1:9)")
    assert fault.endswith("`cd4ml doctor` mends it.")
