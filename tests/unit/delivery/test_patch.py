import os
import subprocess

import pytest

from cd4ml.base.secrets import Redactor
from cd4ml.delivery.patch import list_secrets, read_changes


def git(folder, *words):
    """Run git in `folder` as ada."""
    subprocess.run(["git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", *words], cwd=folder, check=True,
                   capture_output=True)


@pytest.fixture
def tree(tmp_path):
    """Return a committed tree with files of many kinds."""
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    for name, data in {"a.py": b"one\ntwo\n", "gone.py": b"x\n", "sub/pic.png": bytes(range(256)),
                       "crlf.txt": b"a\r\nb\r\n", "no_end.txt": b"no newline", "run.sh": b"#!/bin/sh\n",
                       ".gitignore": b"*.log\ncache/\n"}.items():
        (folder / name).write_bytes(data)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def change(tree):
    """Change `tree` in every way that a tree can be changed."""
    (tree / "a.py").write_bytes(b"one\nthree\n")
    (tree / "gone.py").unlink()
    (tree / "sub/pic.png").write_bytes(bytes(reversed(range(256))) * 3)
    (tree / "crlf.txt").write_bytes(b"a\r\nc\r\n")
    (tree / "no_end.txt").write_bytes(b"still none")
    (tree / "run.sh").chmod(0o755)
    (tree / "with space ü.txt").write_bytes(b"new\n")
    (tree / "[odd]*.txt").write_bytes(b"new\n")
    (tree / "empty.txt").write_bytes(b"")
    (tree / "link").symlink_to("a.py")
    (tree / "run.log").write_bytes(b"ignored")
    git(tree, "add", "a.py", "link")  # what is staged counts like what is not


def list_tree(folder):
    """Return what git sees in `folder`: mode and bytes by name."""
    words = ["git", "ls-files", "-z", "--others", "--cached", "--exclude-standard"]
    names = subprocess.run(words, cwd=folder, check=True, capture_output=True).stdout.decode().split("\0")
    return {name: (os.readlink(folder / name) if (folder / name).is_symlink() else
                   ((folder / name).stat().st_mode & 0o100, (folder / name).read_bytes()))
            for name in names if name and os.path.lexists(folder / name)}


def test_commit_and_patch_give_the_tree_back(tree, tmp_path):
    change(tree)
    index = (tree / ".git/index").read_bytes()
    objects = sorted((tree / ".git/objects").rglob("*"))
    changes = read_changes(tree / "sub", Redactor())
    assert changes.note == ""
    assert "run.log" not in changes.files
    assert (tree / ".git/index").read_bytes() == index
    assert sorted((tree / ".git/objects").rglob("*")) == objects
    (tmp_path / "changes.patch").write_bytes(changes.patch)
    git(tmp_path, "clone", "-q", str(tree), "back")
    git(tmp_path / "back", "checkout", "-q", changes.commit)
    git(tmp_path / "back", "apply", "--binary", str(tmp_path / "changes.patch"))
    assert list_tree(tmp_path / "back") == list_tree(tree)
    assert read_changes(tree, Redactor()) == changes  # the same again


@pytest.mark.parametrize("setting", ["diff.noprefix true", "color.ui always", "diff.external false",
                                     "diff.mnemonicPrefix true", "diff.renames copies", "core.quotePath false"])
def test_the_settings_of_a_person_change_nothing(tree, setting):
    change(tree)
    plain = read_changes(tree, Redactor())
    git(tree, "config", *setting.split())
    assert read_changes(tree, Redactor()) == plain


def test_a_clean_tree_and_one_without_git_have_no_changes(tree, tmp_path):
    assert read_changes(tree, Redactor()) is None
    (tmp_path / "bare").mkdir()
    assert read_changes(tmp_path / "bare", Redactor()) is None


def test_files_with_secrets_stay_behind(tree):
    redactor = Redactor(list_secrets({"SERVICE_TOKEN": "sunshine-42", "CODE_ROOT": str(tree), "PLAIN": "hello world"}))
    begin = b"-----BEGIN " + b"PRIVATE KEY-----"
    files = {"a.py": b"one\nkey = 'sunshine-42'\n", ".env": b"A=b", "sub/server.pem": b"x", "note.txt": begin,
             "good.py": b"print('hello world')\n", ".env.example": b"A=\n"}
    for name, data in files.items():
        (tree / name).write_bytes(data)
    changes = read_changes(tree, redactor)
    assert "sunshine" not in changes.patch.decode()
    for name in ("a.py", ".env", "sub/server.pem", "note.txt"):
        assert name in changes.note
        assert f"b/{name}\n" not in changes.patch.decode()
    assert "b/good.py\n" in changes.patch.decode()
    assert "b/.env.example\n" in changes.patch.decode()


def test_a_secret_in_a_line_that_was_taken_away_stays_behind_too(tree):
    (tree / "old.py").write_bytes(b"key = 'sunshine-42'\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "a mistake")
    (tree / "old.py").write_bytes(b"import os\n")
    changes = read_changes(tree, Redactor(["sunshine-42"]))
    assert changes.patch is None
    assert "would hold a secret" in changes.note


def test_data_that_git_was_never_given_stays_behind(tree):
    (tree / "sub/Sales.CSV").write_bytes(b"ada,1\n")
    changes = read_changes(tree, Redactor())
    assert (changes.patch, changes.files) == (b"", ("sub/Sales.CSV",))
    assert changes.note == "The patch lacks files with data, which git was never given: sub/Sales.CSV\n"
    git(tree, "add", "sub/Sales.CSV")
    git(tree, "commit", "-qm", "a small table that belongs to the code")
    (tree / "sub/Sales.CSV").write_bytes(b"bob,1\n")
    assert b"+bob,1" in read_changes(tree, Redactor()).patch


def test_what_is_too_large_is_named_with_its_size(tree):
    (tree / "table.csv").write_bytes(b"1,2,3\n" * 1000)
    git(tree, "add", "table.csv")
    (tree / "a.py").write_bytes(b"changed\n")
    changes = read_changes(tree, Redactor(), limit=5000)
    assert changes.patch is None
    assert "6,000 bytes  table.csv" in changes.note
    assert "the limit is 5,000 bytes" in changes.note
    assert not list((tree / ".git/objects").rglob("tmp_*"))
