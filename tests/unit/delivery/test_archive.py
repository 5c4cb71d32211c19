import io
import json
import random
import zipfile

import pytest

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.archive import Archive, pack_release, read_archive, unpack_archive
from cd4ml.delivery.examination import examine_all
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.release import read_release, verify_release

FILES = {"claim.json": b'{"at": "2026-01-02T03:04:05.000001+00:00"}', "params.json": b"{}", "reports/ü.html": b"<html>"}


def make_release(store, version=1, files=FILES, **changes):
    """Keep a small release in `store` as `write_bundle` would."""
    fields = {"problem": "toy", "version": version, "created": "2026-01-02T03:04:05+00:00", "task": "binary",
              "target": "y", "features": (), "classes": (),
              "run": {"decision": {"status": "pass"}, "metrics": {}, "steps": []}, "data": {},
              "judged_against": None, "files": {path: hash_bytes(data) for path, data in files.items()}}
    release = Release(**fields | changes)
    for path, data in files.items():
        store.write(f"{release.folder}/{path}", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return release


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "here"))


@pytest.fixture
def elsewhere(tmp_path):
    return Store(str(tmp_path / "elsewhere"))


@pytest.fixture
def packed(store):
    make_release(store)
    return pack_release(store, "toy", 1)


def list_contents(store):
    return {path: store.read(path) for path in store.list()}


