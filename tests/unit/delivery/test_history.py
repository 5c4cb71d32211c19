"""Numbers decide the order: under clocks that go backwards, and under many who promote at once."""

import datetime as dt
import json
import subprocess
import sys
import threading
from dataclasses import asdict

import pytest

from cd4ml.base.errors import Cd4mlError, ReleaseError
from cd4ml.base.store import Store
from cd4ml.delivery.history import (
    Event,
    add_event,
    find_champion,
    find_predecessor,
    find_service,
    parse_moment,
    read_backwards,
    read_history,
)

NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def write(store, *moves):
    """Add events, each `(action, version)` or `(action, version, hour)`."""
    for action, version, *hour in moves:
        at = f"2026-11-20T{hour[0] if hour else 8:02d}:00:00+00:00"
        add_event(store, "shop", lambda number, champion, a=action, v=version, at=at: Event(
            number, a, v, champion, at, "ada", "", "local"))


def test_a_champion_is_found_with_one_listing_and_no_more_reads_than_needed(store, monkeypatch):
    write(store, *[("promote", version) for version in range(1, 30)], ("refuse", 30), ("refuse", 31))
    read, listed = [], []
    for name, calls in (("read", read), ("list", listed)):
        plain = getattr(Store, name)
        monkeypatch.setattr(Store, name, lambda self, path, plain=plain, calls=calls: calls.append(path) or
                            plain(self, path))
    assert find_champion(store, "shop") == 29
    assert [path[-11:] for path in read] == ["000031.json", "000030.json", "000029.json"]
    assert len(listed) == 1


def test_numbers_are_compared_as_numbers_and_other_files_are_not_events(store):
    for number in (999_999, 1_000_000):
        event = Event(number, "promote", number, None, "2026-11-20", "ada", "", "local")
        store.write(f"shop/history/{number:06d}.json", json.dumps(asdict(event)).encode())
    store.write("shop/history/notes.txt", b"not an event")
    assert find_champion(store, "shop") == 1_000_000


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', "other number", "action"])
def test_an_event_that_cannot_be_read_is_named_and_nothing_is_added(store, damage):
    write(store, ("promote", 1), ("promote", 2))
    if isinstance(damage, str):
        wrong = {"number": 7} if damage == "other number" else {"action": "guess"}
        damage = json.dumps(asdict(read_history(store, "shop")[-1]) | wrong).encode()
    store.write("shop/history/000002.json", damage)
    for ask in (find_champion, read_history, find_predecessor):
        with pytest.raises(ReleaseError, match=r"An event .* cannot be read \(.*000002\.json\).*Restore the file"):
            ask(store, "shop")
    with pytest.raises(ReleaseError):
        write(store, ("promote", 3))
    assert len(store.list("shop/history")) == 2


def test_events_of_old_without_a_decision_are_read(store):
    old = asdict(Event(1, "promote", 1, None, "2026-01-02", "ada", "", "local"))
    del old["decision"]
    store.write("shop/history/000001.json", json.dumps(old).encode())
    assert next(read_backwards(store, "shop")).decision == ""
    assert find_champion(store, "shop") == 1


def test_a_refusal_leaves_the_champion(store):
    write(store, ("refuse", 1), ("promote", 2), ("refuse", 3), ("promote", 4))
    events = [(event.previous, event.champion) for event in read_history(store, "shop")]
    assert events == [(None, None), (None, 2), (2, 2), (2, 4)]


@pytest.mark.parametrize(("moves", "expected"), [
    ("", None), ("p1", None), ("p1 p2", 1), ("p1 p2 x3", 1), ("p1 p2 p3 r1", None), ("p1 p2 p3 r2", 1),
    ("p1 p2 r1 p3", 1), ("p1 p2 r1 p3 r1", None), ("p1 p2 r1 r2", 1), ("p1 r5", 1), ("p1 p2 r1 p4 p5 r4", 1)])
def test_going_back_never_goes_forward_to_what_was_undone(store, moves, expected):
    names = {"p": "promote", "r": "rollback", "x": "refuse"}
    write(store, *[(names[word[0]], int(word[1:])) for word in moves.split()])
    assert find_predecessor(store, "shop") == expected


