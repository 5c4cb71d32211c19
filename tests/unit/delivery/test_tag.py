"""A tag tells the truth, or is not made."""

import os
import subprocess

import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.base.store import Store
from cd4ml.delivery.git import run_git
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.tag import find_commit, find_tag, list_tagged, tag_release

RULE = {"rule": {"metric": "accuracy", "at_least": 0.8}, "status": "pass", "value": 0.95, "low": 0.9, "high": 1.0,
        "threshold": 0.8, "n": 60, "reason": "accuracy 0.95, at least 0.9"}
METRICS = {"accuracy": {"value": 0.95, "low": 0.9, "high": 0.98, "confidence": 0.95, "n": 60},
           "log_loss": {"value": None, "low": None, "high": None, "confidence": 0.95, "n": 60}}


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Return a clone with one commit, whose git knows nobody but who is set in it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    folder = tmp_path / "clone"
    folder.mkdir()
    for words in (("init", "-q", "-b", "main"), ("config", "user.name", "ada"),
                  ("config", "user.email", "a@example.org"), ("commit", "-q", "--allow-empty", "-m", "first")):
        run_git(folder, *words)
    return folder


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "releases"))


def keep_release(store, commit, version=1, is_dirty=False):
    run = {"decision": {"format": 1, "status": "pass", "reason": "All 1 rules passed", "results": [RULE]},
           "metrics": METRICS, "steps": [], "report": "reports/evaluate.html", "variant": "default",
           "provenance": {"commit": commit, "is_dirty": is_dirty}}
    release = Release("toy", version, "2026-01-02", "binary", "y", (), (), run, {}, None,
                      {"reports/evaluate.html": "5" * 64})
    store.write(f"toy/{version}/manifest.json", release.to_json())
    return release


def test_the_tag_is_annotated_on_the_releases_commit_and_tells_how_it_was_judged(clone, store):
    commit = find_commit(clone, "HEAD")
    release = keep_release(store, commit)
    run_git(clone, "commit", "-q", "--allow-empty", "-m", "later")
    tag = tag_release(clone, store, release)
    assert (tag.name, tag.commit, tag.is_new, tag.push) == ("toy/v1", commit, True, "git push origin toy/v1")
    assert run_git(clone, "cat-file", "-t", "toy/v1") == "tag"
    assert find_commit(clone, "toy/v1") == commit != find_commit(clone, "HEAD")
    told = run_git(clone, "cat-file", "-p", "toy/v1")
    for words in ("toy release 1: pass", "- pass: accuracy ≥ 0.8", "- accuracy: 0.95 (0.9 to 0.98)",
                  "- log_loss: undefined", f"report: sha256 {'5' * 64}", "manifest: sha256 "):
        assert words.lower() in told.lower()


def test_the_tag_is_made_once_and_never_pushed(clone, store, tmp_path):
    run_git(tmp_path, "init", "-q", "--bare", "there")
    run_git(clone, "remote", "add", "upstream", str(tmp_path / "there"))
    release = keep_release(store, find_commit(clone, "HEAD"))
    first, again = tag_release(clone, store, release), tag_release(clone, store, release)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.push == "git push upstream toy/v1"
    assert not run_git(clone, "ls-remote", "upstream")
    assert find_tag(clone, "toy/v1") == run_git(clone, "rev-parse", "refs/tags/toy/v1")


def test_a_taken_name_is_refused_and_the_tag_stays(clone, store):
    release = keep_release(store, find_commit(clone, "HEAD"))
    run_git(clone, "tag", "toy/v1")  # of the same commit, but by hand
    with pytest.raises(ReleaseError, match=r"toy/v1 is taken.*with another message"):
        tag_release(clone, store, release)
    assert find_tag(clone, "toy/v1") == ""
    run_git(clone, "commit", "-q", "--allow-empty", "-m", "later")
    run_git(clone, "tag", "--force", "toy/v1")
    with pytest.raises(ReleaseError, match=r"toy/v1 is taken.*Expected: commit"):
        tag_release(clone, store, release)


def test_what_no_commit_tells_the_truth_about_has_no_tag(clone, store, tmp_path):
    head = find_commit(clone, "HEAD")
    cases = [(clone, keep_release(store, head, is_dirty=True), "made from a tree with changes"),
             (clone, keep_release(store, ""), "was not made from a commit"),
             (clone, keep_release(store, "0" * 40), "is not in this clone.*fetch"),
             (tmp_path, keep_release(store, head), "The workbench is not in git")]
    for root, release, words in cases:
        with pytest.raises(ReleaseError, match=words):
            tag_release(root, store, release)
    assert not run_git(clone, "tag", "--list")


def test_a_git_that_does_not_know_who_is_at_work_says_what_to_set(clone, store):
    run_git(clone, "config", "--unset", "user.name")
    run_git(clone, "config", "--unset", "user.email")
    run_git(clone, "config", "user.useConfigOnly", "true")
    with pytest.raises(ReleaseError, match=r"git config user\.name"):
        tag_release(clone, store, keep_release(store, find_commit(clone, "HEAD")))


def test_tags_of_the_clone_and_those_that_the_store_knows_are_listed(clone, store, tmp_path):
    release = keep_release(store, find_commit(clone, "HEAD"))
    tag_release(clone, store, release)
    for name in ("toy/v12", "toy/vnext", "other/v3"):
        run_git(clone, "tag", name)
    assert list_tagged(clone, store, "toy") == {1: "toy/v1", 12: "toy/v12"}
    subprocess.run(["git", "tag", "--delete", "toy/v1"], cwd=clone, check=True, capture_output=True)
    assert list_tagged(clone, store, "toy") == {1: "toy/v1", 12: "toy/v12"}
    assert list_tagged(tmp_path, store, "toy") == {1: "toy/v1"}
