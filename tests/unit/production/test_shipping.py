"""Events, addresses and states where the notebooks do not look: odd clocks, long logs, hanging and failing sinks."""

import contextlib
import datetime as dt
import itertools
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from waiting import find_port

from cd4ml.base.errors import SettingsError, StoreError
from cd4ml.base.settings import load_settings
from cd4ml.production import shipping
from cd4ml.production.events import Cursor, Event, count_events, read_events
from cd4ml.production.fluentd import pack_events
from cd4ml.production.leases import FileLease, LeaseError, hold_sink, list_leases, open_lease, release_days
from cd4ml.production.lines import DAY
from cd4ml.production.outcomes import OutcomeLog, Told
from cd4ml.production.predictions import LogRow, PredictionLog, read_after
from cd4ml.production.retention import prune_log
from cd4ml.production.shipping import BATCH_EVENTS, Shipper, follow_log, tell_away
from cd4ml.production.sinks import Refusal, SinkError, read_sinks

AT, AT_LOG = dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)
ADDRESS = read_sinks("fluentd://127.0.0.1:24224")[0]


def make_rows(count: int, problem: str = "toy", stem: str = "p") -> list[LogRow]:
    return [(f"{stem}{i}", "r", 1372680000000, problem, 1, "{}", '{"prediction": 1.5}', "", "champion", 0.1)
            for i in range(count)]


class Shelf:
    """A sink that keeps ids, and fails as often as it is told to."""

    def __init__(self, failures: int = 0, error: Exception | None = None):
        self.taken: list[str] = []
        self.failures, self.error = failures, error or SinkError("The shelf is away")

    def send(self, events: Sequence[Event]) -> list[Refusal]:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.taken += [one.id for one in events]
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog(tmp_path / "predictions")


def make_shipper(log: PredictionLog, shelf: Shelf) -> Shipper:
    return Shipper(make_lease(log), shelf, lambda: AT)


def make_lease(log: PredictionLog) -> FileLease:
    return FileLease(str(log.path), "toy", ADDRESS)


@pytest.mark.parametrize("year", [1969, 1970, 2038, 2105, 2107, 9999])
def test_a_clock_that_is_far_off_does_not_stop_events(year: int) -> None:
    packed = pack_events("t", [Event("p", "prediction", dt.datetime(year, 1, 1, tzinfo=dt.UTC), "toy", {})], "c")
    assert len(msgspec.msgpack.decode(packed)[1][0][0].data) == 8


def test_what_a_clock_that_goes_back_stamps_is_shipped_as_well(log: PredictionLog) -> None:
    shelf = Shelf()
    shipper = make_shipper(log, shelf)
    log.write(make_rows(2))
    assert shipper.ship_batch()
    log.write([(*row[:2], 0, *row[3:]) for row in make_rows(2, stem="q")])
    assert shipper.ship_batch()
    assert shelf.taken == ["p0", "p1", "q0", "q1"]


def test_rows_are_read_once_each_whatever_the_limit(log: PredictionLog) -> None:
    log.write(make_rows(23))
    for limit in (1, 7, 23, 100):
        cursor, seen = dict[str, int](), list[str]()
        while rows := read_after(str(log.path), cursor, limit)[0]:
            seen += [row[0] for row in rows]
            cursor = read_after(str(log.path), cursor, limit)[1]
        assert seen == [row[0] for row in make_rows(23)]


def test_events_of_other_problems_are_passed_over_and_hold_up_nothing(log: PredictionLog) -> None:
    log.write(make_rows(3 * BATCH_EVENTS, "other", "o"))
    log.write(make_rows(2))
    for problem, told in (("other", ("o1", "")), ("toy", ("p1", "")), ("toy", ("", "seen-later"))):
        OutcomeLog(log.path).append(problem, [Told(*told, 1372690000000, "2")])
    shelf = Shelf()
    shipper = make_shipper(log, shelf)
    shipping.empty_log(shipper)
    assert shelf.taken == ["p1-outcome-2", "seen-later-outcome-3", "p0", "p1"]
    assert shipper.state.behind == count_events(str(log.path), "toy", shipper.state.cursor) == 0


