"""Events, addresses and states where the notebooks do not look: odd clocks, long logs, hanging and failing sinks."""

import datetime as dt
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cd4ml.base.errors import SettingsError, StoreError
from cd4ml.base.settings import load_settings
from cd4ml.production import shipping
from cd4ml.production.events import Cursor, Event, count_events, read_events
from cd4ml.production.fluentd import pack_events
from cd4ml.production.outcomes import OutcomeLog, Told
from cd4ml.production.predictions import LogRow, PredictionLog, read_after
from cd4ml.production.shipping import BATCH_EVENTS, Shipper, follow_log, tell_away
from cd4ml.production.sinks import Refusal, SinkError, find_states, read_sinks, read_state, write_state

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
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
    return Shipper(str(log.path), "toy", ADDRESS, shelf, lambda: AT)


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
        assert not read_state(shipper.folder, ADDRESS).is_away


def test_how_long_a_sink_is_away_counts_from_the_first_failure(log: PredictionLog) -> None:
    shipper = make_shipper(log, Shelf())
    tell_away(shipper, SinkError("away"))
    shipper.clock = lambda: AT + dt.timedelta(hours=1)
    tell_away(shipper, SinkError("still away", got="why"))
    state = read_state(shipper.folder, ADDRESS)
    assert (state.since, state.error) == (AT.isoformat(), "still away: why")
    shipper.ship_batch()
    assert not read_state(shipper.folder, ADDRESS).is_away


def test_a_cursor_that_cannot_be_written_stops_the_next_batch(
        log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shipper = make_shipper(log, shelf)
    log.write(make_rows(2))

    def fail(*_: object) -> None:
        raise StoreError("The disk is full")

    monkeypatch.setattr(shipping, "write_state", fail)
    for _ in range(3):
        with pytest.raises(StoreError):
            shipper.ship_batch()
    log.write(make_rows(2, stem="q"))
    assert shelf.taken == ["p0", "p1"]
    monkeypatch.undo()
    assert shipper.ship_batch()
    assert shelf.taken == ["p0", "p1", "q0", "q1"]


@pytest.mark.parametrize("text", ['{"format": 2}', "[]", '{"format": 1, "cursor": {"elsewhere": 1}}', "", "{", "7"])
def test_a_damaged_state_names_its_file(log: PredictionLog, text: str) -> None:
    folder = find_states(str(log.path), "toy")
    folder.mkdir(parents=True)
    (folder / f"{ADDRESS.name}.json").write_text(text)
    with pytest.raises(SettingsError, match="shipped"):
        read_state(folder, ADDRESS)


def test_a_state_survives_its_file(log: PredictionLog) -> None:
    folder = find_states(str(log.path), "toy")
    state = replace(read_state(folder, ADDRESS), cursor=Cursor({"2026-01-02": 7, "2026-01-03": 1}, 3), delivered=11)
    write_state(folder, ADDRESS, state)
    assert read_state(folder, ADDRESS) == state
    assert json.loads((folder / f"{ADDRESS.name}.json").read_bytes())["format"] == 1


@pytest.mark.parametrize("text", ["fluentd", "fluentd:", "fluentd://", "http://h", "cloudwatch://r", "fluentd://h:99999",
                                  "fluentd://h:x", "fluentd://h?key=1", "azure", "elasticsearch://h"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        read_sinks(f"fluentd://h, {text}")


def test_a_server_does_not_start_with_a_sink_that_cannot_be() -> None:
    settings = replace(load_settings(), sinks="fluent://h")
    with pytest.raises(SettingsError, match="fluentd"):
        shipping.ship_beside(settings, "toy")


def test_a_log_in_a_database_is_not_shipped_and_its_password_goes_nowhere(tmp_path: Path) -> None:
    settings = replace(load_settings(), sinks="fluentd://127.0.0.1:24224", run_store=str(tmp_path),
                       prediction_log="postgresql+psycopg://ada:secret@127.0.0.1/log")
    with pytest.raises(SettingsError, match="log of files") as caught:
        shipping.ship_beside(settings, "toy")
    told = [*shipping.describe_sinks(settings, "toy"), *map(str, shipping.examine_sinks(settings)), str(caught.value)]
    assert "unknown" in str(told)
    assert "secret" not in str(told)