def test_a_clock_that_goes_backwards_changes_neither_order_nor_champion(store):
    write(store, ("promote", 1, 12), ("promote", 2, 9), ("promote", 3, 14))
    assert find_champion(store, "shop") == 3
    assert [event.previous for event in read_history(store, "shop")] == [None, 1, 2]
    served = {hour: find_service(store, "shop", NOW.replace(month=11, day=20, hour=hour)) for hour in range(8, 16)}
    assert {hour: one.version for hour, one in served.items()} == {
        8: None, 9: None, 10: None, 11: None, 12: 2, 13: 2, 14: 3, 15: 3}
    assert [hour for hour, one in served.items() if one.doubt] == [9, 10, 11], "there the clocks contradict each other"
    assert served[12].until.version == 3


def test_what_served_names_the_events_around_it(store):
    write(store, ("promote", 1, 9), ("refuse", 2, 10), ("promote", 3, 12))
    found = find_service(store, "shop", NOW.replace(month=11, day=20, hour=11))
    assert (found.version, found.since.number, found.until.number, found.doubt) == (1, 1, 3, "")
    assert find_service(store, "shop", NOW).until is None
    assert json.loads(json.dumps(found.to_dict()))["since"]["to"] == 1


@pytest.mark.parametrize(("text", "moment", "is_assumed"), [
    ("2026-11-20T12:00", "2026-11-20T12:00", True), ("2026-11-20", "2026-11-20T00:00", True),
    ("2026-11-20 12:00", "2026-11-20T12:00", True), ("2026-11-20T12:00Z", "2026-11-20T12:00", False),
    ("2026-11-20T12:00+05:30", "2026-11-20T06:30", False),
    ("2026-07-20T12:00 Europe/Berlin", "2026-07-20T10:00", False),
    ("2026-11-20 12:00 America/New_York", "2026-11-20T17:00", False),
    ("2026-11-20 Europe/Berlin", "2026-11-19T23:00", False)])
def test_moments_are_read_with_their_time_zone_or_in_utc(text, moment, is_assumed):
    found = parse_moment(text, NOW)
    assert (found[0].strftime("%Y-%m-%dT%H:%M"), found[1]) == (moment, is_assumed)


@pytest.mark.parametrize("text", ["", "noon", "2026-13-01", "12:00", "2026-11-20T25:00", "2026-11-20T12:00 Berlin",
                                  "2026-11-20T12:00 ../../etc/passwd", "2026-11-20T12:00Z Europe/Berlin",
                                  "2026-12-02", "9" * 50, "0001-01-01T00:00+23:00"])
def test_what_is_no_moment_says_what_would_be(text):
    with pytest.raises(Cd4mlError, match=r"--at.*Expected: a (time such as 2026|moment before)"):
        parse_moment(text, NOW)


def check_order(store, count):
    events = read_history(store, "shop")
    assert [event.number for event in events] == list(range(1, count + 1))
    assert sorted(event.version for event in events) == list(range(1, count + 1))
    assert [event.previous for event in events] == [None, *[event.version for event in events[:-1]]]


def test_threads_that_promote_at_once_get_one_order_and_true_predecessors(store):
    ready = threading.Barrier(8)

    def promote(version):
        ready.wait()
        write(store, ("promote", version), ("promote", version + 8))

    threads = [threading.Thread(target=promote, args=(version,)) for version in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_order(store, 16)


PROMOTER = """
import sys
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event
store, first = Store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for version in range(first, first + 5):
    add_event(store, "shop", lambda number, champion: Event(number, "promote", version, champion, "", "", "", ""))
"""


@pytest.mark.slow
def test_commands_that_promote_at_once_get_one_order_and_true_predecessors(store):
    others = [subprocess.Popen([sys.executable, "-c", PROMOTER, store.url, str(first)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE) for first in (1, 6, 11, 16)]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    assert [other.wait(60) for other in others] == [0, 0, 0, 0]
    for other in others:
        other.communicate()
    check_order(store, 20)


def test_whoever_sees_an_old_listing_still_gets_the_true_order(store, monkeypatch):
    """Object stores may show a listing from a cache."""
    write(store, ("promote", 1))
    old = store.list("shop/history")
    write(store, ("promote", 2), ("refuse", 3))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "list", lambda self, prefix="": old)
        write(store, ("promote", 4))
    assert [(event.number, event.previous) for event in read_history(store, "shop")] == [
        (1, None), (2, 1), (3, 2), (4, 2)]
