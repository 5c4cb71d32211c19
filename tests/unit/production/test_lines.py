"""A line of several rows is read as so many lines, whoever asks; a file that was begun before goes on as it was."""

import contextlib
import datetime as dt
import itertools
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cd4ml.production.events import Cursor, count_events, read_events
from cd4ml.production.lines import COLUMNS, DAY, LINE_ROWS, STEM, Line, Row, make_line, name_rows
from cd4ml.production.outcomes import OutcomeLog, Told, read_outcomes, summarise_outcomes
from cd4ml.production.parts import Part
from cd4ml.production.places import list_parts
from cd4ml.production.predictions import (
    PredictionLog,
    find_unlogged,
    make_id,
    name_request,
    read_after,
    read_predictions,
    recall_predictions,
    summarise_log,
)
from cd4ml.production.queries import LogQuery, count_predictions, find_predictions, read_condition
from cd4ml.production.retention import prune_log, write_cursor

AT = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)
NOON = int(AT.timestamp() * 1000)
ODD = ({"a": 0.1 + 0.2, "b": "Zürich \"q\" },{ \u2028 [1]", "c": True, "d": None, "e": 2**60, "f": 1e-300},
       {"a": 1.0, "b": "", "c": False, "d": [1, {"x": "},{"}], "e": -1, "f": 5e300})
SIZES = (1, 3, LINE_ROWS, 2, 2 * LINE_ROWS + 1, 1, 40)


def list_ids(at: dt.datetime, count: int) -> list[str]:
    """Return the ids of a request of `count` rows."""
    return [one for start in range(0, count, LINE_ROWS)
            for one in name_rows(make_id(at)[:STEM], min(LINE_ROWS, count - start))]


def make_requests() -> list[list[Row]]:
    """Return requests of several sizes, releases, roles, problems and moments, their rows as the log knows them."""
    found = []
    for turn, size in enumerate(SIZES):
        at = AT + dt.timedelta(hours=5 * turn, milliseconds=turn)
        ids = list_ids(at, size)
        problem, moment = ("toy", "toy", "other")[turn % 3], int(at.timestamp() * 1000)
        found.append([(one, name_request(ids[0]), moment, problem, 1 + turn % 2,
                       json.dumps(ODD[number % 2] | {"row": number}, ensure_ascii=False),
                       json.dumps({"prediction": number % 3 == 0, "note": "},{", "probability": number / 7}),
                       "", "challenger" if turn == 3 else "champion", 0.25) for number, one in enumerate(ids)])
    return found


def join_rows(rows: list[Row]) -> list[Line]:
    """Return the lines that a server would log for the `rows` of a request."""
    parts = [rows[start : start + LINE_ROWS] for start in range(0, len(rows), LINE_ROWS)]
    return [make_line(part[0]) if len(part) == 1 else
            Line(part[0][0][:STEM], len(part), *part[0][1:5],
                 *(f"[{','.join(row[i] for row in part)}]" for i in (5, 6)), *part[0][7:]) for part in parts]


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """Return a log in which each row has a line, and one in which each request has."""
    requests = make_requests()
    apart, together = PredictionLog(tmp_path / "apart"), PredictionLog(tmp_path / "together")
    for rows in requests:
        apart.write(rows)
        together.write_lines(join_rows(rows))
    shadow = (f"{requests[2][7][0]}~4", *requests[2][7][1:8], "shadow", 0.5)
    keyed = [(f"k{number}", *requests[1][0][1:7], f"key-{number}", *requests[1][0][8:]) for number in range(3)]
    for log in (apart, together):
        log.write([shadow, *keyed])
        told = [Told(row[0], "", NOON, "true") for row in requests[4][::3]] + [Told("", "key-1", NOON, "false")]
        OutcomeLog(log.path).append("toy", told)
        log.close()
    return tmp_path / "apart", tmp_path / "together"


def list_events(address: Path, limit: int) -> list[Any]:
    cursor, found = Cursor(), []
    while True:
        events, after = read_events(str(address), "toy", cursor, limit)
        found += [one.to_dict() for one in events if one.kind == "prediction"]
        if after == cursor:
            return found
        assert count_events(str(address), "toy", after) <= count_events(str(address), "toy", cursor)
        cursor = after


