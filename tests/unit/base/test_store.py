import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.store import Store, list_folders, read_many, read_verified, write_atomic


def test_a_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "note.txt"
    write_atomic(path, b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(StoreError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_both_kinds_of_store_do_the_same(tmp_path, kind):
    store = Store(str(tmp_path) if kind == "local" else f"memory://{tmp_path.name}")
    store.write("a/b/c.txt", b"1")
    assert store.create("a/d.txt", b"2")
    assert not store.create("a/d.txt", b"3")
    assert store.list("a") == ["a/b/c.txt", "a/d.txt"]
    assert store.list("nothing") == []
    assert read_verified(store, "a/d.txt", "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35") == b"2"
    store.delete("a/b")
    assert store.list() == ["a/d.txt"]
    assert not store.exists("a/b/c.txt")
    for read in (lambda: store.read("a/b/c.txt"), lambda: read_verified(store, "a/d.txt", "0" * 64)):
        with pytest.raises(StoreError):
            read()


def test_of_many_that_create_one_wins(tmp_path):
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: store.create("claim", str(i).encode()), range(64)))
    assert sum(won) == 1
    assert store.read("claim") == str(won.index(True)).encode()
    assert store.list() == ["claim"]


def test_an_address_of_no_known_kind_is_explained():
    with pytest.raises(StoreError, match="Check the address"):
        Store("nosuch://place").read("x")


def test_a_folder_that_is_a_file_and_a_full_path_are_refused_with_nothing_left_behind(tmp_path):
    (tmp_path / "taken").write_text("a file")
    store = Store(str(tmp_path))
    with pytest.raises(StoreError, match="cannot be written"):
        store.write("taken/x.txt", b"1")
    with pytest.raises(StoreError, match="cannot be written"):
        store.create("taken/x.txt", b"1")
    assert store.list() == ["taken"]


def test_a_reader_sees_one_whole_content_or_the_other(tmp_path):
    path, contents = tmp_path / "note", [bytes([65 + i]) * 100_000 for i in range(4)]
    write_atomic(path, contents[0])
    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(lambda data=data: [write_atomic(path, data) for _ in range(10)]) for data in contents]
        while not all(writer.done() for writer in writers):
            assert path.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["note"]


def test_what_was_not_finished_is_not_listed(tmp_path):
    (tmp_path / ".note.1234.part").write_bytes(b"half")
    assert Store(str(tmp_path)).list() == []


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_folders_are_listed_without_what_lies_in_them_and_many_files_are_read_at_once(tmp_path, kind):
    store = Store(str(tmp_path) if kind == "local" else f"memory://folders-{tmp_path.name}")
    names = [f"p/{number}/x[{number}].txt" for number in range(40)]
    for name in names:
        store.write(name, name.encode())
    store.write("p/file.txt", b"")
    assert list_folders(store, "p") == sorted(str(number) for number in range(40))
    assert list_folders(store, "q") == list_folders(store, "p/file.txt") == []
    assert dict(read_many(store, [*names, "p/41/x", "p/1"])) == {
        **{name: name.encode() for name in names}, "p/41/x": None, "p/1": None}
    assert dict(read_many(store, [])) == {}


@pytest.mark.parametrize("verb", ["write", "create"])
def test_what_a_store_has_told_outlasts_a_power_cut_with_all_its_folders(tmp_path, monkeypatch, verb):
    target, synced, sync = tmp_path / "iris" / "history" / "000001.json", set(), os.fsync

    def watch(handle):
        synced.add((os.readlink(f"/proc/self/fd/{handle}"), target.exists()))
        sync(handle)

    monkeypatch.setattr("os.fsync", watch)
    getattr(Store(str(tmp_path)), verb)("iris/history/000001.json", b"{}")
    assert {(str(folder), True) for folder in (tmp_path, tmp_path / "iris", target.parent)} <= synced


def test_a_file_address_is_a_folder_and_written_whole(tmp_path):
    store = Store(f"file://{tmp_path}")
    assert store.is_local
    store.write("a/b", b"1")
    assert (tmp_path / "a" / "b").read_bytes() == b"1"
