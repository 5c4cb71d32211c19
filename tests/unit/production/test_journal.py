"""The journal when the file refuses rows, the disk is full, loops come and go, and very many ask at once."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.production.journal import MOST_ENTRIES, Journal
from cd4ml.production.lines import Line, make_line
from cd4ml.production.parts import DuplicateError
from cd4ml.production.predictions import Prediction, PredictionLog, make_row, read_predictions

AT = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)


def make_lines(name: str, count: int = 1, text: str = "") -> list[Line]:
    asked = (Prediction(f"{name}-{i}", name, AT, "toy", 1, {"text": text}, {"prediction": i}, 0.01)
             for i in range(count))
    return [make_line(make_row(one)) for one in asked]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(PredictionLog(tmp_path / "log"))


def read_ids(journal: Journal) -> list[str]:
    return list(read_predictions(journal.log.path, "toy")["prediction_id"])


async def append_all(journal: Journal, *requests: list[Line]) -> list[BaseException | None]:
    return await asyncio.gather(*(journal.append(lines) for lines in requests), return_exceptions=True)


def test_more_requests_than_a_commit_takes_and_large_ones(journal: Journal) -> None:
    count = MOST_ENTRIES + 500
    requests = [make_lines(f"r{i}", 1 + 400 * (i % 500 == 0)) for i in range(count)]
    assert asyncio.run(append_all(journal, *requests)) == [None] * count
    assert len(set(read_ids(journal))) == len(read_ids(journal)) == sum(map(len, requests))


def test_a_request_that_is_refused_is_refused_whole_and_alone(journal: Journal) -> None:
    asyncio.run(append_all(journal, make_lines("old")))
    told = asyncio.run(append_all(journal, make_lines("a"), make_lines("new", 3) + make_lines("old"), make_lines("b")))
    assert [type(one) for one in told] == [type(None), DuplicateError, type(None)]
    assert set(read_ids(journal)) == {"old-0", "a-0", "b-0"}


def test_a_full_disk_is_told_to_all_who_wait_and_later_requests_are_written(journal: Journal) -> None:
    asyncio.run(append_all(journal, make_lines("first")))
    connection = journal.log.store.files.find("2013-07-01")
    connection.execute(f"pragma max_page_count = {connection.execute('pragma page_count').fetchone()[0]}")
    told = asyncio.run(append_all(journal, *(make_lines(f"r{i}", 5, "x" * 4000) for i in range(20))))
    assert all(isinstance(one, StoreError) and "full" in str(one) for one in told)
    connection.execute("pragma max_page_count = 100000")
    assert asyncio.run(append_all(journal, make_lines("later"))) == [None]
    assert read_ids(journal) == ["first-0", "later-0"]


def test_a_request_that_was_given_up_is_logged_nevertheless(journal: Journal) -> None:
    async def give_up() -> None:
        journal.append(make_lines("gone")).cancel()
        await journal.append(make_lines("here"))

    asyncio.run(give_up())
    assert read_ids(journal) == ["gone-0", "here-0"]


def test_a_fault_of_the_thread_reaches_the_request_and_the_thread_goes_on(journal: Journal) -> None:
    bad = asyncio.run(append_all(journal, [("too", "few")]))  # type: ignore[list-item]
    assert isinstance(bad[0], StoreError)
    assert asyncio.run(append_all(journal, make_lines("later"))) == [None]


def test_a_loop_that_is_closed_meanwhile_stops_nobody(journal: Journal) -> None:
    loop = asyncio.new_event_loop()

    async def leave() -> None:
        journal.append(make_lines("left"))

    loop.run_until_complete(leave())
    loop.close()
    assert asyncio.run(append_all(journal, make_lines("later"))) == [None]
    journal.close()
    assert read_ids(journal) == ["left-0", "later-0"]


def test_that_it_can_be_written_again_is_said_once(journal: Journal, caplog: pytest.LogCaptureFixture,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("INFO", "cd4ml")
    assert asyncio.run(append_all(journal, make_lines("a"))) == [None]
    with monkeypatch.context() as full:
        full.setattr(journal.log, "write_lines", lambda lines: 1 / 0)
        for name in ("b", "c"):
            assert isinstance(asyncio.run(append_all(journal, make_lines(name)))[0], StoreError)
    assert not caplog.records
    for name in ("d", "e"):
        assert asyncio.run(append_all(journal, make_lines(name))) == [None]
    assert [one.getMessage() for one in caplog.records] == ["The prediction log can be written again"]
