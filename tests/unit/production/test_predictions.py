"""The prediction log under several processes and threads, kills, full disks and files that are something else."""

import contextlib
import datetime as dt
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.production.parts import DuplicateError
from cd4ml.production.places import list_parts
from cd4ml.production.predictions import (
    Prediction,
    PredictionLog,
    find_unlogged,
    make_id,
    make_row,
    name_request,
    read_after,
    read_predictions,
    recall_predictions,
    summarise_log,
)

AT = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)
WRITER = """
import datetime as dt, sys
from pathlib import Path
from cd4ml.production.predictions import Prediction, PredictionLog
log = PredictionLog(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    one = Prediction(f"{sys.argv[2]}-{i}", "r", dt.datetime.now(dt.UTC), "toy", 1, {"a": i}, {"prediction": i}, 0.1)
    log.append([one])
    print(one.prediction_id, flush=True)
assert not {"pandas", "sklearn", "numpy"} & set(sys.modules)
"""


def make_prediction(name: str, at: dt.datetime = AT, **features: object) -> Prediction:
    return Prediction(name, "r", at, "toy", 1, features, {"prediction": 1.5}, 0.01)


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_use_a_new_log_at_once_all_succeed(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path / "new" / "log", f"w{i}", 20) for i in range(4)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert summarise_log(tmp_path / "new" / "log", "toy").count == 80


