"""Git answers for the folder that is meant, and what it refuses is said in its words."""

import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.delivery.git import ELSEWHERE, ask_git, read_git, run_git


@pytest.fixture
def clone(tmp_path):
    run_git(tmp_path, "init", "--quiet")
    return tmp_path


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_a_hook_was_told_does_not_lead_elsewhere(clone, monkeypatch, name):
    monkeypatch.setenv(name, str(clone / "elsewhere"))
    (clone / "a.txt").write_text("a")
    run_git(clone, "add", "a.txt")
    assert run_git(clone, "ls-files") == "a.txt"
    assert run_git(clone, "rev-parse", "--show-toplevel") == str(clone)


def test_a_path_is_no_pattern_and_bytes_stay_as_they_are(clone):
    for name in ("*", "ab"):
        (clone / name).write_bytes(b"\xff \n")
    run_git(clone, "add", "*")
    assert read_git(clone, "ls-files", "-z") == b"*\0"
    assert read_git(clone, "show", ":*") == b"\xff \n"


def test_a_refusal_is_an_error_or_nothing(clone, monkeypatch):
    assert ask_git(clone, "rev-parse", "HEAD") == ""
    with pytest.raises(ReleaseError, match=r"git rev-parse failed.*Needed a single revision"):
        run_git(clone, "rev-parse", "--verify", "HEAD")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ReleaseError, match=r"git does not answer.*Install git"):
        run_git(clone, "status")
    assert ask_git(clone, "status") == ""