def repack(packed, change, compression=zipfile.ZIP_STORED):
    """Return `packed` with its entries, bytes by name, changed by `change`."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        entries = change({name: archive.read(name) for name in archive.namelist()})
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, compression)
    return made.getvalue()


def test_the_same_release_gives_the_same_bytes_wherever_it_lies(packed, elsewhere):
    assert unpack_archive(elsewhere, read_archive(packed, "x"))
    assert pack_release(elsewhere, "toy", 1) == packed
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())


def test_an_archive_opens_with_any_zip_tool_into_a_release_store(packed, tmp_path):
    zipfile.ZipFile(io.BytesIO(packed)).extractall(tmp_path / "by_hand")
    other = Store(str(tmp_path / "by_hand"))
    verify_release(other, read_release(other, "toy", 1))


def test_any_flipped_byte_and_any_cut_is_refused(packed):
    draw = random.Random(0)
    for place in range(len(packed)):
        altered = bytearray(packed)
        altered[place] ^= 1 << draw.randrange(8)
        with pytest.raises(ReleaseError):
            read_archive(bytes(altered), "toy.zip")
    for cut in range(0, len(packed), 7):
        with pytest.raises(ReleaseError, match="no whole archive"):
            read_archive(packed[:cut], "toy.zip")


@pytest.mark.parametrize("change", [
    lambda entries: {**entries, "../evil.txt": b"x"}, lambda entries: {**entries, "toy/1/../../evil.txt": b"x"},
    lambda entries: {**entries, "/etc/evil": b"x"}, lambda entries: {**entries, "toy/1/more.txt": b"x"},
    lambda entries: {**entries, "toy/2/manifest.json": b"x"}, lambda entries: dict(reversed(entries.items())),
    lambda entries: {name: data for name, data in entries.items() if not name.endswith("params.json")},
    lambda entries: {name: data for name, data in entries.items() if not name.endswith("manifest.json")},
    lambda entries: {name.replace("toy/1", "toy/2"): data for name, data in entries.items()}, lambda _: {}])
def test_what_does_not_belong_there_is_refused(packed, change):
    with pytest.raises(ReleaseError):
        read_archive(repack(packed, change), "toy.zip")


def test_a_manifest_that_leads_out_of_the_bundle_writes_nothing(packed, tmp_path):
    evil = Release("toy", 1, "2026-01-02", "binary", "y", (), (), {"decision": {}}, {}, None,
                   {"../../evil.txt": hash_bytes(b"x")})
    data = repack(packed, lambda _: {"toy/1/../../evil.txt": b"x", "toy/1/manifest.json": evil.to_json()})
    with pytest.raises(ReleaseError, match="what cannot be"):
        read_archive(data, "toy.zip")


def test_a_bomb_is_refused_before_it_unfolds(packed):
    bomb = repack(packed, lambda entries: entries | {"toy/1/params.json": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(ReleaseError, match="would unfold to 50,"):
        read_archive(bomb, "toy.zip")


def test_unpacking_twice_changes_nothing_and_mends_what_was_damaged(packed, elsewhere):
    archive = read_archive(packed, "x")
    assert unpack_archive(elsewhere, archive)
    before = list_contents(elsewhere)
    assert not unpack_archive(elsewhere, archive)
    elsewhere.write("toy/1/params.json", b"[]")
    elsewhere.delete("toy/1/reports/ü.html")
    assert unpack_archive(elsewhere, archive)
    assert list_contents(elsewhere) == before
    assert examine_all(elsewhere, "toy")[0].faults == {}


@pytest.mark.parametrize("files", [FILES, {"params.json": b"{}"}])
def test_another_release_with_the_number_stays_as_it_is(packed, elsewhere, files):
    make_release(elsewhere, created="2026-02-03T03:04:05+00:00", files=files)
    before = list_contents(elsewhere)
    with pytest.raises(ReleaseError, match="Number 1 of 'toy' is taken by another release"):
        unpack_archive(elsewhere, read_archive(packed, "x"))
    assert list_contents(elsewhere) == before


@pytest.mark.parametrize("files", [{"claim.json": b'{"at": "another time"}'}, {"params.json": b"another bundle"},
                                   {"claim.json": FILES["claim.json"], "params.json": b"another bundle"}])
def test_an_unfinished_bundle_with_the_number_stays_as_it_is(packed, elsewhere, files):
    for path, data in files.items():
        elsewhere.write(f"toy/1/{path}", data)
    with pytest.raises(ReleaseError, match="is taken by an unfinished one"):
        unpack_archive(elsewhere, read_archive(packed, "x"))
    assert list_contents(elsewhere) == {f"toy/1/{path}": data for path, data in files.items()}


@pytest.mark.parametrize("writes", range(4))
def test_unpacking_that_was_cut_short_is_no_release_and_goes_on_the_next_time(packed, elsewhere, monkeypatch, writes):
    archive, left = read_archive(packed, "x"), [writes]
    write = Store.write

    def write_some(self, path, data):
        if not left[0]:
            raise StoreError("No space left")
        left[0] -= 1
        write(self, path, data)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", write_some)
        if writes < 3:
            with pytest.raises(StoreError):
                unpack_archive(elsewhere, archive)
            assert examine_all(elsewhere, "toy") == []
        else:
            assert unpack_archive(elsewhere, archive)
    assert unpack_archive(elsewhere, archive) is (writes < 3)
    assert pack_release(elsewhere, "toy", 1) == packed


def test_a_release_of_old_whose_claim_was_no_file_of_it_comes_along(store, elsewhere):
    release = make_release(store, files={"params.json": b"{}"})
    store.write("toy/1/claim.json", b'{"at": "2026-01-02T03:04:05.123456+00:00"}')
    packed = pack_release(store, "toy", 1)
    assert unpack_archive(elsewhere, read_archive(packed, "x"))
    assert not unpack_archive(elsewhere, Archive(release, {"params.json": b"{}"}))
    assert pack_release(elsewhere, "toy", 1) == packed
    store.write("toy/1/claim.json", b'{"at": "2026-01-03T03:04:05.123456+00:00"}')
    with pytest.raises(ReleaseError, match=r"claim\.json: it does not belong"):
        pack_release(store, "toy", 1)


def test_a_damaged_release_is_not_packed(store):
    make_release(store)
    store.write("toy/1/params.json", json.dumps([]).encode())
    with pytest.raises(ReleaseError, match=r"params\.json"):
        pack_release(store, "toy", 1)
