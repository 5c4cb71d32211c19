"""What is handed out, and where to."""

import io
import zipfile
from dataclasses import replace

import pytest

from cd4ml.base.errors import ReleaseError, SettingsError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.archive import pack_release
from cd4ml.delivery.manifest import Release, read_manifest
from cd4ml.delivery.publication import find_target, publish_release

PAGE = b"<!doctype html><title>toy</title>"
GITHUB = {"GITHUB_REPOSITORY": "ada/toys", "GITHUB_TOKEN": "t"}


@pytest.fixture
def settings(root):
    return load_settings(root, environ={})


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "releases"))


def keep_release(store):
    files = {"reports/evaluate.html": PAGE, "model/model.skops": b"model"}
    run = {"decision": {"status": "fail"}, "metrics": {}, "steps": [], "report": "reports/evaluate.html"}
    release = Release("toy", 1, "2026-01-02", "binary", "y", (), (), run, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in files.items():
        store.write(f"toy/1/{path}", data)
    store.write("toy/1/manifest.json", release.to_json())
    return release


def test_what_is_published_is_the_whole_release_and_the_same_each_time(store, settings, tmp_path):
    release = keep_release(store)
    publish_release(tmp_path, store, release, find_target(f"folder:{tmp_path / 'out'}", settings, {}))
    data = (tmp_path / "out/toy/v1/toy-v1.zip").read_bytes()
    assert data == pack_release(store, "toy", 1)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        for path in ("manifest.json", "model/model.skops", "reports/evaluate.html"):
            assert any(name.endswith(path) for name in names)
        manifest = next(name for name in archive.namelist() if name.endswith("manifest.json"))
        assert read_manifest(archive.read(manifest), "archive") == release


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_publishing_into_a_folder_or_a_store_can_be_repeated(store, settings, tmp_path, kind):
    place = f"folder:{tmp_path / 'out'}" if kind == "folder" else f"memory://out-{tmp_path.name}"
    release, target = keep_release(store), find_target(place, settings, {})
    where = publish_release(tmp_path, store, release, target)
    there = Store(target.address)
    assert where.endswith("/toy/v1")
    assert there.list() == ["toy/v1/release.txt", "toy/v1/toy-v1.html", "toy/v1/toy-v1.zip"]
    assert there.read("toy/v1/toy-v1.html") == PAGE
    there.write("toy/v1/toy-v1.zip", b"half")
    assert publish_release(tmp_path, store, release, target) == where
    assert there.read("toy/v1/toy-v1.zip") == pack_release(store, "toy", 1)


def test_what_is_there_already_is_not_written_again(store, settings, tmp_path):
    release, target = keep_release(store), find_target(f"folder:{tmp_path / 'out'}", settings, {})
    publish_release(tmp_path, store, release, target)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    publish_release(tmp_path, store, release, target)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")} == before


def test_a_damaged_release_is_not_published(store, settings, tmp_path):
    release = keep_release(store)
    store.write("toy/1/model/model.skops", b"another")
    with pytest.raises(ReleaseError, match="is damaged: model"):
        publish_release(tmp_path, store, release, find_target(f"folder:{tmp_path / 'out'}", settings, {}))
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_said(store, settings, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="cannot be"):
        publish_release(tmp_path, store, keep_release(store), find_target(f"folder:{tmp_path / 'out'}", settings, {}))


@pytest.mark.parametrize(("words", "environ", "expected"), [
    ("github", GITHUB, ("github", "https://api.github.com", "ada/toys", {"Authorization": "Bearer t"})),
    ("github:eve/x", {**GITHUB, "GITHUB_API_URL": "https://ghe.example.org/api/v3/"},
     ("github", "https://ghe.example.org/api/v3", "eve/x", {"Authorization": "Bearer t"})),
    ("github", {**GITHUB, "CD4ML_GITHUB_REPOSITORY": "a/b", "CD4ML_GITHUB_API": "http://x"},
     ("github", "http://x", "a/b", {"Authorization": "Bearer t"})),
    ("gitlab", {"CI_API_V4_URL": "https://git.example.org/api/v4", "CI_PROJECT_ID": "7", "CI_JOB_TOKEN": "j"},
     ("gitlab", "https://git.example.org/api/v4", "7", {"JOB-TOKEN": "j"})),
    ("gitlab:group/toys", {"CI_JOB_TOKEN": "j", "GITLAB_TOKEN": "g"},
     ("gitlab", "https://gitlab.com/api/v4", "group/toys", {"PRIVATE-TOKEN": "g"})),
    ("folder:/srv/x", {}, ("folder", "/srv/x", "", {})),
    ("s3://bucket/x", {}, ("s3", "s3://bucket/x", "", {}))])
def test_a_target_is_found_from_words_and_environment(settings, words, environ, expected):
    found = find_target(words, settings, environ)
    assert (found.kind, found.address, found.project, found.headers) == expected


def test_a_bare_kind_goes_where_the_settings_say(settings):
    assert find_target("s3", replace(settings, publish="s3://b/x"), {}).address == "s3://b/x"
    found = find_target("folder", replace(settings, publish="shared"), {})
    assert found.address == str(settings.root / "shared")


@pytest.mark.parametrize(("words", "environ", "expected"), [
    ("folder", {}, "does not say where.*settings.ini"), ("s3", {}, "does not say where"),
    ("ftp", {}, "does not say where"),
    ("github", {"GITHUB_TOKEN": "t"}, "CD4ML_GITHUB_REPOSITORY is not set"),
    ("github", {"GITHUB_REPOSITORY": "a/b"}, "GITHUB_TOKEN is not set"),
    ("gitlab:7", {}, "GITLAB_TOKEN is not set")])
def test_what_is_lacking_is_said(settings, words, environ, expected):
    with pytest.raises(SettingsError, match=expected):
        find_target(words, settings, environ)