def test_a_log_that_is_being_made_holds_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "predictions"
    assert read_events(str(path), "toy", Cursor(), 10) == ([], Cursor())
    path.mkdir()
    (path / "2026-01-02.db").touch()
    assert read_events(str(path), "toy", Cursor(), 10)[0] == []
    assert count_events(str(path), "toy", Cursor()) == 0


def test_a_sink_that_fails_is_tried_again_and_gets_everything_once(
        log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(shipping, "POLL", 0.001)
    log.write(make_rows(5))
    for error in (SinkError("The shelf is away"), StoreError("The disk is full"), RuntimeError("a mistake")):
        shelf, stop = Shelf(3, error), threading.Event()
        shipper = make_shipper(log, shelf)
        shipper.state = replace(shipper.state, cursor=Cursor())
        thread = threading.Thread(target=follow_log, args=(shipper, stop))
        thread.start()
        while len(shelf.taken) < 5 and thread.is_alive():
            stop.wait(0.01)
        stop.set()
        thread.join()
        assert shelf.taken == [row[0] for row in make_rows(5)]
        assert not shipper.lease.read().is_away


def test_how_long_a_sink_is_away_counts_from_the_first_failure(log: PredictionLog) -> None:
    shipper = make_shipper(log, Shelf())
    tell_away(shipper, SinkError("away"))
    shipper.clock = lambda: AT + dt.timedelta(hours=1)
    tell_away(shipper, SinkError("still away", got="why"))
    state = shipper.lease.read()
    assert (state.since, state.error) == (AT.isoformat(), "still away: why")
    shipper.ship_batch()
    assert not shipper.lease.read().is_away


def test_a_cursor_that_cannot_be_written_stops_the_next_batch(
        log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shipper = make_shipper(log, shelf)
    assert not shipper.ship_batch()
    log.write(make_rows(2))

    def fail(*_: object) -> None:
        raise StoreError("The disk is full")

    monkeypatch.setattr(shipper.lease, "write", fail)
    for _ in range(3):
        with pytest.raises(StoreError):
            shipper.ship_batch()
    log.write(make_rows(2, stem="q"))
    assert shelf.taken == ["p0", "p1"]
    monkeypatch.undo()
    assert shipper.ship_batch()
    assert shelf.taken == ["p0", "p1", "q0", "q1"]


def test_no_old_day_goes_before_a_sink_that_was_away_from_the_beginning_has_it(log: PredictionLog) -> None:
    shelf = Shelf(failures=1)
    shipper = make_shipper(log, shelf)
    assert not shipper.ship_batch()  # of an empty log
    log.write(make_rows(3))
    with pytest.raises(SinkError):
        shipper.ship_batch()
    assert prune_log(log.path, 1, AT).kept == ("2013-07-01",)
    shipping.empty_log(shipper)
    assert shelf.taken == ["p0", "p1", "p2"]
    assert prune_log(log.path, 1, AT).removed == ("2013-07-01",)


DAYS = 1372680000000 // DAY


def write_day(log: PredictionLog, stem: str, days: int, count: int = 3) -> list[str]:
    rows = [(row[0], row[1], (DAYS + days) * DAY, *row[3:]) for row in make_rows(count, stem=f"{stem}-")]
    writer = PredictionLog(log.path)  # one that has an old file open is refused first
    writer.write(rows)
    writer.close()
    return [row[0] for row in rows]


def test_a_day_that_was_removed_and_comes_again_is_told_whether_the_shipper_saw_it_go_or_not(
        log: PredictionLog) -> None:
    """What a prune removes may come again, by a clock that is wrong: in a file that is another one."""
    shelf, told = Shelf(), list[str]()
    shipper = make_shipper(log, shelf)
    for turn, (count, has_looked, is_new) in enumerate(itertools.product((1, 3, 9), (False, True), (False, True))):
        told += write_day(log, f"{turn}a", -40, 3)
        shipping.empty_log(shipper)
        assert prune_log(log.path, 3, AT_LOG).removed
        if has_looked:
            shipper.ship_batch()
        told += write_day(log, f"{turn}b", -40, count)
        if is_new:  # after a restart
            shipper = make_shipper(log, shelf)
        assert count_events(str(log.path), "toy", shipper.state.cursor) == count
        shipping.empty_log(shipper)
        assert prune_log(log.path, 3, AT_LOG).removed
    assert shelf.taken == told


@pytest.mark.slow
def test_clocks_that_jump_by_days_while_the_log_is_followed_lose_and_double_nothing(
        log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two servers, to days before and after, and to a day of the past that was never there; beside a prune."""
    monkeypatch.setattr(shipping, "POLL", 0.001)
    monkeypatch.setattr(shipping, "BATCH_EVENTS", 7)
    shelf, stop, written = Shelf(), threading.Event(), list[str]()
    shipper = make_shipper(log, shelf)
    assert not shipper.ship_batch()  # now a prune knows of it
    follower = threading.Thread(target=follow_log, args=(shipper, stop))
    follower.start()

    def serve(name: str) -> None:
        dice = random.Random(name)
        for turn in range(30):
            day = dice.choice((0, 0, 0, -1, 1, -3, 5, -40 - turn, 400 + turn))
            with contextlib.suppress(StoreError):  # what is refused was promised to nobody
                written.extend(write_day(log, f"{name}{turn}", day, dice.choice((1, 3, 20))))

    servers = [threading.Thread(target=serve, args=(name,)) for name in "ab"]
    for server in servers:
        server.start()
    while any(server.is_alive() for server in servers):
        prune_log(log.path, 2, AT_LOG)
    while follower.is_alive() and not set(written) <= {*shelf.taken}:
        stop.wait(0.01)
    stop.set()
    follower.join()
    assert len(shelf.taken) == len(set(shelf.taken))
    assert set(written) <= set(shelf.taken)


def test_a_part_of_a_day_that_comes_after_later_days_were_read_is_told(log: PredictionLog) -> None:
    shelf, told = Shelf(), list[str]()
    shipper = make_shipper(log, shelf)
    for turn, day in enumerate((0, 3, 30, -1, 3, -9000, 1, 0, 9000, -1)):
        told += write_day(log, str(turn), day, 2 * BATCH_EVENTS + 1 if day == -1 else 3)
        shipping.empty_log(shipper)
        assert shelf.taken == told


@pytest.mark.parametrize("text", ['{"format": 2}', "[]", '{"format": 1, "cursor": {"elsewhere": 1}}', "", "{", "7"])
def test_a_damaged_state_names_its_file(log: PredictionLog, text: str) -> None:
    lease = make_lease(log)
    lease.folder.mkdir(parents=True)
    lease.path.write_text(text)
    for read in (lease.read, lambda: list_leases(lease.log)):
        with pytest.raises(SettingsError, match="shipped"):
            read()


def test_a_state_survives_its_file(log: PredictionLog) -> None:
    lease = make_lease(log)
    state = replace(lease.read(), cursor=Cursor({"2026-01-02": 7, "2026-01-03": 1}, 3), delivered=11)
    lease.write(state)
    assert lease.read() == state
    assert json.loads(lease.path.read_bytes())["format"] == 1


@pytest.mark.parametrize("text", ["fluentd", "fluentd:", "fluentd://", "http://h", "cloudwatch://r", "fluentd://h:99999",
                                  "fluentd://h:x", "fluentd://h?key=1", "azure", "elasticsearch://h"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        read_sinks(f"fluentd://h, {text}")


def test_a_server_does_not_start_with_a_sink_that_cannot_be() -> None:
    settings = replace(load_settings(), sinks="fluent://h")
    with pytest.raises(SettingsError, match="fluentd"):
        shipping.ship_beside(settings, "toy")


def test_a_database_that_is_away_is_told_without_its_password_and_stops_no_server(tmp_path: Path) -> None:
    port = find_port()
    settings = replace(load_settings(), sinks="fluentd://127.0.0.1:24224, azure://", run_store=str(tmp_path),
                       prediction_log=f"postgresql+psycopg://ada:secret@127.0.0.1:{port}/log")
    told = shipping.describe_sinks(settings, "toy")
    assert [one["status"] for one in told] == ["unknown", "unknown"]
    one, stop = replace(settings, sinks=ADDRESS.url), threading.Event()
    found = [*map(str, shipping.examine_sinks(one))]
    with pytest.raises(StoreError) as caught:  # from the start: whoever typed the address hears of it
        shipping.ship_events(one, "toy", [ADDRESS], lambda: AT, stop)
    assert "refused" in str(caught.value)
    assert "refused" in str(found)
    assert "secret" not in str([told, found, caught.value])


def test_who_lost_the_lease_ships_nothing_more_and_asks_for_it_again(
        log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "POLL", 0.001)
    monkeypatch.setattr(shipping, "LOOK", 0.001)
    shelf, stop, lease, held = Shelf(), threading.Event(), make_lease(log), list[bool]()
    log.write(make_rows(2))

    def check() -> None:
        held.append(True)
        if len(held) == 3:
            log.write(make_rows(2, stem="q"))
            raise LeaseError("The lease is lost")

    monkeypatch.setattr(lease, "check", check)
    monkeypatch.setattr(shipping, "open_sink", lambda address: shelf)
    thread = threading.Thread(target=shipping.ship_to, args=(lease, lambda: AT, stop))
    thread.start()
    while len(shelf.taken) < 4 and thread.is_alive():
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert shelf.taken == ["p0", "p1", "q0", "q1"]
    assert not lease.read().is_away


def test_a_sink_that_is_no_more_keeps_days_until_it_is_forgotten(tmp_path: Path) -> None:
    log, settings = PredictionLog(tmp_path / "log"), replace(load_settings(), sinks="", prediction_log=str(
        tmp_path / "log"))
    lease, later = open_lease(str(log.path), "toy", ADDRESS), AT.replace(year=2027)
    log.write(make_rows(2))
    with hold_sink(lease):
        Shipper(lease, Shelf(), lambda: AT).ship_batch()
    assert not shipping.examine_sinks(settings)  # it has heard all there is
    log.write([(*row[:2], row[2] + 86_400_000, *row[3:]) for row in make_rows(2, "other", "q")])
    assert (prune_log(log.path, 1, later).removed, prune_log(log.path, 1, later).kept) == (
        ("2013-07-01",), ("2013-07-02",))
    (found,) = shipping.examine_sinks(settings)
    assert (found.is_good, found.fix) == (False, f"cd4ml ship toy --forget {ADDRESS.url}")
    with hold_sink(lease):
        assert not shipping.examine_sinks(settings)  # somebody ships to it, with --to
        with pytest.raises(SettingsError, match="Another process"):
            shipping.forget_sink(settings, "toy", ADDRESS)
    with pytest.raises(SettingsError, match="stands in the settings"):
        shipping.forget_sink(replace(settings, sinks=ADDRESS.url), "toy", ADDRESS)
    with pytest.raises(SettingsError, match="one of toy → fluentd"):
        shipping.forget_sink(settings, "other", ADDRESS)
    assert shipping.forget_sink(settings, "toy", ADDRESS).delivered == 2
    assert prune_log(log.path, 1, later).removed == ("2013-07-02",)
    assert not shipping.examine_sinks(settings)


def test_each_log_of_a_folder_is_shipped_on_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        log, shelf = PredictionLog(tmp_path / name), Shelf()
        log.write(make_rows(2, stem=name))
        shipping.empty_log(make_shipper(log, shelf))
        assert shelf.taken == [f"{name}0", f"{name}1"]


def test_what_a_sink_was_told_before_logs_had_states_of_their_own_is_not_told_again(log: PredictionLog) -> None:
    log.write(make_rows(2))
    shipping.empty_log(make_shipper(log, Shelf()))
    folder = log.path.parent
    (folder / "predictions-shipped").rename(folder / "shipped")
    other, shelf = PredictionLog(folder / "other"), Shelf()
    other.write(make_rows(1, stem="q"))
    shipping.empty_log(make_shipper(other, shelf))  # the states were not its own
    assert shelf.taken == ["q0"]
    assert [one.read().delivered for one in list_leases(str(log.path))] == [2]
    assert not (folder / "shipped").exists()


def test_a_log_may_be_called_as_the_states_were(tmp_path: Path) -> None:
    log, shelf = PredictionLog(tmp_path / "shipped"), Shelf()
    log.write(make_rows(2))
    for _ in range(2):
        shipping.empty_log(make_shipper(log, shelf))
    assert (shelf.taken, len(read_after(log.path, {}, 9)[0])) == (["p0", "p1"], 2)


def test_a_mistyped_address_holds_no_day_back(log: PredictionLog) -> None:
    settings, later = replace(load_settings(), sinks="", prediction_log=str(log.path)), AT.replace(year=2027)
    log.write(make_rows(2))
    tell_away(make_shipper(log, Shelf()), SinkError("no such host"))
    release_days(replace(settings, sinks=ADDRESS.url))
    with hold_sink(make_lease(log)):
        release_days(settings)
    assert prune_log(log.path, 1, later).kept == ("2013-07-01",), "it stands in the settings, or is being tried"
    assert not shipping.examine_sinks(settings)
    release_days(settings)
    assert prune_log(log.path, 1, later).removed == ("2013-07-01",)


def test_a_sink_that_was_away_from_the_start_has_its_days_kept(log: PredictionLog) -> None:
    log.write(make_rows(2))
    tell_away(make_shipper(log, Shelf()), SinkError("away"))
    assert prune_log(log.path, 1, AT.replace(year=2027)).kept == ("2013-07-01",)


def test_a_day_is_kept_whose_outcomes_a_sink_has_not_heard_by_id_or_by_key(log: PredictionLog) -> None:
    shelf, later = Shelf(), AT.replace(year=2027)
    shipper = make_shipper(log, shelf)
    for number, told in enumerate((Told("p0-0", "", 1, "1"), Told("", "k1", 1, "1"))):
        log.write([(*row[:2], row[2] + number * 86_400_000, *row[3:7], f"k{number}", *row[8:])
                   for row in make_rows(2, stem=f"p{number}-")])
        assert shipper.ship_batch()
        OutcomeLog(log.path).append("toy", [told])
        assert prune_log(log.path, 1, later).kept == (f"2013-07-0{number + 1}",)
        assert shipper.ship_batch()
        assert "outcome" in shelf.taken[-1]
        assert prune_log(log.path, 1, later).removed == (f"2013-07-0{number + 1}",)


def test_what_is_told_after_a_prune_is_heard_once_and_what_was_told_before_is_not_heard_again(
        log: PredictionLog) -> None:
    at = int(AT.timestamp() * 1000)
    log.write([*make_rows(2), *[(*row[:2], at, *row[3:]) for row in make_rows(3, stem="q")]])
    for one in ("q0", "p0"):
        OutcomeLog(log.path).append("toy", [Told(one, "", 1, "1")])
    shelf = Shelf()
    shipper = make_shipper(log, shelf)
    shipping.empty_log(shipper)
    assert prune_log(log.path, 1, AT).removed == ("2013-07-01",)
    shipping.empty_log(shipper)
    assert len(shelf.taken) == 7
    OutcomeLog(log.path).append("toy", [Told("q1", "", 1, "1")])
    shipping.empty_log(shipper)
    assert shelf.taken[7:] == ["q1-outcome-3"]
