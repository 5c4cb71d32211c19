"""Environments from a lock: built with uv or pip from a wheel made here, held to its hash, built once, never half."""

import hashlib
import shutil
import subprocess
import zipfile

import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.delivery import environment
from cd4ml.delivery.environment import build_environment, find_uv, list_differences


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return a folder with the only wheel that can be had, and its hash."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel = folder / "tinything-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinything.py", "answer = 42\n")
        archive.writestr("tinything-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n")
        archive.writestr("tinything-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
                                                          "Tag: py3-none-any\n")
        archive.writestr("tinything-1.0.dist-info/RECORD", "tinything.py,,\ntinything-1.0.dist-info/METADATA,,\n"
                                                           "tinything-1.0.dist-info/WHEEL,,\n"
                                                           "tinything-1.0.dist-info/RECORD,,\n")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "UV_NO_INDEX": "1",
                        "UV_FIND_LINKS": str(folder), "UV_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def write_lock(folder, sha256):
    lock = folder / "requirements.lock"
    lock.write_text(f"tinything==1.0 \\\n    --hash=sha256:{sha256}\n")
    return lock


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_an_environment_holds_what_the_lock_pins_and_is_built_once(tmp_path, shelf, monkeypatch, tool):
    if tool == "pip":
        monkeypatch.setattr(environment, "find_uv", list)
    else:
        assert find_uv()
    lock = write_lock(tmp_path, shelf)
    assert list_differences(lock) == ["tinything missing instead of 1.0"]
    python = build_environment(lock, tmp_path / "environments")
    asked = [str(python), "-c", "import tinything; print(tinything.answer)"]
    assert subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path).stdout == "42\n"
    (tmp_path / "shelf" / "tinything-1.0-py3-none-any.whl").unlink()
    shutil.rmtree(tmp_path / "shelf")
    assert build_environment(lock, tmp_path / "environments") == python, "nothing was fetched again"
    alone = subprocess.run([str(python), "-c", "import numpy"], capture_output=True)
    assert alone.returncode, "and nothing else is in it"


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_package_with_another_hash_is_refused_and_nothing_is_left(tmp_path, shelf, monkeypatch, tool):
    if tool == "pip":
        monkeypatch.setattr(environment, "find_uv", list)
    lock = write_lock(tmp_path, "0" * 64)
    with pytest.raises(ReleaseError, match="cannot be built"):
        build_environment(lock, tmp_path / "environments")
    assert not [path for path in (tmp_path / "environments").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_an_environment_without_its_stamp_is_built_anew(tmp_path, shelf):
    lock = write_lock(tmp_path, shelf)
    python = build_environment(lock, tmp_path / "environments")
    (python.parents[1] / "requirements.lock").unlink()
    next(python.parents[1].glob("lib/*/site-packages/tinything.py")).unlink()
    build_environment(lock, tmp_path / "environments")
    assert subprocess.run([str(python), "-c", "import tinything"]).returncode == 0


def test_what_the_lock_pins_for_other_systems_does_not_count(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("elsewhere==1 ; sys_platform == 'win32'\nPytest==0.1\n")
    found = list_differences(lock)
    assert len(found) == 1
    assert found[0].startswith("pytest ")
    assert found[0].endswith(" instead of 0.1")
