"""Commit, dirty tree and person, in a real repository; the lock as pip would read it."""

import os
import subprocess

import pytest

from cd4ml.delivery.provenance import read_lock, read_provenance, read_requirements


@pytest.fixture
def repository(tmp_path):
    """Return a repository with one commit, whatever this machine's git is set to."""
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    (tmp_path / ".gitignore").write_text(".cd4ml/\n")
    for words in (("init", "-q"), ("add", "."),
                  ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "-q", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, env=environ, check=True)
    return tmp_path


def test_a_clean_tree_is_its_commit(repository):
    found = read_provenance(repository, {})
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout.strip()
    assert (found.commit, found.is_dirty) == (head, False)
    assert len(found.commit) == 40


@pytest.mark.parametrize(("name", "is_dirty"), [("settings.ini", True), ("new.txt", True), (".cd4ml/runs", False)])
def test_what_is_changed_or_new_makes_it_dirty_and_what_is_ignored_does_not(repository, name, is_dirty):
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text("changed")
    assert read_provenance(repository, {}).is_dirty == is_dirty


def test_outside_a_repository_or_before_the_first_commit_there_is_no_commit(tmp_path):
    assert read_provenance(tmp_path, {}).commit == ""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert read_provenance(tmp_path, {}).commit == ""


@pytest.mark.parametrize(("environ", "who"), [
    ({"GITHUB_ACTOR": "grace"}, "grace"),
    ({"GITLAB_USER_LOGIN": "alan"}, "alan"),
    ({"CD4ML_WHO": "ada", "GITHUB_ACTOR": "grace"}, "ada"),
    ({"CD4ML_WHO": "", "CIRCLE_USERNAME": "mary"}, "mary"),
])
def test_in_ci_it_is_who_started_the_job(tmp_path, environ, who):
    assert read_provenance(tmp_path, environ).who == who


def test_the_lock_gives_what_holds_for_this_python_and_system(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\n"
                    "pandas==3.1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb==\n"
                    "numpy==1.0.0 ; python_full_version < '3.0' \\\n    --hash=sha256:cc\n"
                    "numpy==2.3.1 ; python_full_version >= '3.0' \\\n    --hash=sha256:dd\n"
                    "pywin32==306 ; sys_platform == 'nowhere'\n")
    assert read_lock(lock) == {"pandas": "3.1.0", "numpy": "2.3.1"}
    assert read_requirements(lock, ("numpy", "scipy", "pandas")) == ["numpy==2.3.1", "pandas==3.1.0"]
    assert read_requirements(tmp_path / "missing.lock", ("numpy",)) == []


def test_our_own_lock_pins_what_a_model_needs(root):
    needed = read_requirements(root / "requirements.lock", ("scikit-learn", "pandas", "numpy", "scipy", "skops"))
    assert len(needed) == 5
