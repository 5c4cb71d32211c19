"""A release store on S3, as moto's server speaks it."""

import datetime as dt
import gzip
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.store import Store, list_folders, read_many, read_verified
from cd4ml.delivery.archive import pack_release, read_archive, unpack_archive
from cd4ml.delivery.examination import examine_release
from cd4ml.delivery.history import Event, add_event, find_champion, read_history
from cd4ml.delivery.hosting import Parcel, Target
from cd4ml.delivery.publication import publish_files
from cd4ml.delivery.release import list_releases, read_release, verify_release
from cd4ml.delivery.retention import Removal, apply_prune, plan_prune
from cd4ml.production.champion import ChampionWatch, load_champion

pytestmark = pytest.mark.services

SAMPLE = Path(__file__).parents[1] / "data" / "releases" / "iris-1.zip.gz"
BUCKETS = iter(range(1000))


@pytest.fixture(scope="module")
def s3(cloud: str) -> Iterator[str]:
    """Return the address of an S3 server, which the environment names."""
    found = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
             "AWS_ENDPOINT_URL": cloud}
    before = {name: os.environ.get(name) for name in found}
    os.environ |= found
    try:
        yield cloud
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def client(s3: str):
    import boto3

    return boto3.client("s3")


@pytest.fixture
def store(client) -> Store:
    """Return a store in a bucket of its own."""
    bucket = f"bucket-{next(BUCKETS)}"
    client.create_bucket(Bucket=bucket)
    return Store(f"s3://{bucket}/releases")


def read_sample():
    return read_archive(gzip.decompress(SAMPLE.read_bytes()), "sample")


def test_the_verbs_of_a_store(store: Store) -> None:
    assert store.list() == store.list("nothing") == list_folders(store, "p") == []
    store.write("p/1/a.txt", b"1")
    store.write("p/1/a.txt", b"one")
    store.write("p/10/ü [x].txt", b"")
    assert store.list("p") == ["p/1/a.txt", "p/10/ü [x].txt"]
    assert store.list("p/1") == ["p/1/a.txt"]
    assert list_folders(store, "p") == ["1", "10"]
    assert dict(read_many(store, ["p/1/a.txt", "p/10/ü [x].txt", "p/2"])) == {
        "p/1/a.txt": b"one", "p/10/ü [x].txt": b"", "p/2": None}
    assert store.exists("p/1") is store.exists("p/1/a.txt") is True
    assert store.exists("p/1/b.txt") is False
    with pytest.raises(StoreError, match="is not in the store"):
        store.read("p/1/b.txt")
    with pytest.raises(StoreError, match="is not what was stored"):
        read_verified(store, "p/1/a.txt", "0" * 64)
    store.delete("p/1")
    assert store.list() == ["p/10/ü [x].txt"]


def test_of_many_that_create_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("claim", str(number).encode()), range(24)))
    assert sum(won) == 1
    assert store.read("claim") == str(won.index(True)).encode()
    assert not store.create("claim", b"late")


def test_what_another_process_writes_is_seen_at_once(store: Store, client) -> None:
    bucket = store.url.split("/")[2]
    store.write("p/history/000001.json", b"{}")
    assert store.list("p") == ["p/history/000001.json"]
    assert not store.exists("p/history/000002.json")
    client.put_object(Bucket=bucket, Key="releases/p/history/000002.json", Body=b"[]")
    assert store.exists("p/history/000002.json")
    assert store.list("p") == ["p/history/000001.json", "p/history/000002.json"]
    client.delete_object(Bucket=bucket, Key="releases/p/history/000001.json")
    assert store.list("p") == ["p/history/000002.json"]


def test_events_of_many_at_once_are_numbered_without_gaps(store: Store) -> None:
    def add(version: int) -> Event:
        return add_event(store, "toy", lambda number, champion: Event(
            number, "promote", version, champion, "2026-01-02T03:04:05+00:00", "ada", "", "local"))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, range(1, 7)))
    history = read_history(store, "toy")
    assert [event.number for event in history] == list(range(1, 7))
    assert sorted(event.version for event in history) == list(range(1, 7))
    assert find_champion(store, "toy") == history[-1].version


def test_a_release_is_unpacked_verified_served_and_packed(store: Store) -> None:
    archive = read_sample()
    assert unpack_archive(store, archive)
    assert not unpack_archive(store, archive)
    verify_release(store, read_release(store, "iris", 1))
    assert load_champion(store, "iris", 1).release.version == 1
    assert pack_release(store, "iris", 1) == gzip.decompress(SAMPLE.read_bytes())
    watch = ChampionWatch(store, "iris")
    watch.refresh()
    assert watch.champion is None
    add_event(store, "iris", lambda number, champion: Event(
        number, "promote", 1, champion, "2026-01-02T03:04:05+00:00", "ada", "", "local"))
    watch.refresh()
    assert watch.champion.release.version == 1

    data = bytearray(store.read("iris/1/parity.json"))
    data[7] ^= 1
    store.write("iris/1/parity.json", bytes(data))
    assert list(examine_release(store, "iris", 1).faults) == ["parity.json"]
    with pytest.raises(ReleaseError, match=r"parity\.json"):
        load_champion(store, "iris", 1)


def test_listing_many_releases_asks_for_manifests_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    release = replace(read_sample().release, files={})
    for version in range(1, 41):
        store.write(f"iris/{version}/manifest.json", replace(release, version=version).to_json())
        store.write(f"iris/{version}/reports/evaluate.html", b"<html>")
    store.write("iris/41/claim.json", b"{}")  # unfinished
    store.write("iris/history/000001.json", json.dumps({}).encode())
    asked: list[str] = []
    system = store._files.system
    for verb in ("ls", "find", "cat_file", "exists"):
        plain = getattr(system, verb)
        monkeypatch.setattr(system, verb, lambda path, *more, _verb=verb, _plain=plain, **options: (
            asked.append(f"{_verb} {path}"), _plain(path, *more, **options))[1])
    assert [one.version for one in list_releases(store, "iris")] == list(range(1, 41))
    assert [one.split()[0] for one in asked].count("ls") == 1
    assert len(asked) == 1 + 41
    assert all(one.endswith("/manifest.json") for one in asked if not one.startswith("ls "))


def test_a_bucket_that_is_not_there_is_an_error_with_its_address(s3: str) -> None:
    store = Store("s3://no-such-bucket/releases")
    for use in (lambda: store.write("a", b"1"), lambda: store.create("a", b"1"), lambda: store.read("a")):
        with pytest.raises(StoreError, match="s3://no-such-bucket/releases"):
            use()


def test_a_release_is_published_on_s3_pruned_there_and_half_an_event_is_never_left(store: Store) -> None:
    parcel = Parcel("toy", "toy/v1", "", "", "toy release 1", "told", False, {"toy-v1.zip": b"PK" * 99})
    target = Target("s3", f"{store.url}/published")
    assert publish_files(target, parcel) == publish_files(target, parcel) == f"{store.url}/published/toy/v1"
    assert Store(target.address).read("toy/v1/toy-v1.zip") == b"PK" * 99
    for version in (1, 2):
        store.write(f"toy/{version}/model/model.skops", b"x" * 1000)
        store.write(f"toy/{version}/manifest.json", b"{}")
    plan = plan_prune(store, "toy", {1, 2}, {2: "newest"}, dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
    assert plan.goes == {1: 1002}
    assert apply_prune(store, plan, Removal(dt.datetime(2026, 3, 1, tzinfo=dt.UTC), "ada", "test")) == [1]
    assert store.list("toy") == ["toy/1/pruned.json", "toy/2/manifest.json", "toy/2/model/model.skops"]