IDS = [row[0] for rows in make_requests() for row in rows]
LATER = AT + dt.timedelta(hours=16)
ASKED: dict[str, Callable[[Path], Any]] = {
    "rows": lambda log: read_predictions(log, "toy").to_dict("records"),
    "a window": lambda log: read_predictions(log, "toy", AT + dt.timedelta(hours=6), LATER).to_dict("records"),
    "a summary": lambda log: [summarise_log(log, name) for name in ("toy", "other", "none")],
    "outcomes": lambda log: (sorted(read_outcomes(log).items()), summarise_outcomes(log, "toy")),
    "the newest": lambda log: find_predictions(log, LogQuery("toy"), 60),
    "of a release": lambda log: find_predictions(log, LogQuery("other", release=1), 20),
    "of a role": lambda log: find_predictions(log, LogQuery("toy", role="challenger")),
    "by key": lambda log: find_predictions(log, LogQuery("toy", key="key-1")),
    "by a condition": lambda log: find_predictions(log, LogQuery("toy", where=(read_condition("row>120", AT),))),
    "counts by day": lambda log: count_predictions(log, LogQuery("toy"), "day"),
    "counts of some hours": lambda log: count_predictions(log, LogQuery("toy", since=AT, until=LATER), "release")}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_whoever_asks_sees_rows(logs: tuple[Path, Path], asked: Callable[[Path], Any]) -> None:
    apart, together = (asked(log) for log in logs)
    assert json.dumps(together, default=str) == json.dumps(apart, default=str)
    assert together


def test_each_row_is_found_by_its_id_with_the_shadows_of_its_answer(logs: tuple[Path, Path]) -> None:
    rows = {row[0]: row for rows in make_requests() for row in rows}
    written = {row[0]: row for row in read_after(logs[1], {}, 1000)[0]}
    assert len(written) == len(rows) + 4
    for one, row in written.items():
        (*found,) = find_predictions(logs[1], LogQuery(row[3], prediction_id=one))
        assert [found[-1][name] for name in ("prediction_id", "features", "answer")] == [
            one, json.loads(row[5]), json.loads(row[6])]
        assert len(found) == 1 + (f"{one}~4" in written)
    stems = {one[:STEM] for one in written if len(one) == 28}
    strange = [f"{stem}{end}" for stem in stems for end in ("", "ff", "7", "zz", "000")]
    known = [one for one in written if written[one][3] == "toy"]
    assert find_unlogged(logs[1], "toy", [*written, *strange]) == [
        one for one in [*written, *strange] if one not in known]
    assert recall_predictions(logs[1], known) == {
        one: (written[one][4], json.loads(written[one][6])) for one in known}


@pytest.mark.parametrize("limit", [1, 7, LINE_ROWS, 1000])
def test_who_follows_stops_and_goes_on_within_a_line(logs: tuple[Path, Path], limit: int) -> None:
    apart, together = (list_events(log, limit) for log in logs)
    assert together == apart
    rows, cursor = read_after(logs[1], {}, limit)
    while rows:
        assert len(rows) <= limit
        assert {len(row) for row in rows} == {10}
        rows, cursor = read_after(logs[1], cursor, limit)