def test_threads_share_a_log(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    threads = [threading.Thread(target=lambda n=n: [log.append([make_prediction(f"{n}-{i}")]) for i in range(20)])
               for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert summarise_log(tmp_path / "log", "toy").count == 100


def test_a_killed_writer_loses_nothing_it_was_told_is_kept(tmp_path: Path) -> None:
    writer = start_writer(tmp_path / "log", "w", 100_000)
    told = [writer.stdout.readline().strip() for _ in range(30)]
    writer.send_signal(signal.SIGKILL)
    told += writer.communicate(timeout=30)[0].split("\n")[:-1]
    kept = set(read_predictions(tmp_path / "log", "toy")["prediction_id"])
    assert set(told) <= kept


def test_a_full_disk_keeps_what_was_there_and_a_request_whole(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    log.append([make_prediction("first")])
    day = log.store.files.find("2013-07-01")
    day.execute(f"pragma max_page_count = {day.execute('pragma page_count').fetchone()[0]}")
    with pytest.raises(StoreError, match="full"):
        log.append([make_prediction(f"p{i}", text="x" * 2000) for i in range(50)])
    assert list(read_predictions(tmp_path / "log", "toy")["prediction_id"]) == ["first"]
    day.execute("pragma max_page_count = 100000")
    log.append([make_prediction("later")])
    assert summarise_log(tmp_path / "log", "toy").count == 2


@pytest.mark.parametrize("content", [b"not a database, whatever its name says" * 100, b"SQLite format 3\0"])
@pytest.mark.parametrize("name", ["log", "log.db", "log/2013-07-01.db"])
def test_another_file_is_not_touched(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match="prediction log"):
        PredictionLog(tmp_path / "log").append([make_prediction("p1")])
    if name != "log":
        with pytest.raises(StoreError, match="prediction log"):
            read_predictions(tmp_path / "log", "toy")
    assert (tmp_path / name).read_bytes() == content


def test_another_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table mine (x)")
    with pytest.raises(StoreError, match="a database without a version"):
        PredictionLog(path)
    assert not (tmp_path / "other").exists()


def test_an_empty_or_missing_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "2013-07-01.db").touch()
    for name in ("empty.db", "missing.db", "missing", "blank"):
        df = read_predictions(tmp_path / name, "toy")
        assert len(df) == 0
        assert str(df["at"].dtype).startswith("datetime64")
        assert summarise_log(tmp_path / name, "toy").first is None
    assert not (tmp_path / "missing.db").exists()


def test_values_come_back_as_they_were_said(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    text = "Zürich 'q' \u2028"
    log.append([make_prediction("p1", a=0.1 + 0.2, b=text, c=True, d=None, e=2**60)])
    row = read_predictions(tmp_path / "log", "toy").iloc[0]
    assert (row["a"], row["b"], bool(row["c"]), row["d"], row["e"]) == (0.1 + 0.2, text, True, None, 2**60)
    assert row["at"] == AT
    assert row["prediction"] == 1.5


def test_the_window_is_half_open_and_rows_of_a_request_keep_their_order(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    hour = dt.timedelta(hours=1)
    log.append([make_prediction(name, AT + i * hour) for i, name in enumerate("zyx")])
    log.append([make_prediction("a", AT + hour)])
    found = read_predictions(tmp_path / "log", "toy", AT + hour, AT + 2 * hour)
    assert list(found["prediction_id"]) == ["y", "a"]


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [make_id(AT + dt.timedelta(milliseconds=i)) for i in range(1000)]
    assert ids == sorted(ids)
    assert len({make_id(AT) for _ in range(1000)}) == 1000
    many = [make_id(AT) for _ in range(9000)]
    assert (len({one[:26] for one in many}), {len(one) for one in many}) == (9000, {28})
    assert len({name_request(one) for one in many} - {*many}) == 9000


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    with pytest.raises(ValueError):
        log.append([make_prediction("p1"), make_prediction("p2", a=float("nan"))])
    assert summarise_log(tmp_path / "log", "toy").count == 0


FIRST = """create table predictions (prediction_id text primary key, request_id text not null, at integer not null,
    problem text not null, release integer not null, features text not null, answer text not null{},
    seconds real not null);
create index predictions_by_time on predictions (problem, at, release); pragma user_version = {};"""
NOON, DAY = int(AT.timestamp() * 1000), dt.timedelta(days=1)


def make_old_log(path: Path, version: int) -> None:
    columns = ", key text not null, role text not null" if version == 2 else ""
    values = ["p1", "r", NOON, "toy", 1, '{"a": 1}', '{"prediction": 2.5}', *(["k1", "shadow"] if columns else []), 0.1]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("pragma journal_mode = wal;" + FIRST.format(columns, version))
        for name in ("p1", "p2"):
            places = ", ".join("?" * len(values))
            connection.execute(f"insert into predictions values ({places})", [name, *values[1:]])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["log", "log.db"])
def test_the_file_of_an_older_version_is_one_more_part(tmp_path: Path, version: int, name: str) -> None:
    make_old_log(tmp_path / "log.db", version)
    before = (tmp_path / "log.db").read_bytes()
    log = PredictionLog(tmp_path / name)
    log.append([make_prediction("p3", AT + DAY, a=3), make_prediction("p4", AT - DAY, a=4)])
    with pytest.raises(DuplicateError):
        log.append([make_prediction("p2", AT + DAY)])
    df = read_predictions(tmp_path / name, "toy")
    assert list(df["prediction_id"]) == ["p4", "p1", "p2", "p3"]
    assert list(df["role"])[1] == ("shadow" if version == 2 else "champion")
    assert list(df["key"])[1] == ("k1" if version == 2 else "")
    summary = summarise_log(tmp_path / name, "toy")
    assert (summary.count, summary.first, summary.last) == (4, AT - DAY, AT + DAY)
    assert find_unlogged(tmp_path / name, "toy", ["p1", "p3", "p5"]) == ["p5"]
    rows, cursor = read_after(tmp_path / name, {}, 3)
    assert [row[0] for row in rows + read_after(tmp_path / name, cursor, 3)[0]] == ["p1", "p2", "p4", "p3"]
    assert (tmp_path / "log.db").read_bytes() == before
    assert {len(row) for row in rows} == {10}


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    make_old_log(tmp_path / "log.db", 9)
    for use in (PredictionLog, lambda path: read_predictions(path, "toy")):
        with pytest.raises(StoreError, match="version 9"):
            use(tmp_path / "log")


def test_a_request_at_midnight_and_rows_of_many_days_are_written_together(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    log.append([make_prediction(f"p{i}", AT + i * DAY) for i in range(12)])
    assert [part.name for part in list_parts(tmp_path / "log")][:2] == ["2013-07-01", "2013-07-02"]
    with pytest.raises(DuplicateError):  # and then the other day has none of it either
        log.append([make_prediction("new", AT), make_prediction("p11", AT + 11 * DAY)])
    drawn = make_id(AT)
    log.append([make_prediction(drawn)])
    with pytest.raises(DuplicateError):
        log.append([make_prediction("later", AT + DAY), make_prediction(drawn)])
    assert find_unlogged(tmp_path / "log", "toy", ["new", "later", drawn]) == ["new", "later"]
    assert summarise_log(tmp_path / "log", "toy").count == 13
    assert len(log.store.files._open) <= 5


def test_a_message_that_comes_again_on_another_day_is_known(tmp_path: Path) -> None:
    for day in range(3):
        log = PredictionLog(tmp_path / "log")
        one = make_prediction("0f" * 14, AT + day * DAY)
        if day:
            with pytest.raises(DuplicateError):
                log.append([one])
        else:
            log.append([one])
        log.close()
        assert recall_predictions(tmp_path / "log", ["0f" * 14, "1f" * 14]) == {"0f" * 14: (1, {"prediction": 1.5})}
    assert summarise_log(tmp_path / "log", "toy").count == 1


def test_a_claim_that_a_kill_left_without_its_row_counts_for_nothing(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    log.store.files.find("index").execute("insert into claims values ('m1', 15887)")
    assert find_unlogged(tmp_path / "log", "toy", ["m1"]) == ["m1"]
    assert recall_predictions(tmp_path / "log", ["m1"]) == {}
    log.append([make_prediction("m1", AT + DAY)])
    assert find_unlogged(tmp_path / "log", "toy", ["m1"]) == []


def test_a_reader_gets_each_row_once_also_what_comes_late(tmp_path: Path) -> None:
    log, seen, cursor = PredictionLog(tmp_path / "log"), list[str](), dict[str, int]()
    for turn in range(6):
        log.append([make_prediction(f"{turn}-{day}", AT + day * DAY) for day in range(turn % 3 + 1)])
        rows, cursor = read_after(tmp_path / "log", cursor, 2)
        seen += [row[0] for row in rows]
    while rows:
        rows, cursor = read_after(tmp_path / "log", cursor, 2)
        seen += [row[0] for row in rows]
    assert len(seen) == len(set(seen)) == summarise_log(tmp_path / "log", "toy").count == 12
    assert read_after(tmp_path / "log", cursor, 9) == ([], cursor)
    log.append([late := make_prediction("late", AT)])
    assert read_after(tmp_path / "log", cursor, 9)[0] == [make_row(late)]


def test_rows_of_several_releases_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    log, (first, second, third) = PredictionLog(tmp_path / "log"), (make_id(AT) for _ in range(3))
    log.append([make_prediction(second)])
    for ids in ((first, second), (second, first)):
        with pytest.raises(DuplicateError):
            log.append([replace(make_prediction(one), release=2 + i) for i, one in enumerate(ids)])
    assert summarise_log(tmp_path / "log", "toy").releases == {1: 1}
    log.append([replace(make_prediction(one), release=2 + i) for i, one in enumerate((third, first))])
    assert summarise_log(tmp_path / "log", "toy").releases == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("size", [1, 100, 128, 129, 5000])
def test_totals_are_exact_however_rows_came(tmp_path: Path, size: int) -> None:
    log = PredictionLog(tmp_path / "log")
    rows = [(one, "r", NOON + i % 7, ("toy", "other")[i % 2], i % 3, "{}", "{}", "", "champion", 0.1)
            for i, one in enumerate(make_id(AT) for _ in range(9001))]
    for start in range(0, len(rows), size):
        log.write(rows[start : start + size])
        if start % 10 == 0 and size < 128:
            log.write([])
    log.write([(make_id(AT), *row[1:]) for row in rows[:10]])
    found = [summarise_log(tmp_path / "log", name) for name in ("toy", "other")]
    assert [one.count for one in found] == [4506, 4505]
    assert found[0].releases == {0: 1503, 1: 1501, 2: 1502}
    assert found[1].last == AT + dt.timedelta(milliseconds=6)
    (part,) = list_parts(tmp_path / "log")
    assert 9011 - part.select("select max(upto) from counted")[0][0] < 5000


def test_a_day_that_was_removed_is_begun_again(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    log.append([make_prediction("p1")])
    with sqlite3.connect(tmp_path / "log/2013-07-01.db") as connection:
        connection.execute("drop view totals")
        connection.execute("drop table lines")
    for path in (tmp_path / "log").glob("2013-07-01.db*"):
        path.unlink()
    with pytest.raises(StoreError):
        log.append([make_prediction("p2")])
    log.append([make_prediction("p3")])
    assert list(read_predictions(tmp_path / "log", "toy")["prediction_id"]) == ["p3"]
