import itertools
import os
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cd4ml.base.errors import DataError, StoreError
from cd4ml.production.tables import cut_evenly, join_parts, map_ahead, open_table, read_ahead, read_chunks, write_part


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("skip", [0, 1, 5, 11])
def test_rows_are_cut_evenly_whatever_they_come_in(size: int, skip: int) -> None:
    blocks = [pa.record_batch({"n": list(range(start, end))}) for start, end in ((0, 3), (3, 3), (3, 10), (10, 11))]
    parts = [part["n"].to_pylist() for part in cut_evenly(blocks, size, skip)]
    assert [n for part in parts for n in part] == list(range(skip, 11))
    assert {len(part) for part in parts[:-1]} <= {size}


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_reading_goes_on_at_any_chunk_of_parquet(tmp_path: Path, group: int) -> None:
    path = tmp_path / "in.parquet"
    pd.DataFrame({"n": range(100)}).to_parquet(path, row_group_size=group)
    for first in (0, 1, 6, 10):
        chunks = list(read_chunks(open_table(path), ["n"], 10, first))
        assert [n for chunk in chunks for n in chunk.numbers.tolist()] == list(range(first * 10, 100))
        assert all(chunk.rows["n"].to_pylist() == chunk.numbers.tolist() for chunk in chunks)


def test_an_empty_table_has_no_chunks(tmp_path: Path) -> None:
    df = pd.DataFrame({"n": pd.Series([], dtype=float)})
    df.to_parquet(tmp_path / "in.parquet")
    df.to_csv(tmp_path / "in.csv", index=False)
    for name in ("in.parquet", "in.csv"):
        assert not list(read_chunks(open_table(tmp_path / name), ["n"], 10))


def test_every_line_of_a_csv_has_its_number_and_misfits_are_told_once(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    lines = [f"{i},x" if i % 7 else f"{i}" for i in range(1000)]
    path.write_text("n,m\n" + "\n".join(lines) + "\n")
    chunks = list(read_chunks(open_table(path), ["n"], 50))
    assert [n for chunk in chunks for n in chunk.numbers.tolist()] == [i for i in range(1000) if i % 7]
    assert all([int(n) for n in chunk.rows["n"].to_pylist()] == chunk.numbers.tolist() for chunk in chunks)
    misfits = [one for chunk in chunks for one in chunk.misfits]
    assert [(one.number, one.line) for one in misfits] == [(i, f"{i}") for i in range(1000) if i % 7 == 0]
    assert next(read_chunks(open_table(path), ["n"], 50, 3)).misfits == chunks[3].misfits


@pytest.mark.parametrize("text", ["", "\n1,2\n", "a,a\n1,2\n"])
def test_a_csv_without_a_usable_header_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        open_table(tmp_path / "in.csv")


def test_a_csv_of_latin_letters_is_refused_rather_than_misread(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("n\nZürich\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_chunks(open_table(tmp_path / "in.csv"), ["n"], 10))


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"n": range(1000)}).to_parquet(tmp_path / "in.parquet")
    data = (tmp_path / "in.parquet").read_bytes()
    (tmp_path / "in.parquet").write_bytes(data[:len(data) // 2])
    with pytest.raises(DataError, match="whole parquet file"):
        open_table(tmp_path / "in.parquet")


def test_what_a_reading_thread_raises_is_raised_where_it_is_read(tmp_path: Path) -> None:
    def fail():
        yield 1
        raise DataError("broken")

    before = threading.active_count()
    with read_ahead(fail()) as items:
        assert next(items) == 1
        with pytest.raises(DataError, match="broken"):
            next(items)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_what_threads_work_on_comes_in_order_and_no_more_of_it_than_is_asked_for(threads: int) -> None:
    begun, gate = list[int](), threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            assert threads == 1 or gate.wait(30)  # the first one takes longest
        gate.set()
        return 10 * item

    assert list(map_ahead(work, range(20), threads)) == list(range(0, 200, 10))
    before = threading.active_count()
    begun.clear()
    results = map_ahead(work, itertools.count(), threads)
    assert [next(results) for _ in range(3)] == [0, 10, 20]
    results.close()
    assert len(begun) <= 3 + threads + 1
    assert threading.active_count() == before


def test_a_fault_in_a_thread_is_raised_in_its_turn() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise DataError("broken")
        return item

    results = map_ahead(work, range(9), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="broken"):
        next(results)


def test_parts_are_joined_in_their_order_and_keep_their_types(tmp_path: Path) -> None:
    rows = pa.table({"n": pa.array([1, 2, None], pa.int16()), "c": pa.array(["a", None, "b"]).dictionary_encode()})
    for name in ("0.parquet", "1.parquet"):
        write_part(rows, tmp_path / name)
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    join_parts(parts, rows.schema, tmp_path / "out.parquet", tmp_path / "draft")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.equals(rows.schema)
    assert found.to_pylist() == rows.to_pylist() * 2


def test_nothing_appears_when_joining_fails(tmp_path: Path) -> None:
    rows = pa.table({"n": [1]})
    write_part(rows, tmp_path / "0.parquet")
    os.mkdir(tmp_path / "out.parquet")
    with pytest.raises(StoreError, match="cannot be written"):
        join_parts([tmp_path / "0.parquet"], rows.schema, tmp_path / "out.parquet", tmp_path / "draft")
