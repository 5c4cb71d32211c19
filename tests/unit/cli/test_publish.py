"""The options of `release` and `releases`, as a user and as CI give them."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from cd4ml.base.store import Store
from cd4ml.cli.publish import complete_target
from cd4ml.delivery.history import find_champion
from cd4ml.delivery.release import list_releases

_spec = importlib.util.spec_from_file_location("hosts", Path(__file__).parents[1] / "delivery" / "hosts.py")
hosts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hosts)


def call_git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def clone(shared_workbench):
    """Return a workbench in git with one release."""
    folder = shared_workbench.folder
    (folder / ".gitignore").write_text("releases/\n.cd4ml/\nout/\n")
    shared_workbench.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for words in (("init", "-q", "-b", "main"), ("config", "user.name", "ada"),
                  ("config", "user.email", "ada@example.org"), ("add", "."), ("commit", "-q", "-m", "first")):
        call_git(folder, *words)
    shared_workbench.call_json("release", "iris")
    return shared_workbench


def test_targets_are_completed():
    assert complete_target("g") == ["github", "gitlab"]
    assert complete_target("s") == ["s3://"]


@pytest.mark.slow
def test_a_release_is_tagged_and_published_and_again_nothing_changes(clone):
    words = ("release", "iris", "--tag", "--publish", f"folder:{clone.folder / 'out'}")
    first, again = clone.call_json(*words), clone.call_json(*words)
    assert first["tag"] == {"name": "iris/v1", "commit": call_git(clone.folder, "rev-parse", "HEAD"), "is_new": True,
                            "push": "git push origin iris/v1"}
    assert (again["version"], again["tag"]["is_new"], again["published"]) == (1, False, f"{clone.folder}/out/iris/v1")
    assert sorted(path.name for path in (clone.folder / "out/iris/v1").iterdir()) == [
        "iris-v1.html", "iris-v1.zip", "release.txt"]
    assert call_git(clone.folder, "cat-file", "-p", "iris/v1").splitlines()[5] == "iris release 1: pass"


@pytest.mark.slow
def test_what_cannot_be_published_stays_a_release_and_is_published_by_the_next_try(clone):
    clone.call_json("release", "iris", "--tag")
    server = hosts.FakeGitHub({})
    clone.environ |= {"GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": "ada/toys", "GITHUB_TOKEN": hosts.TOKEN}
    try:
        code, out, err = clone.call("release", "iris", "--publish", "github")
        assert code == 2
        assert "release 1 is the champion" in out
        assert "The tag iris/v1 was not pushed. git push origin iris/v1. Release 1 is not published" in err
        assert hosts.TOKEN not in out + err
        store = Store(str(clone.folder / "releases"))
        assert find_champion(store, "iris") == 1
        server.tags = {"iris/v1": call_git(clone.folder, "rev-parse", "refs/tags/iris/v1")}
        done = clone.call_json("release", "iris", "--publish", "github")
        assert done["published"] == f"{server.url}/ada/toys/releases/tag/iris/v1"
        assert sorted(server.data) == ["iris-v1.html", "iris-v1.zip"]
        assert not server.broken
    finally:
        server.close()


@pytest.mark.slow
def test_a_target_that_lacks_something_is_said_before_anything_runs(clone):
    said = clone.call_json("release", "iris", "-p", "train.C=0.123", "--publish", "folder", code=2)
    assert said["what"] == "--publish folder does not say where"
    assert len(list_releases(Store(str(clone.folder / "releases")), "iris")) == 1


@pytest.mark.slow
def test_prune_says_what_would_go_and_removes_only_with_yes(clone):
    for value in ("0.3", "0.5"):
        clone.call_json("release", "iris", "-p", f"train.C={value}")
    code, out, err = clone.call("releases", "iris", "--prune", "--keep", "1")
    assert code == 0
    assert "Nothing was removed. With --yes" in out
    assert "has the tag iris/v1" in err or "serves" in err
    assert "goes" in err
    assert len(clone.call_json("releases", "iris")["releases"]) == 3
    done = clone.call_json("releases", "iris", "--prune", "--keep", "1", "--yes")
    assert done["gone"] == [2]
    assert [one["version"] for one in clone.call_json("releases", "iris")["releases"]] == [1, 3]
    said = clone.call_json("rollback", "iris", "2", code=2)
    assert said["what"] == "Release 2 of 'iris' was pruned"
    assert "by ada" in said["got"]
    assert clone.call_json("releases", "iris", "--prune", "--keep", "1")["plan"]["goes"] == {}
