"""The prediction log under several processes and threads, kills, full disks and files that are something else."""

import datetime as dt
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.production.predictions import Prediction, PredictionLog, make_id, read_predictions, summarise_log

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
    writers = [start_writer(tmp_path / "new" / "log.db", f"w{i}", 20) for i in range(4)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert summarise_log(tmp_path / "new" / "log.db", "toy").count == 80


def test_threads_share_a_log(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.db")
    threads = [threading.Thread(target=lambda n=n: [log.append([make_prediction(f"{n}-{i}")]) for i in range(20)])
               for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert summarise_log(tmp_path / "log.db", "toy").count == 100


def test_a_killed_writer_loses_nothing_it_was_told_is_kept(tmp_path: Path) -> None:
    writer = start_writer(tmp_path / "log.db", "w", 100_000)
    told = [writer.stdout.readline().strip() for _ in range(30)]
    writer.send_signal(signal.SIGKILL)
    told += writer.communicate(timeout=30)[0].split("\n")[:-1]
    kept = set(read_predictions(tmp_path / "log.db", "toy")["prediction_id"])
    assert set(told) <= kept


def test_a_full_disk_keeps_what_was_there_and_a_request_whole(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.db")
    log.append([make_prediction("first")])
    pages = log._connection.execute("pragma page_count").fetchone()[0]
    log._connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        log.append([make_prediction(f"p{i}", text="x" * 2000) for i in range(50)])
    assert list(read_predictions(tmp_path / "log.db", "toy")["prediction_id"]) == ["first"]
    log._connection.execute("pragma max_page_count = 100000")
    log.append([make_prediction("later")])
    assert summarise_log(tmp_path / "log.db", "toy").count == 2


@pytest.mark.parametrize("content", [b"not a database, whatever its name says" * 100, b"SQLite format 3\0"])
def test_another_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="prediction log"):
        PredictionLog(path)
    with pytest.raises(StoreError, match="prediction log"):
        read_predictions(path, "toy")
    assert path.read_bytes() == content


def test_another_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table mine (x)")
    with pytest.raises(StoreError, match="a database without a version"):
        PredictionLog(path)


def test_an_empty_or_missing_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    for name in ("empty.db", "missing.db"):
        df = read_predictions(tmp_path / name, "toy")
        assert len(df) == 0
        assert str(df["at"].dtype).startswith("datetime64")
        assert summarise_log(tmp_path / name, "toy").first is None
    assert not (tmp_path / "missing.db").exists()


def test_values_come_back_as_they_were_said(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.db")
    text = "Zürich 'q' \u2028"
    log.append([make_prediction("p1", a=0.1 + 0.2, b=text, c=True, d=None, e=2**60)])
    row = read_predictions(tmp_path / "log.db", "toy").iloc[0]
    assert (row["a"], row["b"], bool(row["c"]), row["d"], row["e"]) == (0.1 + 0.2, text, True, None, 2**60)
    assert row["at"] == AT
    assert row["prediction"] == 1.5


def test_the_window_is_half_open_and_rows_of_a_request_keep_their_order(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.db")
    hour = dt.timedelta(hours=1)
    log.append([make_prediction(name, AT + i * hour) for i, name in enumerate("zyx")])
    log.append([make_prediction("a", AT + hour)])
    found = read_predictions(tmp_path / "log.db", "toy", AT + hour, AT + 2 * hour)
    assert list(found["prediction_id"]) == ["y", "a"]


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [make_id(AT + dt.timedelta(milliseconds=i)) for i in range(1000)]
    assert ids == sorted(ids)
    assert len({make_id(AT) for _ in range(1000)}) == 1000


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.db")
    with pytest.raises(ValueError):
        log.append([make_prediction("p1"), make_prediction("p2", a=float("nan"))])
    assert summarise_log(tmp_path / "log.db", "toy").count == 0
