"""Old days go whole, with what came of them; never what is younger, is not shipped, or is just being written."""

import datetime as dt
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.settings import load_settings
from cd4ml.production import retention
from cd4ml.production.outcomes import OutcomeLog, Told, find_early_keys, read_outcomes
from cd4ml.production.places import list_parts
from cd4ml.production.predictions import (
    Prediction,
    PredictionLog,
    find_unlogged,
    read_after,
    read_predictions,
    summarise_log,
)
from cd4ml.production.retention import examine_log, prune_by_settings, prune_log, read_cursors, write_cursor

NOW = dt.datetime(2013, 7, 31, 12, tzinfo=dt.UTC)


def make_prediction(name: str, days: float, key: str = "") -> Prediction:
    return Prediction(name, "r", NOW - dt.timedelta(days=days), "flights", 1, {"a": 1}, {"prediction": 1.5}, 0.01, key)


def test_what_came_of_old_days_goes_with_them(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    log.append([make_prediction(f"p{i}", i, f"k{i % 7}") for i in range(14)])
    told = [Told("p10", "", 0, "true"), Told("p1", "", 0, "true"), Told("", "k6", 0, "true"), Told("", "k0", 0, "true"),
            Told("", "later", 0, "true")]
    OutcomeLog(tmp_path / "log").append("flights", told)
    done = prune_log(tmp_path / "log", 3, NOW)
    assert (len(done.removed), done.kept) == (10, ())
    assert done.freed > 10_000
    assert list(read_predictions(tmp_path / "log", "flights")["prediction_id"]) == ["p3", "p2", "p1", "p0"]
    assert read_outcomes(tmp_path / "log") == {"p0": True, "p1": True}
    assert find_early_keys(tmp_path / "log", "flights") == ["later"], "k6 has no prediction any more"
    assert len(list((tmp_path / "log").glob("2013*.db"))) == 4
    log.append([make_prediction("p13", 0)])  # the id is free again
    assert find_unlogged(tmp_path / "log", "flights", ["p13", "p12"]) == ["p12"]


def test_what_is_told_while_a_day_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PredictionLog(tmp_path / "log").append([make_prediction("p0", 9, "k")])
    outcomes = OutcomeLog(tmp_path / "log")
    outcomes.append("flights", [Told("", "k", 0, "true"), Told("", "other", 0, "true")])

    def find_and_tell(*words: Any) -> list[str]:
        found = find_early_keys(*words)
        outcomes.append("flights", [Told("", "k", 8, "false"), Told("", "k", 9, "false")])
        return found

    monkeypatch.setattr(retention, "find_early_keys", find_and_tell)
    assert prune_log(tmp_path / "log", 3, NOW).removed
    assert outcomes.select("select key, at from outcomes order by 1, 2") == [("k", 8), ("k", 9), ("other", 0)]


def test_a_prune_that_is_killed_leaves_no_outcome_of_a_key_behind(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PredictionLog(tmp_path / "log").append([make_prediction("p0", 9, "k")])
    OutcomeLog(tmp_path / "log").append("flights", [Told("", "k", 0, "true"), Told("", "other", 0, "true")])

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "find_early_keys", die)
        with pytest.raises(KeyboardInterrupt):
            prune_log(tmp_path / "log", 3, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            prune_log(tmp_path / "log", 3, NOW)
    prune_log(tmp_path / "log", 3, NOW)
    assert OutcomeLog(tmp_path / "log").select("select key from outcomes") == [("other",)]
    assert not list((tmp_path / "log").glob("2013*"))


def test_nothing_is_removed_before_every_reader_has_seen_it(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    log.append([make_prediction(f"p{i}", i) for i in range(6)])
    write_cursor(tmp_path / "log", "fast", read_after(tmp_path / "log", {}, 100)[1])
    write_cursor(tmp_path / "log", "slow", read_after(tmp_path / "log", {}, 2)[1])
    done = prune_log(tmp_path / "log", 1, NOW)
    assert (done.removed, len(done.kept)) == (("2013-07-26", "2013-07-27"), 2)
    assert set(read_cursors(tmp_path / "log")) == {"fast", "slow"}
    log.append([make_prediction("late", 3.1)])
    write_cursor(tmp_path / "log", "slow", read_cursors(tmp_path / "log")["fast"])
    assert prune_log(tmp_path / "log", 1, NOW).kept == ("2013-07-28",), "of that day something came late"


def test_the_file_of_old_goes_when_its_last_day_may(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.executescript("""create table predictions (prediction_id text primary key, request_id text,
            at integer, problem text, release integer, features text, answer text, seconds real);
            pragma user_version = 1;""")
        connection.execute("insert into predictions values ('a', 'r', ?, 'flights', 1, '{}', '{}', 0.1)",
                           [int(NOW.timestamp() * 1000)])
    assert prune_log(tmp_path / "log", 2, NOW).removed == ()
    assert prune_log(tmp_path / "log", 2, NOW + dt.timedelta(days=5)).removed == ("log.db",)
    assert not (tmp_path / "log.db").exists()


def test_nothing_that_was_acknowledged_is_lost_to_a_prune(tmp_path: Path) -> None:
    log, kept, stop = PredictionLog(tmp_path / "log"), list[str](), threading.Event()
    kept_before = [part.name for part in list_parts(tmp_path / "log")]

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for days in (0, 40):  # the second is what a clock that is wrong gives
                try:
                    log.append([make_prediction(f"{days}-{number}", days)])
                    kept.append(f"{days}-{number}")
                except StoreError:
                    continue

    thread = threading.Thread(target=write)
    thread.start()
    seen, cursor = set[str](), dict[str, int]()
    while len(kept) < 60:
        rows, cursor = read_after(tmp_path / "log", cursor, 10_000)
        seen |= {row[0] for row in rows}
        write_cursor(tmp_path / "log", "reader", cursor)
        prune_log(tmp_path / "log", 3, NOW)
        cursor = read_cursors(tmp_path / "log")["reader"]
    stop.set()
    thread.join()
    seen |= {row[0] for row in read_after(tmp_path / "log", cursor, 1_000_000)[0]}
    assert kept_before == []
    assert not set(kept) - seen


def test_a_reader_is_known_before_he_has_read_anything_and_after_all_that_he_read_is_gone(tmp_path: Path) -> None:
    write_cursor(tmp_path / "log", "reader", {})
    for name in "ab":
        PredictionLog(tmp_path / "log").append([make_prediction(name, 40)])
        assert prune_log(tmp_path / "log", 3, NOW).kept == ("2013-06-21",)
        write_cursor(tmp_path / "log", "reader", read_after(tmp_path / "log", {}, 10)[1])
        assert prune_log(tmp_path / "log", 3, NOW).removed == ("2013-06-21",)
        write_cursor(tmp_path / "log", "reader", read_after(tmp_path / "log", {}, 10)[1])
        assert read_cursors(tmp_path / "log") == {"reader": {}}


@pytest.mark.slow
def test_servers_that_close_a_day_beside_a_prune_do_not_disturb_it(tmp_path: Path) -> None:
    """With the last connection go the files that SQLite keeps beside a day."""
    stop, written = threading.Event(), list[str]()
    write_cursor(tmp_path / "log", "reader", {})

    def write() -> None:
        while not stop.is_set():
            log = PredictionLog(tmp_path / "log")
            log.append([make_prediction(f"{len(written)}", 40)])
            written.append(f"{len(written)}")
            log.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            prune_log(tmp_path / "log", 3, NOW)
            assert examine_log(replace(load_settings(), prediction_log=str(tmp_path / "log")), NOW)
    finally:
        stop.set()
        thread.join()
    assert [row[0] for row in read_after(tmp_path / "log", {}, 100_000)[0]] == written


def test_settings_say_how_long_and_the_doctor_says_how_it_is(tmp_path: Path) -> None:
    settings = replace(load_settings(), prediction_log=str(tmp_path / "log"))
    assert "0 days" in examine_log(settings, NOW)[0].finding
    PredictionLog(tmp_path / "log").append([make_prediction(f"p{i}", i) for i in range(5)])
    OutcomeLog(tmp_path / "log").append("flights", [Told("p1", "", 0, "true"), Told("", "k", 0, "true")])
    assert prune_by_settings(settings, NOW).finding.startswith("0 days removed")
    found = {one.subject: one.finding for one in examine_log(settings, NOW)}
    assert found["outcomes of flights"].startswith("1 of 5 predictions of flights have an outcome; 1 outcomes wait")
    assert "5 days, 2013-07-27 to 2013-07-31" in found["prediction log"]
    settings = replace(settings, prediction_days=2)
    found = examine_log(settings, NOW)[0]
    assert (found.is_good, "1 older" in found.finding, "doctor --clean" in found.fix) == (False, True, True)
    assert prune_by_settings(settings, NOW).finding.startswith("2 days removed")
    assert summarise_log(tmp_path / "log", "flights").count == 3
    assert examine_log(settings, NOW)[0].is_good
    assert examine_log(settings, NOW + dt.timedelta(days=1))[0].is_good, "whoever cleans up daily has a day for it"
    assert not examine_log(settings, NOW + dt.timedelta(days=2))[0].is_good