def test_a_day_goes_when_its_last_row_was_seen_and_comes_again_behind_it(logs: tuple[Path, Path]) -> None:
    log, now = logs[1], AT + dt.timedelta(days=9)
    all_rows, after = read_after(log, {}, 1000)
    first = list_parts(log)[0].name
    count = sum(row[2] // DAY == NOON // DAY for row in all_rows)
    write_cursor(log, "slow", read_after(log, {}, count - 1)[1])
    assert first in prune_log(log, 1, now).kept
    write_cursor(log, "slow", after)
    assert first in prune_log(log, 1, now).removed
    writer = PredictionLog(log)
    ids = list_ids(AT, 3)
    writer.write_lines(join_rows([(one, "r", NOON, "toy", 1, "{}", '{"prediction": 1}', "", "champion", 0.1)
                                  for one in ids]))
    assert [row[0] for row in read_after(log, after, 1000)[0]] == ids, "numbers go on after those that were seen"


THIRD = """create table predictions (number integer primary key, prediction_id text not null unique,
    request_id text not null, at integer not null, problem text not null, release integer not null,
    features text not null, answer text not null, key text not null, role text not null, seconds real not null);
create index predictions_by_time on predictions (problem, at, release);
create index predictions_by_key on predictions (problem, key, at) where key <> '';
create table counted (day integer, problem text, release integer, role text, count integer, first integer, last integer,
    upto integer not null);
create view totals as select day, problem, release, role, count, first, last from counted union all
    select at / 86400000, problem, release, role, count(*), min(at), max(at) from predictions
    where number > (select coalesce(max(upto), 0) from counted) group by 1, 2, 3, 4;
pragma user_version = 3;"""


def test_a_day_that_an_older_version_began_goes_on_for_both(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    path, requests = tmp_path / "log/2013-07-01.db", make_requests()
    marks = ", ".join("?" * 10)
    insert = f"insert into predictions ({COLUMNS}) values ({marks})"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript("pragma journal_mode = wal;" + THIRD)
        old.executemany(insert, requests[0])
        log, seen = PredictionLog(tmp_path / "log"), read_after(tmp_path / "log", {}, 9)[1]
        for rows in requests[1:]:
            log.write_lines(join_rows(rows))
        late = (make_id(AT), *requests[0][0][1:])
        old.execute(insert, late)  # a server that was not renewed yet
        assert old.execute("select count(*) from totals").fetchone()[0] >= 2
    assert [part.name for part in list_parts(tmp_path / "log")] == ["2013-07-01", "2013-07-02"]
    rows = [*itertools.chain(*requests[1:]), late]
    found = {row[0]: row for row in read_after(tmp_path / "log", seen, 1000)[0]}
    assert {one: (row[1:5], json.loads(row[5]), json.loads(row[6])) for one, row in found.items()} == {
        row[0]: (row[1:5], json.loads(row[5]), json.loads(row[6])) for row in rows}
    assert summarise_log(tmp_path / "log", "toy").count == sum(row[3] == "toy" for row in rows) + 1
    assert find_unlogged(tmp_path / "log", "toy", [late[0], requests[1][2][0], "x"]) == ["x"]
    for day in (requests[0], requests[1], requests[5]):
        one = day[-1][0]
        (told,) = find_predictions(tmp_path / "log", LogQuery(day[0][3], prediction_id=one))
        assert told["features"] == json.loads(day[-1][5])


@pytest.mark.parametrize("texts", [
    ['{"prediction":"a"}', '{"prediction":"b"}'], ['{"prediction":"},{"}', '{"prediction":"b"}'],
    ['{"prediction":"a"}'], ['{"prediction":[{"x":1},{"x":2}]}', '{"prediction":"[{"}', '{"prediction":"}]"}']])
def test_answers_get_their_ids_whatever_they_say(texts: list[str]) -> None:
    text = texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
    line = Line("s" * STEM, len(texts), "r", 0, "toy", 1, text, text, "", "champion", 0.1)
    told = json.loads(f"[{line.write_answers()}]")
    assert [one.pop("prediction_id") for one in told] == line.list_ids()
    assert told == [*map(json.loads, texts)]
    assert [row[6] for row in line.list_rows()] == texts


READS: dict[str, Callable[[Path], Any]] = {
    "a follower": lambda log: read_after(log, {"2013-07-01": 300}, 5),
    "how many wait": lambda log: count_events(str(log), "toy", Cursor({"2013-07-01": 300})),
    "the newest": lambda log: find_predictions(log, LogQuery("toy"), 3),
    "an id": lambda log: find_predictions(log, LogQuery("toy", prediction_id=IDS[1])),
    "ids": lambda log: find_unlogged(log, "toy", IDS),
    "a key": lambda log: find_predictions(log, LogQuery("toy", key="key-1"))}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_no_question_looks_at_a_whole_day(
        logs: tuple[Path, Path], read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str, Any]] = []
    scan = Part.scan

    def note(part: Part, query: str, values: Any = (), beside: Path | None = None) -> Any:
        asked.append((part.path, query, values))
        return scan(part, query, values, beside)

    monkeypatch.setattr(Part, "scan", note)
    read(logs[1])
    assert asked
    for path, query, values in asked:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            plan = [row[3] for row in connection.execute(f"explain query plan {query}", values)]
        if "from totals" not in query:  # which reads the few lines that are not counted
            assert not [step for step in plan if "SCAN lines" in step or step == "USE TEMP B-TREE FOR ORDER BY"], query
